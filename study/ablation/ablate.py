"""`whisq-study ablate`: plan, compute what is missing, leave complete tables."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.ablation.cost import CostModel
from study.ablation.plan_text import plan_text, settings_text
from study.ablation.publish import is_published, publish, write_results
from study.ablation.which import choose_table, folder_of, stored_table, tell, tell_rows_gone
from study.config import AblationFile, Row
from study.engine import (
    Cell,
    Failure,
    Inputs,
    Jobs,
    Pool,
    Sources,
    Task,
    collect_errors,
    encode_backbones,
    identify,
    metrics_of,
    plan,
    preflight,
)
from study.models import finish_models, is_saved, model_folder, unsaved
from study.results import TableResults, collect, declared, failures
from study.store import CellEntry, Conditions, Database, Declaration, Run, save_conditions
from study.terminal import log
from whisq_core.corpus import splits
from whisq_core.device import resolve_device
from whisq_core.errors import InputError, raise_all
from whisq_core.files import sweep

_REWRITE_SECONDS = 5.0  # between two versions of the tables while cells finish


@dataclass(frozen=True)
class AblateRequest:
    """What the command line of `ablate` says."""

    sources: Sources
    save_models: bool = False
    wait: bool = False


@dataclass(frozen=True)
class Prepared:
    """A validated request: everything is read, checked and planned, nothing has been started."""

    request: AblateRequest
    inputs: Inputs
    shared: Conditions
    file: AblationFile
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]

    @property
    def database(self) -> Database:
        """Where runs are stored."""
        return self.inputs.database


def prepare(request: AblateRequest, pool: Pool) -> Prepared:
    """Read file, corpus and database, and plan.

    Raises
    ------
    InputError
        With every mistake; nothing has been started or written then.
    """
    inputs = preflight(request.sources)
    shared = choose_table(inputs, request.sources, pool)
    file = _with_tuned_settings(inputs.file, inputs.database)
    if request.save_models and file.base.data.folds is not None:
        raise InputError(
            f"--save-models: {file.path} has data.folds: {file.base.data.folds}, so that each run has as many models "
            "and none of them is the row's. Leave out one of both."
        )
    return _planned(request, inputs, shared, file, pool)


def _planned(request: AblateRequest, inputs: Inputs, shared: Conditions, file: AblationFile, pool: Pool) -> Prepared:
    rows = tuple(file.row(row.id) for row in inputs.rows)
    cells = plan(file, rows, inputs.workspace, pool, inputs.database, inputs.seeds)
    if request.save_models:
        cells = tuple(_to_be_saved(cell, inputs.out) for cell in cells)
    return Prepared(request, inputs, shared, file, rows, cells)


def _to_be_saved(cell: Cell, out: Path) -> Cell:
    """The cell, to be computed again where its run is stored without its model."""
    if cell.state != "done" or not cell.spec.uses_features or is_saved(out, cell.row, cell.seed, cell.run_id):
        return cell
    return replace(cell, state="stale", reason="its model is not saved: trained again, to predict what is stored")


def _with_tuned_settings(file: AblationFile, database: Database) -> AblationFile:
    """The file with what its rows' own searches chose, where it asks for tuned rows."""
    if file.hyperparameters == "shared":
        return file
    return file.with_row_settings({row: tuned.settings for row, tuned in database.tuned(file.name).items()})


def run(prepared: Prepared, pool: Pool) -> TableResults:
    """Encode what is missing, compute the cells that lack a result, and leave complete tables in the output folder.

    Raises
    ------
    InputError
        When another command is writing to the storage.
    """
    request, inputs, database = prepared.request, prepared.inputs, prepared.database
    tell(inputs, prepared.shared, starts=any(cell.to_run for cell in prepared.cells))
    if any(cell.to_run for cell in prepared.cells):
        pool.reach()
    with database.writing("whisq-study ablate", request.wait):
        _check_name(prepared, pool)
        prepared = _tuned(prepared, pool) if prepared.file.hyperparameters == "tuned" else prepared
        workspace, file = inputs.workspace, prepared.file
        database.save_corpus(workspace.stored_corpus())
        digest = workspace.digest
        save_conditions(database, file.name, prepared.shared)
        entries = [CellEntry(c.row, c.seed, c.run_id, None if c.run_id else c.reason, digest) for c in prepared.cells]
        database.save_cells(file.name, entries)
        declaration = Declaration(*file.declaration)
        database.declare([cell.run_id for cell in prepared.cells if cell.run_id and cell.to_run], declaration)
        sweep(inputs.out)
        todo = _encoded(prepared, pool)
        if todo:
            pool.run(_CellJobs(prepared, todo), workspace, database, f"{file.name}: cells", len(todo))
        database.save_cells(file.name, _stored_others(prepared, pool))
        results = collect(file, database, prepared.shared)
        if request.save_models:
            finish_models(results, inputs.out)
        if todo or not is_published(results, inputs.out):
            publish(results, database, inputs.out)
        return results


def _stored_others(prepared: Prepared, pool: Pool) -> list[CellEntry]:
    """The cells that were not asked for, and whose runs are stored all the same: the table shows them too."""
    file, inputs, asked = prepared.file, prepared.inputs, {(cell.row, cell.seed) for cell in prepared.cells}
    if len(asked) == sum(len(row.seeds) for row in file.rows):
        return []
    whole: tuple[Cell, ...] = ()
    with collect_errors([]):  # of rows that were not asked for
        whole = plan(file, file.rows, inputs.workspace, pool, inputs.database)
    others = [cell for cell in whole if cell.state == "done" and (cell.row, cell.seed) not in asked]
    return [CellEntry(cell.row, cell.seed, cell.run_id, None, inputs.workspace.digest) for cell in others]


def _check_name(prepared: Prepared, pool: Pool) -> None:
    """Another command may have begun a table of this name while this one waited for it."""
    sources, inputs, name = prepared.request.sources, prepared.inputs, prepared.file.name
    inputs.file = replace(inputs.file, name=prepared.shared.declared)
    choose_table(inputs, sources, pool)
    if inputs.file.name != name:
        raise InputError(
            f"table '{name}': another command has begun it under other conditions meanwhile. Run this one again."
        )


def _tuned(prepared: Prepared, pool: Pool) -> Prepared:
    """Give each row its search, all with the same budget and first guess, and plan with what they chose."""
    from study.search import tune_rows

    request, inputs = prepared.request, prepared.inputs
    file = inputs.file
    tuned = tune_rows(file, [file.row(row.id) for row in prepared.rows], inputs, pool)
    prepared.database.save_tuned(file.name, tuned)
    return _planned(request, inputs, prepared.shared, _with_tuned_settings(file, prepared.database), pool)


def _encoded(prepared: Prepared, pool: Pool) -> list[Cell]:
    """Encode what the cells need; those whose encoder fails are recorded as failed and left out."""
    todo = [cell for cell in prepared.cells if cell.to_run]
    with_features = [cell for cell in todo if cell.spec.uses_features]
    problems = encode_backbones(prepared.inputs.workspace, [cell.spec.backbone for cell in with_features], pool.workers)
    for spec, problem in problems.items():
        log(f"cannot encode with {spec.audio} + {spec.text}: {problem}")
    lost = {cell.run_id: problems[cell.spec.backbone] for cell in with_features if cell.spec.backbone in problems}
    digest = prepared.inputs.workspace.digest
    entries = [CellEntry(c.row, c.seed, None, lost[c.run_id], digest) for c in todo if c.run_id in lost]
    prepared.database.save_cells(prepared.file.name, entries)
    return [cell for cell in todo if cell.run_id not in lost]


class _CellJobs(Jobs):
    """The cells of a table, one after the other; the tables are rewritten every few seconds."""

    def __init__(self, prepared: Prepared, todo: Sequence[Cell]) -> None:
        # Two rows may be the same runs under two names: each run is computed once.
        cells = {str(cell.run_id): cell for cell in todo}
        stored = prepared.database.runs(list(cells)) if prepared.request.save_models else {}
        super().__init__(_task(cell, prepared, stored.get(run_id)) for run_id, cell in cells.items())
        self._prepared, self._file, self._written = prepared, prepared.file, time.monotonic()

    def done(self, task: Task, run: Run) -> str:
        self._rewrite()
        name, scored = self._file.metric, run.scored[self._file.base.data.scored[0]]
        return f"{name} {metrics_of(scored, [name], self._prepared.inputs.workspace, task.spec)[name]:.4f}"

    def failed(self, task: Task, failure: Failure) -> None:
        self._prepared.database.save_run(
            Run(
                run_id=task.run_id,
                table_name=task.table,
                row=task.row,
                seed=task.spec.seed,
                state="failed",
                reason=failure.reason,
                identity=identify(task.spec, self._prepared.inputs.workspace).parts,
                finished_at=time.time(),
            )
        )
        self._rewrite()

    def _rewrite(self) -> None:
        if time.monotonic() - self._written > _REWRITE_SECONDS:
            inputs = self._prepared.inputs
            write_results(collect(self._file, inputs.database, self._prepared.shared), inputs.out)
            self._written = time.monotonic()


def _task(cell: Cell, prepared: Prepared, stored: Run | None) -> Task:
    assert cell.run_id is not None, "a blocked cell cannot run"
    title = f"{cell.row} seed {cell.seed}"
    task = Task(cell.run_id, title, cell.spec, prepared.file.name, cell.row)
    if not prepared.request.save_models:
        return task
    predicted = {} if stored is None else {name: scored.predicted for name, scored in stored.scored.items()}
    return replace(task, models=model_folder(prepared.inputs.out, cell.row, cell.seed).resolve(), stored=predicted)


def encode(sources: Sources, workers: int, device: str = "auto", batch_size: int | None = None) -> None:
    """`whisq-study encode`: fill the feature store for a file's rows, as far as that can be done.

    Raises
    ------
    InputError
        When an encoder could not be used, after the others have been.
    """
    resolve_device(device, "--device")  # before the corpus is read
    inputs = preflight(replace(sources, storage=None))
    specs = [row.spec.backbone for row in inputs.rows if row.spec.uses_features]
    problems = encode_backbones(inputs.workspace, specs, workers, device, batch_size)
    raise_all(list(dict.fromkeys(problems.values())))


def exit_status(prepared: Prepared, results: TableResults) -> int:
    """0 when every cell and model asked for is there, 1 when some failed; the failures are named on stderr."""
    failed = failures(results, sorted({cell.row for cell in prepared.cells}))
    if prepared.request.save_models:
        failed += unsaved(results, prepared.inputs.out, {(cell.row, cell.seed) for cell in prepared.cells})
    for line in failed:
        log(f"failed: {line}")
    return 1 if failed else 0


def report(sources: Sources) -> str:
    """`whisq-study report`: tables, figures and the page from what is stored; returns what to open."""
    inputs = preflight(sources, writes=False)
    file, shared = stored_table(inputs.file, inputs.database, sources.name)
    out = folder_of(file.name, sources.out, inputs.database)
    tell_rows_gone(file, inputs.database)
    page, *tables = publish(collect(file, inputs.database, shared), inputs.database, out, "whisq-study report")
    return "\n".join([f"report  {page}", *(f"table   {path}" for path in tables)])


def show_plan(prepared: Prepared, workers: int) -> str:
    """The plan as text; rows asked for by name with their settings."""
    tell(prepared.inputs, prepared.shared, starts=False)
    costs = CostModel.measured(prepared.database, prepared.inputs.workspace)
    file, corpus = prepared.file, prepared.inputs.workspace.corpus
    done: dict[str, list[str]] = {}
    for cell in prepared.cells:
        if cell.state == "done" and cell.run_id:
            done.setdefault(cell.row, []).append(cell.run_id)
    changed = declared(file, prepared.database, done).changed
    name = file.base.data.scored[0]
    scored = {clip for part in splits(corpus, file.base.data, file.base.seed) for clip in part.score[name]}
    num_systems = corpus.clips["system"].iloc[sorted(scored)].nunique()
    text = plan_text(file, prepared.cells, costs, workers, num_systems, changed)
    return f"{text}\n{settings_text(prepared.file, prepared.cells)}" if prepared.request.sources.rows else text
