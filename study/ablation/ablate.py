"""`whisq-study ablate`: plan, compute what is missing, leave complete tables."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from study.ablation.cost import CostModel
from study.ablation.plan_text import plan_text, settings_text
from study.ablation.publish import is_published, publish, write_results
from study.config import AblationFile, Row, read_ablation_file
from study.engine import (
    Cell,
    Failure,
    Inputs,
    Jobs,
    Pool,
    Sources,
    Task,
    encode_backbones,
    identify,
    plan,
    preflight,
)
from study.results import TableResults, collect, failures
from study.store import CellEntry, Database, Run
from study.terminal import log
from whisq_core.errors import raise_all
from whisq_core.files import sweep
from whisq_core.spec import BackboneSpec

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
    file = _with_tuned_settings(inputs.file, inputs.database)
    return _planned(request, inputs, file, pool)


def _planned(request: AblateRequest, inputs: Inputs, file: AblationFile, pool: Pool) -> Prepared:
    rows = tuple(file.row(row.id) for row in inputs.rows)
    return Prepared(request, inputs, file, rows, plan(file, rows, inputs.workspace, pool, inputs.database))


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
    if any(cell.to_run for cell in prepared.cells):
        pool.reach()
    with database.writing("whisq-study ablate", request.wait):
        prepared = _tuned(prepared, pool) if prepared.file.hyperparameters == "tuned" else prepared
        workspace, file = inputs.workspace, prepared.file
        database.save_corpus(workspace.stored_corpus())
        digest = workspace.digest
        database.save_cells(
            file.name,
            [
                CellEntry(cell.row, cell.seed, cell.run_id, cell.reason if cell.run_id is None else None, digest)
                for cell in prepared.cells
            ],
        )
        sweep(inputs.out)
        todo = _encoded(prepared, pool)
        if todo:
            jobs = _CellJobs(prepared, todo)
            pool.run(jobs, workspace, database, f"{file.name}: cells", len(todo))
        results = collect(file, database, digest)
        if todo or not is_published(results, inputs.out):
            publish(results, database, inputs.out)
        return results


def _tuned(prepared: Prepared, pool: Pool) -> Prepared:
    """Give each row its search, all with the same budget and first guess, and plan with what they chose."""
    from study.search import tune_rows

    request, inputs = prepared.request, prepared.inputs
    file = read_ablation_file(request.sources.file, request.sources.base, request.sources.seeds)
    tuned = tune_rows(file, [file.row(row.id) for row in prepared.rows], inputs, pool)
    prepared.database.save_tuned(file.name, tuned)
    return _planned(request, inputs, _with_tuned_settings(file, prepared.database), pool)


def _encoded(prepared: Prepared, pool: Pool) -> list[Cell]:
    """Encode what the cells need; those whose encoder fails are recorded as failed and left out."""
    todo = [cell for cell in prepared.cells if cell.to_run]
    problems = encode_backbones(prepared.inputs.workspace, _backbones(todo), pool.workers)
    for spec, problem in problems.items():
        log(f"cannot encode with {spec.audio} + {spec.text}: {problem}")
    lost = {cell.run_id: problems[cell.spec.backbone] for cell in todo if _encoder_of(cell) in problems}
    digest = prepared.inputs.workspace.digest
    entries = [CellEntry(c.row, c.seed, None, lost[c.run_id], digest) for c in todo if c.run_id in lost]
    prepared.database.save_cells(prepared.file.name, entries)
    return [cell for cell in todo if cell.run_id not in lost]


def _encoder_of(cell: Cell) -> BackboneSpec | None:
    return cell.spec.backbone if cell.spec.uses_features else None


def _backbones(cells: Iterable[Cell]) -> list[BackboneSpec]:
    return [cell.spec.backbone for cell in cells if cell.spec.uses_features]


class _CellJobs(Jobs):
    """The cells of a table, one after the other; the tables are rewritten every few seconds."""

    def __init__(self, prepared: Prepared, todo: Sequence[Cell]) -> None:
        # Two rows may be the same runs under two names: each run is computed once.
        super().__init__({cell.run_id: _task(cell, prepared) for cell in todo}.values())
        self._prepared, self._file = prepared, prepared.file
        self._written = time.monotonic()

    def done(self, task: Task, run: Run) -> str:
        self._rewrite()
        value = run.scored[self._file.base.data.score[0]].metrics[self._file.metric]
        return f"{self._file.metric} {value:.4f}"

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
            write_results(collect(self._file, inputs.database, inputs.workspace.digest), inputs.out)
            self._written = time.monotonic()


def _task(cell: Cell, prepared: Prepared) -> Task:
    assert cell.run_id is not None, "a blocked cell cannot run"
    title, models = f"{cell.row} seed {cell.seed}", None
    if prepared.request.save_models:
        models = (prepared.inputs.out / "models" / f"{cell.row}-seed{cell.seed}").resolve()
    return Task(cell.run_id, title, cell.spec, prepared.file.name, cell.row, models=models)


def encode(sources: Sources, workers: int) -> None:
    """`whisq-study encode`: fill the feature store for a file's rows, as far as that can be done.

    Raises
    ------
    InputError
        When an encoder could not be used, after the others have been.
    """
    inputs = preflight(replace(sources, storage=None))
    specs = [row.spec.backbone for row in inputs.rows if row.spec.uses_features]
    raise_all(list(dict.fromkeys(encode_backbones(inputs.workspace, specs, workers).values())))


def exit_status(prepared: Prepared, results: TableResults) -> int:
    """0 when every cell asked for is there, 1 when some failed; the failures are named on stderr."""
    failed = failures(results, sorted({cell.row for cell in prepared.cells}))
    for line in failed:
        log(f"failed: {line}")
    return 1 if failed else 0


def report(sources: Sources) -> str:
    """`whisq-study report`: tables, figures and the page from what is stored; returns what to open."""
    from study.ablation.publish import write_report_files

    inputs = preflight(sources, writes=False)
    return write_report_files(inputs.file, inputs.database, inputs.out)


def show_plan(prepared: Prepared, workers: int) -> str:
    """The plan as text; rows asked for by name with their settings."""
    costs = CostModel.measured(prepared.database, prepared.inputs.workspace)
    text = plan_text(prepared.file, prepared.cells, costs, workers)
    return f"{text}\n{settings_text(prepared.file, prepared.cells)}" if prepared.request.sources.rows else text
