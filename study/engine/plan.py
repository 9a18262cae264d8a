"""Pure planning: the cells of a table against the runs that are stored -> new, stale or done, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.config import Row
from study.engine.runs import Identity
from study.store.records import RunHeader
from whisq_core.spec import RunSpec, differences


@dataclass(frozen=True)
class Cell:
    """One run of a table: a row at one of its seeds, with every `auto` resolved."""

    row: Row
    seed: int
    position: int
    spec: RunSpec
    identity: Identity | None
    problem: str | None = None  # why the cell cannot get an identity: its encoder is missing


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its state: "new", "stale", "done" or "blocked", and the reason in words."""

    cell: Cell
    state: str
    reason: str

    @property
    def to_run(self) -> bool:
        """Whether this cell lacks a result that can be computed now."""
        return self.state in ("new", "stale")


def plan(cells: Iterable[Cell], headers: Sequence[RunHeader], table_name: str) -> list[PlannedCell]:
    """State and reason of each cell of a table, in the order given.

    done: a run of this identity is stored, for this or another table. stale: the newest stored run of the same row and
    seed has another identity; the reason names the settings that differ. new: there is none, or it failed.
    """
    by_id = {header.run_id: header for header in headers}
    newest: dict[tuple[str, int], RunHeader] = {}
    for header in sorted(headers, key=lambda header: header.finished_at):
        if header.state == "done" and header.table_name == table_name:
            newest[(header.row, header.seed)] = header
    return [_planned(cell, by_id, newest) for cell in cells]


def _planned(cell: Cell, by_id: Mapping[str, RunHeader], newest: Mapping[tuple[str, int], RunHeader]) -> PlannedCell:
    if cell.identity is None:
        return PlannedCell(cell, "blocked", cell.problem or "")
    stored = by_id.get(cell.identity.run_id)
    if stored is not None and stored.state == "done":
        return PlannedCell(cell, "done", "")
    if stored is not None:
        return PlannedCell(cell, "new", f"failed before: {stored.reason}")
    older = newest.get((cell.row.id, cell.seed))
    if older is None:
        return PlannedCell(cell, "new", "no run yet")
    return PlannedCell(cell, "stale", "; ".join(differences(cell.identity.parts, older.identity)))
