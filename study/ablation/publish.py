"""What leaves the database: tables with verdicts, the report, and what a reviewer sees in the dashboard."""

import json
from pathlib import Path

from study.engine.preflight import check_storage, check_stored, check_writable, noted, output_folder
from study.results import StudyResults, collect
from study.store.database import Database
from whisq_core.errors import raise_all
from whisq_core.files import write_atomically
from whisq_core.spec import digest

_STAMP = ".published.json"  # what the files in a folder were made from
_VERSION = 2  # raise when the same results look different


def is_published(results: StudyResults, out: Path) -> bool:
    """Whether the files in `out` show just these results."""
    return _read_stamp(out) == _stamp(results)


def publish(results: StudyResults, database: Database, out: Path) -> None:
    """Write tables with verdicts into `out`, and the study's note and figures into the dashboard."""
    # plotly, scipy: seconds of import that an unchanged table saves
    from study.dashboard.server import annotate
    from study.report import figures
    from study.tables import judge_table, write_tables

    judgement = judge_table(results)
    write_tables(results, judgement, out)
    note = (out / "table.md").read_text(encoding="utf-8")
    annotate(database, results.file.name, note, figures(results, judgement))
    write_atomically(out / _STAMP, [json.dumps(_stamp(results)).encode()])


def report(file_path: Path, storage: str, out: Path | None) -> str:
    """`whisq-study report`: tables, figures and the page from what is stored; returns what to open."""
    from study.config.reader import read_ablation_file
    from study.report import write_report
    from study.search.importance import importance_figure, importances
    from study.search.study import largest_search
    from study.tables import judge_table, warning_of, write_tables

    mistakes: list[str] = []
    with noted(mistakes):
        file = read_ablation_file(file_path)
    with noted(mistakes):
        check_writable(out or Path("results"), "--out")
    with noted(mistakes):
        check_stored(storage, f"whisq-study ablate {file_path} --data DIR")
        check_storage(storage)
    raise_all(mistakes)
    folder = output_folder(out, file)
    database = Database(storage)
    results = collect(file, database)
    judgement = judge_table(results)
    tables = write_tables(results, judgement, folder)
    search = largest_search(database, file)
    found = importances(search) if search else None
    extra = {"importance": importance_figure(found, warning_of(results))} if found else {}
    page = write_report(results, judgement, folder, extra)
    return "\n".join([f"report  {page}", *(f"table   {path}" for path in tables)])


def _stamp(results: StudyResults) -> str:
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
