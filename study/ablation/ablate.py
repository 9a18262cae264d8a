"""`whisq-study ablate`: run what the plan lacks, rewrite the table as it grows."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.ablation.cost import CostModel
from study.ablation.plan_text import plan_text, settings_text
from study.ablation.publish import is_published, publish
from study.config.design import AblationFile, Row, SeededRow
from study.config.reader import read_ablation_file
from study.engine.encode import encode_backbones
from study.engine.plan import Cell, PlannedCell, plan
from study.engine.preflight import (
    check_kernels,
    check_splits,
    check_storage,
    check_writable,
    noted,
    output_folder,
    resolved,
)
from study.engine.runs import Workspace, identify
from study.results import StudyResults, collect, failures
from study.store.database import Database
from study.store.records import CellEntry, Tuned
from study.store.urls import check_worker_count
from whisq_core.errors import InputError, did_you_mean, raise_all
from whisq_core.files import sweep
from whisq_core.spec import BackboneSpec, RunSpec


@dataclass(frozen=True)
class AblateRequest:
    """What the command line of `ablate` says."""

    file: Path
    data: Path
    features: Path
    storage: str
    out: Path | None = None  # results/<name of the table>
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    base: Path | None = None
    workers: int = 1
    save_models: bool = False


@dataclass(frozen=True)
class Prepared:
    """A validated request: everything is read and checked, nothing has been started."""

    request: AblateRequest
    file: AblationFile
    rows: tuple[Row, ...]
    workspace: Workspace
    database: Database
    cells: tuple[PlannedCell, ...]

    @property
    def out(self) -> Path:
        """The folder of the tables."""
        return output_folder(self.request.out, self.file)

    @property
    def to_run(self) -> list[PlannedCell]:
        """The cells that lack a result."""
        return [planned for planned in self.cells if planned.to_run]


def prepare(request: AblateRequest) -> Prepared:
    """Read file, corpus and database, and plan.

    Raises:
        InputError: with every mistake; nothing has been started or written then.
    """
    mistakes: list[str] = []
    with noted(mistakes):
        file = read_ablation_file(request.file, request.base, request.seeds)
        with noted(mistakes):
            rows = chosen_rows(file, request.rows)
    with noted(mistakes):
        check_writable(request.out or Path("results"), "--out")
    with noted(mistakes):
        check_storage(request.storage)
        check_worker_count(request.storage, request.workers)
    with noted(mistakes):
        workspace = Workspace(request.data, request.features)
    with noted(mistakes):
        check_writable(request.features, "--features")
    with noted(mistakes):
        check_kernels()
    raise_all(mistakes)
    with noted(mistakes):
        check_splits(file, rows, workspace)
    with noted(mistakes):
        specs = _resolved(file, rows)
    with noted(mistakes):
        workspace.check_audio()
    raise_all(mistakes)
    cells = _cells(file, rows, specs, workspace)
    raise_all(_nothing_can_run(cells))
    database = Database(request.storage)
    prepared = Prepared(request, file, rows, workspace, database, tuple(_plan(cells, file, database)))
    return prepared if file.hyperparameters == "shared" else _over_rows(prepared, database.tuned(file.name))


def _plan(cells: Sequence[Cell], file: AblationFile, database: Database) -> list[PlannedCell]:
    run_ids = [cell.identity.run_id for cell in cells if cell.identity]
    return plan(cells, database.headers_for_plan(file.name, run_ids), file.name)


def _over_rows(prepared: Prepared, tuned: Mapping[str, Tuned]) -> Prepared:
    """The same request with what the rows' own searches chose, planned anew."""
    file = prepared.file.with_row_settings({row: choice.settings for row, choice in tuned.items()})
    rows = tuple(file.row(row.id) for row in prepared.rows)
    cells = _cells(file, rows, _resolved(file, rows), prepared.workspace)
    return replace(prepared, file=file, rows=rows, cells=tuple(_plan(cells, file, prepared.database)))


def _tune(prepared: Prepared) -> Prepared:
    """Give each row its search, all with the same budget and first guess, and plan with what they chose."""
    from study.search.optimize import OptimizeRequest
    from study.search.tune import tune_rows

    request = prepared.request
    asked = OptimizeRequest(
        file=request.file,
        data=request.data,
        features=request.features,
        storage=request.storage,
        out=prepared.out,
        base=request.base,
        workers=request.workers,
    )
    untuned = read_ablation_file(request.file, request.base, request.seeds)
    rows = [untuned.row(row.id) for row in prepared.rows]
    tuned = tune_rows(untuned, rows, prepared.workspace, prepared.database, asked)
    prepared.database.save_tuned(untuned.name, tuned)
    return _over_rows(replace(prepared, file=untuned), tuned)


def _resolved(file: AblationFile, rows: Sequence[Row]) -> dict[str, RunSpec]:
    """The run of each row with device and precision of this machine."""
    specs: dict[str, RunSpec] = {}
    mistakes: list[str] = []
    for row in rows:
        try:
            specs[row.id] = resolved(row.spec)
        except InputError as error:
            mistakes += [f"{file.path}:{row.line}, row '{row.id}': {mistake}" for mistake in error.mistakes]
    raise_all(mistakes)
    return specs


def chosen_rows(file: AblationFile, wanted: Sequence[str]) -> tuple[Row, ...]:
    """The rows named by `--rows`, or all."""
    known = {row.id: row for row in file.rows}
    raise_all([f"--rows: unknown row '{name}'. {did_you_mean(name, known)}" for name in wanted if name not in known])
    return tuple(known[name] for name in wanted) if wanted else tuple(file.rows)


def _cells(file: AblationFile, rows: Sequence[Row], specs: Mapping[str, RunSpec], workspace: Workspace) -> list[Cell]:
    """The cells of the chosen rows, seed-major: a whole table exists after the first seed."""
    chosen = {row.id for row in rows}
    return [_cell(cell, specs[cell.row.id], workspace) for cell in file.cells() if cell.row.id in chosen]


def _cell(seeded: SeededRow, row_spec: RunSpec, workspace: Workspace) -> Cell:
    spec = row_spec.model_copy(update={"seed": seeded.seed})
    try:
        identity, problem = identify(spec, workspace), None
    except InputError as error:  # this row's weights are missing; the others can still run
        identity, problem = None, " ".join(error.mistakes)
    return Cell(seeded.row, seeded.seed, seeded.position, spec, identity, problem)


def _nothing_can_run(cells: Sequence[Cell]) -> list[str]:
    """When no cell has an identity the input as a whole is wrong."""
    if any(cell.identity is not None for cell in cells):
        return []
    return list(dict.fromkeys(cell.problem or "" for cell in cells))


def run(prepared: Prepared) -> StudyResults:
    """Encode what is missing, run the cells that lack a result, and leave complete tables in the output folder."""
    if prepared.file.hyperparameters == "tuned":
        prepared = _tune(prepared)
    request, file, database = prepared.request, prepared.file, prepared.database
    workspace = prepared.workspace
    database.save_corpus(workspace.stored_corpus())
    database.save_cells(file.name, [_entry(planned.cell, workspace.digest) for planned in prepared.cells])
    sweep(prepared.out)
    todo = _encoded(workspace, database, file, prepared.to_run, request.workers)
    results = collect(file, database, workspace.digest)
    if todo or not is_published(results, prepared.out):
        _work(prepared, todo)
        results = collect(file, database, workspace.digest)
        publish(results, database, prepared.out)
    return results


def _encoded(
    workspace: Workspace, database: Database, file: AblationFile, todo: Sequence[PlannedCell], workers: int
) -> list[PlannedCell]:
    """Encode what the cells need; those whose encoder fails are recorded as failed and left out."""
    needed = [planned.cell.spec.backbone for planned in todo if planned.cell.spec.uses_features]
    problems = encode_backbones(workspace, needed, workers)
    lost = [planned.cell for planned in todo if _problem(planned.cell, problems)]
    database.save_cells(
        file.name,
        [CellEntry(cell.row.id, cell.seed, None, _problem(cell, problems), workspace.digest) for cell in lost],
    )
    return [planned for planned in todo if not _problem(planned.cell, problems)]


def _problem(cell: Cell, problems: dict[BackboneSpec, str]) -> str | None:
    return problems.get(cell.spec.backbone) if cell.spec.uses_features else None


def encode_rows(path: Path, data: Path, features: Path, wanted: Sequence[str], workers: int) -> int:
    """`whisq-study encode`: fill the feature store for the rows of a file; 1 when an encoder failed."""
    mistakes: list[str] = []
    with noted(mistakes):
        rows = chosen_rows(read_ablation_file(path), wanted)
    with noted(mistakes):
        workspace = Workspace(data, features)
    with noted(mistakes):
        check_writable(features, "--features")
    raise_all(mistakes)
    workspace.check_audio()
    problems = encode_backbones(workspace, [row.spec.backbone for row in rows if row.spec.uses_features], workers)
    return 1 if problems else 0


def _entry(cell: Cell, corpus_digest: str) -> CellEntry:
    run_id = cell.identity.run_id if cell.identity else None
    return CellEntry(cell.row.id, cell.seed, run_id, cell.problem, corpus_digest)


def _work(prepared: Prepared, todo: Sequence[PlannedCell]) -> None:
    """Queue the cells and work until they are done; the tables are rewritten after each.

    Tickets that a killed worker left open after it had stored their run are closed too.
    """
    from study.engine.tickets import AblationJob, create_study, enqueue, open_run_ids
    from study.engine.workers import Event, run_workers
    from study.tables import write_tables
    from study.terminal import ticket_progress  # Optuna and rich: not needed by a table that is complete

    request, file = prepared.request, prepared.file
    study = create_study(prepared.database, file.name, file.metric, "ablation")
    enqueue(study, prepared.database, todo)
    left_open = open_run_ids(study) & _run_ids(planned for planned in prepared.cells if planned.state == "done")
    run_ids = _run_ids(todo) | left_open
    if not run_ids:
        return
    job = AblationJob(
        study_name=file.name,
        table_name=file.name,
        data=request.data,
        features=request.features,
        metric=file.metric,
        split=file.base.data.score[0],
        run_ids=run_ids,
        models=prepared.out / "models" if request.save_models else None,
    )
    with ticket_progress(f"{file.name}: cells", len(run_ids)) as show:

        def emit(event: Event) -> None:
            show(event)
            if event.kind in ("done", "failed"):
                write_tables(collect(file, prepared.database, prepared.workspace.digest), None, prepared.out)

        run_workers(job, request.storage, min(request.workers, len(run_ids)), emit)


def _run_ids(cells: Iterable[PlannedCell]) -> frozenset[str]:
    return frozenset(planned.cell.identity.run_id for planned in cells if planned.cell.identity)


def exit_status(prepared: Prepared, results: StudyResults) -> int:
    """0 when every cell asked for is there, 1 when some failed; the failures are named on stderr."""
    rows = {planned.cell.row.id for planned in prepared.cells}
    failed = failures(results, sorted(rows))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def show_plan(prepared: Prepared) -> str:
    """The plan as text; rows asked for by name with their settings."""
    costs = CostModel.measured(prepared.database, prepared.workspace)
    text = plan_text(prepared.file, prepared.cells, costs, prepared.request.workers)
    return f"{text}\n{settings_text(prepared.file, prepared.cells)}" if prepared.request.rows else text
