"""After the search: the best few are trained again on seeds that no trial has used, and the winner is chosen there.

The best of many noisy values is too good (the best of 100 by .025 at a seed noise of .01), so the value that a search
found is not an estimate of anything; the mean over fresh seeds is.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import to_settings
from study.engine.plan import Cell, PlannedCell, plan
from study.engine.runs import Workspace, identify
from study.engine.tickets import AblationJob, create_study, enqueue
from study.engine.workers import run_workers
from study.search.objective import objective_value
from study.search.study import SearchPlan, sort_key
from study.store.database import Database
from study.terminal import ticket_progress
from whisq_core.spec import with_settings

TRIAL_SEED = 1_000_000  # of all trials; far from the seeds of any table, and so are the fresh ones
FRESH_SEEDS = (1_000_001, 1_000_002, 1_000_003)


@dataclass(frozen=True)
class Candidate:
    """A configuration with the value that the search saw and its values on fresh seeds (NaN where a run failed)."""

    number: int
    settings: dict[str, Any]
    search_value: float
    fresh: tuple[float, ...]
    is_first_guess: bool

    @property
    def mean(self) -> float:
        """The fresh value: the mean over fresh seeds; NaN when one of them is missing."""
        return statistics.fmean(self.fresh)

    @property
    def sd(self) -> float:
        """Standard deviation over fresh seeds."""
        return statistics.stdev(self.fresh) if math.isfinite(self.mean) else math.nan


def best_trials(study: optuna.Study, search_plan: SearchPlan) -> list[FrozenTrial]:
    """The best complete trials of distinct settings, best first; then the first guess, when it is not among them."""
    complete = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=sort_key(study))
    distinct = list({trial.user_attrs["run_id"]: trial for trial in complete}.values())
    chosen = distinct[: search_plan.search.top]
    return chosen + [trial for trial in distinct if _is_first_guess(trial, search_plan) and trial not in chosen]


def fresh_values(
    study: optuna.Study, search_plan: SearchPlan, workspace: Workspace, database: Database, where: "Where"
) -> list[Candidate]:
    """Train the best trials on the fresh seeds, as far as they are not stored, and put both values side by side."""
    trials = best_trials(study, search_plan)
    name = f"{search_plan.name}-fresh"
    cells = [_cell(trial, seed, search_plan, workspace) for seed in FRESH_SEEDS for trial in trials]
    run_ids = [cell.identity.run_id for cell in cells if cell.identity]
    planned = plan(cells, database.headers_for_plan(name, run_ids), name)
    todo = [each for each in planned if each.to_run]
    if todo:
        _train(name, todo, search_plan, database, where)
    runs = database.runs([cell.identity.run_id for cell in cells if cell.identity])
    values: dict[str, list[float]] = {}
    for cell in cells:
        run = runs.get(cell.identity.run_id) if cell.identity else None
        scored = run.scored.get(search_plan.search.score) if run is not None else None
        value = objective_value(scored.metrics, search_plan.search.objective) if scored is not None else math.nan
        values.setdefault(cell.row.id, []).append(value)
    return [_candidate(trial, values[_row_id(trial)], search_plan) for trial in trials]


@dataclass(frozen=True)
class Where:
    """Where data, features and results are, and how many processes work on them."""

    data: Path
    features: Path
    storage: str
    workers: int


def _cell(trial: FrozenTrial, seed: int, search_plan: SearchPlan, workspace: Workspace) -> Cell:
    settings = to_settings(trial.params, search_plan.search.space)
    spec = with_settings(search_plan.spec, settings).model_copy(update={"seed": seed})
    row = replace(search_plan.row, id=_row_id(trial), settings={**search_plan.row.settings, **settings}, spec=spec)
    return Cell(row, seed, FRESH_SEEDS.index(seed), spec, identify(spec, workspace))


def _candidate(trial: FrozenTrial, fresh: Sequence[float], search_plan: SearchPlan) -> Candidate:
    assert trial.value is not None, "only complete trials are candidates"
    settings = to_settings(trial.params, search_plan.search.space)
    return Candidate(trial.number, settings, trial.value, tuple(fresh), _is_first_guess(trial, search_plan))


def _row_id(trial: FrozenTrial) -> str:
    return f"trial-{trial.number}"


def _is_first_guess(trial: FrozenTrial, search_plan: SearchPlan) -> bool:
    return to_settings(trial.params, search_plan.search.space) == search_plan.first_guess


def _train(name: str, todo: Sequence[PlannedCell], search_plan: SearchPlan, database: Database, where: Where) -> None:
    search = search_plan.search
    enqueue(create_study(database, name, search.objective[0], "fresh seeds"), database, todo)
    run_ids = frozenset(each.cell.identity.run_id for each in todo if each.cell.identity)
    job = AblationJob(
        study_name=name,
        table_name=name,
        data=where.data,
        features=where.features,
        metric=search.objective[0],
        split=search.score,
        run_ids=run_ids,
    )
    with ticket_progress(f"{search_plan.name}: fresh seeds", len(run_ids)) as emit:
        run_workers(job, where.storage, min(where.workers, len(run_ids)), emit)


def winner(candidates: Sequence[Candidate], study: optuna.Study) -> Candidate | None:
    """The candidate with the best fresh value; None when no candidate has one on every fresh seed."""
    sound = [candidate for candidate in candidates if math.isfinite(candidate.mean)]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return min(sound, key=lambda candidate: (sign * candidate.mean, candidate.number), default=None)
