"""What leaves the database: tables with verdicts, the report, and what a reviewer sees in the dashboard."""

import json
from pathlib import Path

from study.config import AblationFile
from study.results import TableResults, collect
from study.store import Database
from whisq_core.files import write_atomically
from whisq_core.spec import digest

_STAMP = ".published.json"  # what the files in a folder were made from
_VERSION = 3  # raise when the same results look different


def is_published(results: TableResults, out: Path) -> bool:
    """Whether the files in `out` show just these results."""
    return _read_stamp(out) == _stamp(results)


def write_results(results: TableResults, out: Path) -> None:
    """Write the tables as they stand, without verdicts: these take seconds, and cells are still to come."""
    from study.tables import write_tables

    write_tables(results, None, out)


def publish(results: TableResults, database: Database, out: Path) -> None:
    """Write tables with verdicts into `out`, and the study's trials, note and figures into the dashboard."""
    from study.dashboard import annotate, show_table  # Optuna, plotly: seconds that an unchanged table saves
    from study.report import figures
    from study.tables import judge_table, write_tables

    judgement = judge_table(results)
    write_tables(results, judgement, out)
    show_table(database, results.file)
    note = (out / "table.md").read_text(encoding="utf-8")
    annotate(database, results.file.name, note, figures(results, judgement))
    write_atomically(out / _STAMP, [json.dumps(_stamp(results)).encode()])


def write_report_files(file: AblationFile, database: Database, out: Path) -> str:
    """Tables, figures and the page from what is stored; returns what to open."""
    from study.report import write_report
    from study.search import importance_figure, importances, largest_search
    from study.tables import judge_table, warning_of, write_tables

    results = collect(file, database)
    judgement = judge_table(results)
    tables = write_tables(results, judgement, out)
    search = largest_search(database, file)
    found = importances(search) if search else None
    extra = {"importance": importance_figure(found, warning_of(results))} if found else {}
    page = write_report(results, judgement, out, extra)
    return "\n".join([f"report  {page}", *(f"table   {path}" for path in tables)])


def _stamp(results: TableResults) -> str:
    """The file, the cells and the sizes of the rows' own searches that a table was made from."""
    cells = results.cells[["row", "seed", "state", "reason", "run_id"]].fillna("").values.tolist()
    text = results.file.path.read_text(encoding="utf-8")
    return digest([_VERSION, text, results.corpus.digest, results.split, cells, results.trials])


def _read_stamp(out: Path) -> str | None:
    try:
        stamp = json.loads((out / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    tables = ("table.md", "table.csv", "table_long.csv", "table.tex", "table.html")
    return stamp if all((out / name).exists() for name in tables) else None
