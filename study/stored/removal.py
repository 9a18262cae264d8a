"""`whisq-study rm`: a table, one row of it, or a search, with its runs, its study in the dashboard and its files."""

from dataclasses import dataclass
from pathlib import Path

from study.ablation import report
from study.dashboard import remove_study
from study.engine import Sources
from study.store import Database, conditions, list_runs, remove, shared_runs, stored_tables
from study.stored.browse import known, open_stored
from whisq_core.errors import InputError, did_you_mean

_HELD_OUT = "-held-out"  # what a search's runs on held-out seeds are stored under


@dataclass(frozen=True)
class Removal:
    """What would go: a table or search, or one row of a table, its runs, and those that others need and that stay."""

    table: str
    row: str | None
    run_ids: tuple[str, ...]
    num_kept: int

    def text(self) -> str:
        """What would be removed, in words."""
        what = f"row '{self.row}' of table '{self.table}'" if self.row else f"'{self.table}'"
        count = "1 run" if len(self.run_ids) == 1 else f"{len(self.run_ids)} runs"
        kept = f" ({self.num_kept} more stay, which other cells show)" if self.num_kept else ""
        return f"{what}: {count} with their predictions{kept}, and what the dashboard shows of them"


def plan_removal(database: Database, target: str) -> Removal:
    """What `TABLE` or `TABLE/ROW` stands for.

    Raises
    ------
    InputError
        When there is no such table, search or row.
    """
    table, slash, row = target.partition("/")
    names = [each.name for each in stored_tables(database)]
    if table not in names:
        raise InputError(f"rm {target}: no table or search '{table}' in {database.masked_url}. {known(table, names)}")
    found = [line for name in (table, f"{table}{_HELD_OUT}") for line in list_runs(database, "", table=name)]
    if slash:
        rows = {line.row for line in found} | {key[0] for key in database.cells(table)}
        if row not in rows:
            raise InputError(f"rm {target}: table '{table}' has no row '{row}'. {did_you_mean(row, rows)}")
        found = [line for line in found if line.row == row]
    run_ids = {line.run_id for line in found}
    elsewhere = shared_runs(database, run_ids, [table])
    if slash:
        elsewhere |= run_ids & {e.run_id for key, e in database.cells(table).items() if key[0] != row and e.run_id}
    return Removal(table, row or None, tuple(sorted(run_ids - elsewhere)), len(elsewhere))


def remove_stored(url: str, target: str, *, yes: bool, wait: bool = False) -> str:
    """Remove what `target` stands for, or say what would be removed; the words for the user.

    Raises
    ------
    InputError
        When there is no such thing, or another command is writing to the storage.
    """
    database = open_stored(url)
    if not yes:
        return f"would remove {plan_removal(database, target).text()}\nnothing was removed; give --yes to do it"
    with database.writing("whisq-study rm", wait):
        removal = plan_removal(database, target)
        remove(database, removal.table, removal.row, removal.run_ids)
        remove_study(database, removal.table, removal.row)
    after = _published_anew(database, removal) if removal.row else "its files in the results folder stay"
    return f"removed {removal.text()}\n{after}"


def _published_anew(database: Database, removal: Removal) -> str:
    """Bring table, page and dashboard up to date, where its file and folder can be found from here."""
    shared = conditions(database).get(removal.table)
    if shared is None or not Path(shared.out).is_dir():
        return "whisq-study report FILE brings its table and page up to date"
    try:
        return report(Sources(Path(shared.file), storage=database.url, out=Path(shared.out), name=removal.table))
    except InputError as error:
        return f"its table and page stay as they were: {error}"
