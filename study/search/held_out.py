"""After the search: the best few are trained again on seeds that no trial has used, and the winner is chosen there.

The best of many noisy values is too good (the best of 100 by .025 at a seed noise of .01), so the value that a search
found is not an estimate of anything; the mean over held-out seeds is.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from study.engine import Jobs, Pool, Task, Workspace, identify
from study.search.objective import objective_name, objective_value
from study.search.params import to_settings
from study.search.study import SearchPlan, best_first
from study.store import Database, Run
from whisq_core.spec import with_settings

TRIAL_SEED = 1_000_000  # of all trials; far from the seeds of any table, and so are the held-out ones
HELD_OUT_SEEDS = (1_000_001, 1_000_002, 1_000_003)


@dataclass(frozen=True)
class Candidate:
    """A configuration with the value that the search saw and its values on held-out seeds (NaN where a run failed)."""

    number: int
    settings: dict[str, Any]
    search_value: float
    held_out: tuple[float, ...]
    is_first_guess: bool

    @property
    def mean(self) -> float:
        """The held-out value: the mean over held-out seeds; NaN when one of them is missing."""
        return statistics.fmean(self.held_out)

    @property
    def sd(self) -> float:
        """Standard deviation over held-out seeds."""
        return statistics.stdev(self.held_out) if math.isfinite(self.mean) else math.nan


def best_trials(study: optuna.Study, plan: SearchPlan) -> list[FrozenTrial]:
    """The best complete trials of distinct settings, best first; then the first guess, when it is not among them."""
    distinct = list({trial.user_attrs["run_id"]: trial for trial in best_first(study)}.values())
    chosen = distinct[: plan.search.top]
    return chosen + [trial for trial in distinct if _is_first_guess(trial, plan) and trial not in chosen]


def held_out_values(
    study: optuna.Study, plan: SearchPlan, workspace: Workspace, database: Database, pool: Pool
) -> list[Candidate]:
    """Train the best trials on the held-out seeds, as far as they are not stored, and put both values side by side."""
    trials = best_trials(study, plan)
    tasks = [_task(trial, seed, plan, workspace) for seed in HELD_OUT_SEEDS for trial in trials]
    todo = [task for task in tasks if database.state_of(task.run_id) != "done"]
    if todo:
        pool.run(_HeldOutJobs(todo, plan), workspace, database, f"{plan.name}: held-out seeds", len(todo))
    runs = database.runs([task.run_id for task in tasks])
    values: dict[str, list[float]] = {}
    for task in tasks:
        run = runs.get(task.run_id)
        value = _value(run, plan) if run is not None and run.state == "done" else math.nan
        values.setdefault(task.row, []).append(value)
    return [_candidate(trial, values[_row_id(trial)], plan) for trial in trials]


def winner(candidates: Sequence[Candidate], study: optuna.Study) -> Candidate | None:
    """The candidate with the best held-out value; None when no candidate has one on every held-out seed."""
    sound = [candidate for candidate in candidates if math.isfinite(candidate.mean)]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return min(sound, key=lambda candidate: (sign * candidate.mean, candidate.number), default=None)


class _HeldOutJobs(Jobs):
    """Plain runs. A candidate whose run fails has no value; the next start tries again."""

    def __init__(self, todo: Sequence[Task], plan: SearchPlan) -> None:
        super().__init__(todo)
        self._plan = plan

    def done(self, task: Task, run: Run) -> str:
        return f"{objective_name(self._plan.search.objective)} {_value(run, self._plan):.4f}"


def _task(trial: FrozenTrial, seed: int, plan: SearchPlan, workspace: Workspace) -> Task:
    settings = to_settings(trial.params, plan.search.space)
    spec = with_settings(plan.spec, settings).model_copy(update={"seed": seed})
    row = _row_id(trial)
    return Task(identify(spec, workspace).run_id, f"{row} seed {seed}", spec, f"{plan.name}-held-out", row)


def _value(run: Run, plan: SearchPlan) -> float:
    return objective_value(run.scored[plan.search.score].metrics, plan.search.objective)


def _candidate(trial: FrozenTrial, held_out: Sequence[float], plan: SearchPlan) -> Candidate:
    assert trial.value is not None, "only complete trials are candidates"
    settings = to_settings(trial.params, plan.search.space)
    return Candidate(trial.number, settings, trial.value, tuple(held_out), _is_first_guess(trial, plan))


def _row_id(trial: FrozenTrial) -> str:
    return f"trial-{trial.number}"


def _is_first_guess(trial: FrozenTrial, plan: SearchPlan) -> bool:
    return to_settings(trial.params, plan.search.space) == plan.first_guess
