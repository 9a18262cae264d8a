"""`whisq-study optimize`: create or go on with a search, choose the winner on held-out seeds, leave best.yaml."""

import math
import re
import shlex
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.config import AblationFile, Row, Search, search_mistakes
from study.dashboard import annotate, attach_files, retried
from study.engine import (
    OWN_FOLDERS,
    Inputs,
    Pool,
    Sources,
    Workspace,
    check_splits,
    collect_errors,
    encode_backbones,
    identify,
    make_folder,
    preflight,
)
from study.search.figures import search_figures, write_figures
from study.search.held_out import HELD_OUT_SEEDS, REPORT_SEEDS, TRIAL_SEED, chosen
from study.search.importance import importances
from study.search.jobs import SearchJobs
from study.search.sampler import make_pruner
from study.search.study import SearchPlan, close_interrupted, finished_trials, open_search
from study.search.summary import SearchResult, markdown_note, split_warning, summary, write_best
from study.terminal import log
from whisq_core.errors import InputError, raise_all
from whisq_core.spec import BackboneSpec, with_settings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


_MOST_TRIALS = 1_000_000
_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,149}")


@dataclass(frozen=True)
class OptimizeRequest:
    """What the command line of `optimize` says. `trials` is the total, `timeout` seconds, `source` is `--from`."""

    sources: Sources
    row: str | None = None
    trials: int | None = None
    timeout: float | None = None
    study: str | None = None
    source: str | None = None
    seed: int = 0
    wait: bool = False


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


def optimize(request: OptimizeRequest, pool: Pool) -> SearchOutcome:
    """Run the search of one row to its total, and write best.yaml, trials.csv and plots.html.

    Raises
    ------
    InputError
        With every mistake; nothing has been started or written then. Also when another command is writing to the
        storage, and when ten trials failed in a row.
    """
    mistakes: list[str] = []
    if request.trials is not None and request.trials < 1:
        mistakes.append(f"--trials: found {request.trials}, allowed: 1 or more. It is the total of the search.")
    if request.trials is not None and request.trials > _MOST_TRIALS:
        mistakes.append(f"--trials: found {request.trials}, allowed: up to {_MOST_TRIALS:,}.")
    if request.timeout is not None and not request.timeout > 0:
        mistakes.append(f"--timeout: found {request.timeout}, allowed: seconds above 0.")
    if request.study is not None and not _STUDY_NAME.fullmatch(request.study):  # it names a folder too
        allowed = "letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 150"
        mistakes.append(f"--study {request.study}: allowed: {allowed}.")
    if request.study in OWN_FOLDERS:
        mistakes.append(f"--study {request.study}: that folder is for {OWN_FOLDERS[request.study]}. Give another name.")
    with collect_errors(mistakes):
        inputs = preflight(request.sources)
        row = inputs.file.row(request.row) if request.row else _default_row(inputs.file)
    raise_all(mistakes)
    plan = plan_search(inputs.file, row, inputs.workspace, pool, request.study, request.seed)
    folder = (request.sources.out or Path("results")) / plan.name
    pool.reach()
    make_folder(folder)
    deadline = math.inf if request.timeout is None else time.time() + request.timeout
    with inputs.database.writing("whisq-study optimize", request.wait):
        result = run_search(plan, inputs, pool, request.trials, request.source, deadline)
        text = summary(result, importances(result.study))
        figures = retried(partial(search_figures, result))
        write_figures(figures, folder / "plots.html")
        annotate(inputs.database, plan.name, markdown_note(result, text), figures)
        best = write_best(result, folder)
        attach_files(inputs.database, plan.name, [path for path in (best, folder / "trials.csv") if path is not None])
    return SearchOutcome(result, _with_paths(text, folder, best, request.sources), folder, best, figures)


def _default_row(file: AblationFile) -> Row:
    """The row that the others are compared to; without comparisons the first that can be tuned."""
    if file.compare is not None:
        return file.row(file.compare.to)
    return next((row for row in file.rows if row.spec.uses_features), file.rows[0])


def search_of(file: AblationFile) -> Search:
    """The file's search; its objective, where none is named, is the table's primary metric.

    Raises
    ------
    InputError
        When the default search does not fit the file's base.
    """
    if file.search is None:
        search = Search(objective=(file.metric,))
        raise_all([f"{file.path}, search: {text}" for _, text in search_mistakes(search, file.base)])
        return search
    if "objective" in file.search.model_fields_set:
        return file.search
    return file.search.model_copy(update={"objective": (file.metric,)})


def plan_search(
    file: AblationFile, row: Row, workspace: Workspace, pool: Pool, name: str | None = None, seed: int = 0
) -> SearchPlan:
    """The search of one row, checked (else `InputError`) and with everything resolved; nothing is started."""
    where = f"{file.path}:{row.line}, row '{row.id}'"
    if not row.spec.uses_features:
        raise InputError(f"{where}: a control is not trained, so there is nothing to search. Give another --row.")
    search = search_of(file).without(row.settings)
    if not search.space:
        raise InputError(f"{where}: sets everything that the search varies. Give another --row, or widen 'space'.")
    reserved = sorted({TRIAL_SEED, *HELD_OUT_SEEDS, *REPORT_SEEDS} & {*file.seeds, *row.seeds})
    if reserved:
        raise InputError(f"{where}: seed {reserved[0]} is one of those that searches use. Give the table other seeds.")
    data = row.spec.data.model_copy(update={"score": (search.score,), "folds": None})
    spec = pool.resolved(row.spec.model_copy(update={"data": data, "seed": TRIAL_SEED}))
    check_splits(file, [row.model_copy(update={"spec": spec})], workspace)
    return SearchPlan(name or f"{file.name}-{row.id}", file.name, row, spec, search, seed, identify(spec, workspace))


def run_search(
    plan: SearchPlan,
    inputs: Inputs,
    pool: Pool,
    total: int | None = None,
    source: str | None = None,
    deadline: float = math.inf,
) -> SearchResult:
    """Encode what is missing, run trials up to the total, and train the best on held-out seeds."""
    workspace, database, total = inputs.workspace, inputs.database, total or plan.search.trials
    study, notes = retried(partial(open_search, database, plan, source))
    for note in notes:
        log(note)
    study.pruner = make_pruner(plan.search.pruner, plan.spec.train.epochs)
    database.save_corpus(workspace.stored_corpus())
    problems = encode_backbones(workspace, _backbones(plan), pool.workers)
    raise_all([f"{spec.audio} + {spec.text}: {problem}" for spec, problem in problems.items()])
    num_found = len(finished_trials(study))
    if num_found < total and time.time() < deadline:
        log(f"search '{plan.name}': {num_found} trials found, going on to {total}")
        if warning := split_warning(plan, workspace.corpus):
            log(warning)
        jobs = SearchJobs(study, plan, workspace, database, total, deadline)
        try:
            pool.run(jobs, workspace, database, f"{plan.name}: trials", total - num_found)
        finally:
            close_interrupted(study)
    outcome = chosen(study, plan, workspace, database, pool)
    return SearchResult(plan, study, workspace.corpus, num_found, *outcome)


def _backbones(plan: SearchPlan) -> list[BackboneSpec]:
    """Every encoder that the search may choose."""
    specs = [plan.spec]
    for name, where in plan.search.space.items():
        if name.startswith("backbone.") and where.choices is not None:
            specs = [with_settings(spec, {name: choice}) for spec in specs for choice in where.choices]
    return [spec.backbone for spec in specs]


def _with_paths(text: str, folder: Path, best: Path | None, sources: Sources) -> str:
    lines = [text, "", f"trials  {folder / 'trials.csv'}", f"plots   {folder / 'plots.html'}"]
    if best is not None:
        lines.append(f"best    {best}, to be used by")
        lines.append(f"        whisq-study ablate {sources.shell_words()} {shlex.join(['--base', str(best)])}")
    return "\n".join(lines)
