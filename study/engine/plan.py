"""The cells of a table against the runs that are stored: new, stale, done or blocked, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.config import AblationFile, Row
from study.engine.pool import Pool
from study.engine.workspace import Identity, Workspace, identify
from study.store import Database, RunHeader
from whisq_core.errors import InputError, raise_all
from whisq_core.spec import RunSpec, differences

State = Literal["new", "stale", "done", "blocked"]


@dataclass(frozen=True)
class Cell:
    """One run of a table: a row at one of its seeds, every `auto` resolved, and whether it has to be computed.

    `run_id` is None where the cell is blocked: `reason` then says what it lacks, such as its encoder's weights.
    """

    row: str
    seed: int
    spec: RunSpec
    run_id: str | None
    state: State
    reason: str = ""

    @property
    def to_run(self) -> bool:
        """Whether this cell lacks a result that can be computed now."""
        return self.state in ("new", "stale")


def plan(
    file: AblationFile, rows: Sequence[Row], workspace: Workspace, pool: Pool, database: Database,
    seeds: Sequence[int] | None = None,
) -> tuple[Cell, ...]:  # fmt: skip
    """State and reason of each cell of `rows`, at all their seeds or at those of `seeds`, seed-major.

    done: a run of this identity is stored, for this or another table. stale: the newest stored run of the same row and
    seed has another identity; the reason names the settings that differ. new: there is none, or it failed.

    Raises
    ------
    InputError
        When a device is not there, or no cell at all can run.
    """
    specs = _resolved(file, rows, pool)
    known: dict[tuple[str, int], Identity | str] = {}
    for row, seed in file.cells(seeds):
        if row.id not in specs:
            continue
        try:
            known[row.id, seed] = identify(specs[row.id].model_copy(update={"seed": seed}), workspace)
        except InputError as error:  # this row's weights are missing; the others can still run
            known[row.id, seed] = " ".join(error.mistakes)
    identities = [found for found in known.values() if isinstance(found, Identity)]
    if not identities:
        raise_all(list(dict.fromkeys(found for found in known.values() if isinstance(found, str))))
    headers = database.headers(file.name, [identity.run_id for identity in identities])
    by_id = {header.run_id: header for header in headers}
    newest: dict[tuple[str, int], RunHeader] = {}
    for header in sorted(headers, key=lambda header: header.finished_at):
        if header.state == "done" and header.table_name == file.name:
            newest[header.row, header.seed] = header
    cells = []
    for (row_id, seed), found in known.items():
        spec = specs[row_id].model_copy(update={"seed": seed})
        state, reason = _state(found, by_id, newest.get((row_id, seed)))
        cells.append(Cell(row_id, seed, spec, found.run_id if isinstance(found, Identity) else None, state, reason))
    return tuple(cells)


def _resolved(file: AblationFile, rows: Sequence[Row], pool: Pool) -> dict[str, RunSpec]:
    specs: dict[str, RunSpec] = {}
    mistakes: list[str] = []
    for row in rows:
        try:
            specs[row.id] = pool.resolved(row.spec)
        except InputError as error:
            mistakes += [f"{file.path}:{row.line}, row '{row.id}': {mistake}" for mistake in error.mistakes]
    raise_all(mistakes)
    return specs


def _state(found: Identity | str, by_id: Mapping[str, RunHeader], older: RunHeader | None) -> tuple[State, str]:
    if isinstance(found, str):
        return "blocked", found
    stored = by_id.get(found.run_id)
    if stored is not None and stored.state == "done":
        return "done", ""
    if stored is not None:
        return "new", f"failed before: {stored.reason}"
    if older is None:
        return "new", "no run yet"
    return "stale", "; ".join(differences(found.parts, older.identity))
