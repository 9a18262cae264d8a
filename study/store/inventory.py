"""What a storage holds as a whole: tables with their conditions, lists of runs, and the removal of both."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from study.store.database import Database
from study.store.lines import chunks
from study.store.records import Conditions, RunLine
from study.store.schema import cells, metrics, predictions, runs
from study.store.schema import conditions as conditions_table
from study.store.schema import tuned as tuned_rows


@dataclass(frozen=True)
class StoredTable:
    """A table or search by name: how many cells it has, how many runs were made for it, and when the last was done."""

    name: str
    num_cells: int
    num_runs: int
    num_done: int
    finished_at: float


def conditions(database: Database) -> dict[str, Conditions]:
    """What the cells of each table share, by the table's name; tables of older versions are not among them."""
    lines = database.select(sa.select(conditions_table)) if database.is_current else []
    return {line.table_name: Conditions(**line.shared) for line in lines}


def save_conditions(database: Database, table_name: str, shared: Conditions) -> None:
    """Remember what the cells of a table share, in place of what was known before."""
    database.replace(conditions_table, [{"table_name": table_name, "shared": asdict(shared)}])


def stored_tables(database: Database) -> list[StoredTable]:
    """Every table and search that has a cell or a run, by name."""
    counted = sa.select(cells.c.table_name, sa.func.count().label("number")).group_by(cells.c.table_name)
    done = sa.func.sum(sa.case((runs.c.state == "done", 1), else_=0)).label("done")
    newest = sa.func.max(runs.c.finished_at).label("at")
    made = sa.select(runs.c.table_name, sa.func.count().label("number"), done, newest).group_by(runs.c.table_name)
    of_cells = {line.table_name: line.number for line in database.select(counted)}
    of_runs = {line.table_name: line for line in database.select(made)}
    found = []
    for name in sorted({*of_cells, *of_runs}):
        line = of_runs.get(name)
        numbers = (line.number, line.done, line.at) if line is not None else (0, 0, 0.0)
        found.append(StoredTable(name, of_cells.get(name, 0), *numbers))
    return found


def done_cells(database: Database, table_name: str) -> set[str]:
    """The runs that the cells of a table stand for and that are done."""
    current = sa.select(runs.c.run_id).join(cells, cells.c.run_id == runs.c.run_id)
    lines = database.select(current.where(cells.c.table_name == table_name, runs.c.state == "done"))
    return {line.run_id for line in lines}


def list_runs(
    database: Database, metric: str, table: str | None = None, row: str | None = None, seed: int | None = None,
    state: str | None = None, run_id: str | None = None,
) -> list[RunLine]:  # fmt: skip
    """The runs that fit, oldest first. A table's are those of its cells, whatever table they were made for, and those
    that were made for it; `run_id` may be the beginning of one."""
    columns = [runs.c[name] for name in RunLine.__dataclass_fields__ if name != "value"]
    value = sa.select(sa.func.min(metrics.c.value)).where(metrics.c.run_id == runs.c.run_id, metrics.c.name == metric)
    query = sa.select(*columns, value.scalar_subquery().label("value")).order_by(runs.c.finished_at, runs.c.run_id)
    if table is not None:
        of_table = sa.select(cells.c.run_id).where(cells.c.table_name == table, cells.c.run_id.is_not(None))
        query = query.where(sa.or_(runs.c.table_name == table, runs.c.run_id.in_(of_table)))
    for column, wanted in ((runs.c.row, row), (runs.c.seed, seed), (runs.c.state, state)):
        query = query if wanted is None else query.where(column == wanted)
    if run_id is not None:
        query = query.where(runs.c.run_id.startswith(run_id, autoescape=True))
    return [RunLine(**line._mapping) for line in database.select(query)]


def shared_runs(database: Database, run_ids: Iterable[str], tables: Sequence[str]) -> set[str]:
    """Of some runs those that a cell of a table other than `tables` stands for: they must stay."""
    lines = database.select(sa.select(cells.c.run_id).where(cells.c.table_name.not_in(tables)))
    return {line.run_id for line in lines} & set(run_ids)


def remove(database: Database, table_name: str, row: str | None, run_ids: Sequence[str]) -> None:
    """Remove a table (or one row of it) and runs, in one transaction; its caller knows that nobody else needs them."""

    def of(table: sa.Table) -> Any:
        ours = table.c.table_name == table_name
        return ours if row is None else sa.and_(ours, table.c.row == row)

    def delete(connection: sa.Connection) -> None:
        for table in (cells, tuned_rows):
            connection.execute(table.delete().where(of(table)))
        if row is None:
            connection.execute(conditions_table.delete().where(conditions_table.c.table_name == table_name))
        for some in chunks(run_ids):
            for table in (metrics, predictions, runs):
                connection.execute(table.delete().where(table.c.run_id.in_(some)))

    database.write(delete)
