"""What leaves the database: tables with verdicts, the page, and what a reviewer sees in the dashboard."""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

from study.results import TableResults
from study.store import Database
from study.terminal import log
from whisq_core.errors import InputError
from whisq_core.files import read_regular, sweep, write_atomically
from whisq_core.metrics import brought
from whisq_core.spec import digest

_STAMP = ".published.json"  # which table the files in a folder show, and what they were made from
_VERSION = 4  # raise when the same results look different
_ATTACHED = ("report.html", "table.csv", "table.tex")  # to the study in the dashboard
_FILES = ("table.md", "table.csv", "table_long.csv", "table.tex", "table.html", "report.html")


def is_published(results: TableResults, out: Path) -> bool:
    """Whether the files in `out` show just these results."""
    try:
        return _read_stamp(out) == _stamp(results) | _written(out)
    except OSError:  # such as a file that is not there
        return False


def _written(out: Path) -> dict[str, str]:
    """A digest of the files themselves: they may have been edited, or written by something else."""
    return {"files": hashlib.sha256(b"".join((out / name).read_bytes() for name in _FILES)).hexdigest()}


def owner_of(out: Path) -> str | None:
    """The table whose files lie in a folder; None where there is none, or one of an older version."""
    return _read_stamp(out).get("table")


def write_results(results: TableResults, out: Path) -> None:
    """Write a table that nobody has seen yet as it stands, without verdicts: these take seconds, and cells come.

    A table that was published stays as it is, and agrees with its page, until the next one is complete.
    """
    from study.tables import write_tables

    if owner_of(out) is None:
        write_tables(results, None, out)


def publish(results: TableResults, database: Database, out: Path, command: str = "whisq-study ablate") -> list[Path]:
    """Write tables with verdicts and the page into `out`, and the same into the dashboard; returns the files.

    Where the storage cannot be written, or another command writes to it, the dashboard stays as it is, and is told so.
    """
    from study.report import figures, write_report  # Optuna, plotly: seconds that an unchanged table saves
    from study.search import importance_figure, importances, largest_search
    from study.tables import judge_table, warning_of, write_tables

    sweep(out)
    judgement = judge_table(results)
    files = write_tables(results, judgement, out)
    search = largest_search(database, results.file)
    found = importances(search) if search else None
    drawn = figures(results, judgement)
    extra = {"importance": importance_figure(found, warning_of(results))} if found else {}
    files.insert(0, write_report(results, judgement, out, drawn | extra))
    with ExitStack() as lock:
        try:
            lock.enter_context(database.writing(command))
        except InputError as error:
            log(f"the dashboard stays as it is: {error}")
        else:
            from study.dashboard import annotate, attach_files, show_table

            show_table(database, results)
            note = (out / "table.md").read_text(encoding="utf-8")
            annotate(database, results.file.name, note, drawn)
            attach_files(database, results.file.name, [out / name for name in _ATTACHED])
    write_atomically(out / _STAMP, [json.dumps(_stamp(results) | _written(out)).encode()])
    return files


def _stamp(results: TableResults) -> dict[str, str]:
    """The table, and a digest of what it was made from: file, cells, ratings, sizes of the rows' own searches."""
    cells = results.cells[["row", "seed", "state", "reason", "run_id"]].fillna("").values.tolist()
    text = results.file.path.read_text(encoding="utf-8")
    ratings = [of_clip.tolist() for of_clip in results.ratings or ()]
    made_from = [_VERSION, text, results.corpus.digest, results.split, cells, results.trials, ratings]
    made_from += brought([results.file.metric]).values()
    return {"table": results.file.name, "made_from": digest(made_from)}


def _read_stamp(out: Path) -> dict[str, str]:
    try:
        stamp = json.loads(read_regular(out / _STAMP))
    except (OSError, ValueError, RecursionError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
