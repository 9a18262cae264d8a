"""`whisq-study optimize`: create or go on with a search, choose the winner on fresh seeds, leave best.yaml."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from study.config import AblationFile, Row, Search, read_ablation_file, search_mistakes
from study.engine.encode import encode_backbones
from study.engine.preflight import (
    check_kernels,
    check_splits,
    check_storage,
    check_writable,
    make_folder,
    noted,
    resolved,
)
from study.engine.runs import Workspace, identify
from study.engine.workers import run_workers
from study.search.fresh import FRESH_SEEDS, TRIAL_SEED, Where, fresh_values, winner
from study.search.job import SearchJob
from study.search.study import SearchPlan, open_search, top_up
from study.search.summary import SearchResult, best_yaml, markdown_note, summary, trials_frame
from study.store.database import Database
from study.store.urls import check_worker_count
from study.terminal import say, ticket_progress
from whisq_core.errors import InputError, raise_all
from whisq_core.spec import BackboneSpec, with_settings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class OptimizeRequest:
    """What the command line of `optimize` says. `trials` is the total, `timeout` seconds, `source` is `--from`."""

    file: Path
    data: Path
    features: Path
    storage: str
    out: Path
    row: str | None = None
    trials: int | None = None
    timeout: float | None = None
    study: str | None = None
    source: str | None = None
    base: Path | None = None
    workers: int = 1
    seed: int = 0

    @property
    def where(self) -> Where:
        """The part that every process needs."""
        return Where(self.data, self.features, self.storage, self.workers)


@dataclass(frozen=True)
class SearchOutcome:
    """What `optimize` leaves: the search as it stands, words for the terminal, and figures by name."""

    result: SearchResult
    summary: str
    folder: Path
    best: Path | None
    figures: dict[str, "Figure"]

    @property
    def exit_status(self) -> int:
        """0 when there is a best.yaml, else 1."""
        return 0 if self.best else 1


def optimize(request: OptimizeRequest) -> SearchOutcome:
    """Run the search of one row to its total, and write best.yaml, trials.csv and plots.html.

    Raises:
        InputError: with every mistake; nothing has been started or written then. Also when ten trials failed in a row.
    """
    from study.dashboard.server import annotate  # plotly and scikit-learn: not needed while rows are tuned for a table
    from study.search.figures import search_figures, write_figures
    from study.search.importance import importances

    file, row, workspace = _checked(request)
    plan = plan_search(file, row, workspace, request)
    database = Database(request.storage)
    folder = request.out / plan.name
    make_folder(folder)
    result = run_search(plan, workspace, database, request)
    text = summary(result, importances(result.study))
    figures = search_figures(result.study, plan.search)
    write_figures(figures, folder / "plots.html")
    annotate(database, plan.name, markdown_note(result, text), figures)
    best = write_best(result, folder)
    return SearchOutcome(result, _with_paths(text, folder, best), folder, best, figures)


def _checked(request: OptimizeRequest) -> tuple[AblationFile, Row, Workspace]:
    """Everything that can be wrong before a search is planned, told together."""
    mistakes: list[str] = []
    if request.trials is not None and request.trials < 1:
        mistakes.append(f"--trials: found {request.trials}, allowed: 1 or more. It is the total of the search.")
    with noted(mistakes):
        file = read_ablation_file(request.file, request.base)
        row = file.row(request.row) if request.row else _default_row(file)
    with noted(mistakes):
        check_storage(request.storage)
        check_worker_count(request.storage, request.workers)
    with noted(mistakes):
        workspace = Workspace(request.data, request.features)
    with noted(mistakes):
        check_writable(request.out, "--out")
    with noted(mistakes):
        check_writable(request.features, "--features")
    with noted(mistakes):
        check_kernels()
    raise_all(mistakes)
    workspace.check_audio()
    return file, row, workspace


def _default_row(file: AblationFile) -> Row:
    """The row that the others are compared to; without comparisons the first that can be tuned."""
    if file.compare is not None:
        return file.row(file.compare.to)
    return next((row for row in file.rows if row.spec.uses_features), file.rows[0])


def search_of(file: AblationFile) -> Search:
    """The file's search; its objective, where none is named, is the table's primary metric.

    Raises:
        InputError: when the default search does not fit the file's base.
    """
    if file.search is None:
        search = Search(objective=(file.metric,))
        raise_all([f"{file.path}, search: {text}" for _, text in search_mistakes(search, file.base)])
        return search
    if "objective" in file.search.model_fields_set:
        return file.search
    return file.search.model_copy(update={"objective": (file.metric,)})


def plan_search(file: AblationFile, row: Row, workspace: Workspace, request: OptimizeRequest) -> SearchPlan:
    """The search of one row, checked and with everything resolved; nothing is started.

    Raises:
        InputError: when the row cannot be tuned, its clips or encoders are missing, or its seeds are reserved.
    """
    where = f"{file.path}:{row.line}, row '{row.id}'"
    if not row.spec.uses_features:
        raise InputError(f"{where}: a control is not trained, so there is nothing to search. Give another --row.")
    search = search_of(file).without(row.settings)
    if not search.space:
        raise InputError(f"{where}: sets everything that the search varies. Give another --row, or widen 'space'.")
    reserved = sorted({TRIAL_SEED, *FRESH_SEEDS} & {*file.seeds, *row.seeds})
    if reserved:
        raise InputError(f"{where}: seed {reserved[0]} is one of those that searches use. Give the table other seeds.")
    data = row.spec.data.model_copy(update={"score": (search.score,)})
    spec = resolved(row.spec.model_copy(update={"data": data, "seed": TRIAL_SEED}))
    check_splits(file, [replace(row, spec=spec)], workspace)
    name = request.study or f"{file.name}-{row.id}"
    return SearchPlan(name, file.name, row, spec, search, request.seed, identify(spec, workspace))


def run_search(plan: SearchPlan, workspace: Workspace, database: Database, request: OptimizeRequest) -> SearchResult:
    """Encode what is missing, run trials up to the total, and train the best on fresh seeds."""
    total = request.trials or plan.search.trials
    study, notes = open_search(database, plan, request.source)
    for note in notes:
        say(note)
    num_found = _num_finished(study)
    database.save_corpus(workspace.stored_corpus())
    _encode(plan, workspace, request.workers)
    top_up(study, database, total)
    job = _job(plan, study, total, request)
    todo = [trial for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished() and job.wants(trial)]
    if todo:
        say(f"search '{plan.name}': {num_found} trials found, going on to {total}")
        with ticket_progress(f"{plan.name}: trials", max(total - num_found, len(todo))) as emit:
            run_workers(job, request.storage, min(request.workers, max(total - num_found, 1)), emit)
    candidates = fresh_values(study, plan, workspace, database, request.where)
    best = winner(candidates, study)
    return SearchResult(plan, study, workspace.corpus.simulated, num_found, tuple(candidates), best)


def _num_finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _job(plan: SearchPlan, study: optuna.Study, total: int, request: OptimizeRequest) -> SearchJob:
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return SearchJob(
        study_name=plan.name,
        row=plan.row.id,
        spec=plan.spec,
        search=plan.search,
        seed=plan.seed,
        data=request.data,
        features=request.features,
        total=total,
        workers=request.workers,
        deadline=float("inf") if request.timeout is None else time.time() + request.timeout,
        old_failures=frozenset(trial.number for trial in failed),
    )


def _encode(plan: SearchPlan, workspace: Workspace, workers: int) -> None:
    """Fill the feature store for every encoder that the search may choose."""
    problems = encode_backbones(workspace, _backbones(plan), workers)
    raise_all([f"{spec.audio} + {spec.text}: {problem}" for spec, problem in problems.items()])


def _backbones(plan: SearchPlan) -> Sequence[BackboneSpec]:
    specs = [plan.spec]
    for name, where in plan.search.space.items():
        if name.startswith("backbone.") and where.choices is not None:
            specs = [with_settings(spec, {name: choice}) for spec in specs for choice in where.choices]
    return [spec.backbone for spec in specs]


def write_best(result: SearchResult, folder: Path) -> Path | None:
    """Write trials.csv and, when there is a winner, best.yaml; an older best.yaml does not outlive its search."""
    trials_frame(result).to_csv(folder / "trials.csv", index=False)
    path = folder / "best.yaml"
    if result.winner is None:
        path.unlink(missing_ok=True)
        return None
    path.write_text(best_yaml(result), encoding="utf-8")
    return path


def _with_paths(text: str, folder: Path, best: Path | None) -> str:
    lines = [text, "", f"trials  {folder / 'trials.csv'}", f"plots   {folder / 'plots.html'}"]
    if best is not None:
        lines.append(f"best    {best} (use it: whisq-study ablate --base {best})")
    return "\n".join(lines)
