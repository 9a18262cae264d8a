"""After the search: the best few are trained again on seeds that no trial has used, and the winner is chosen there.

The best of many noisy values is too good: the best of 100 trials by .025 at a seed noise of .01, and the best of five
by its held-out value still is. So winner and first guess are trained a third time, on further seeds and on another
inner split of train: those values had no part in any choice.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from study.engine import Jobs, Pool, Task, Workspace, identify
from study.search.objective import objective_name, objective_value
from study.search.params import to_settings
from study.search.study import SearchPlan, best_first
from study.store import Database, Run
from study.terminal import log
from whisq_core.corpus import Corpus, split
from whisq_core.spec import RunSpec, with_settings

TRIAL_SEED = 1_000_000  # of all trials; far from the seeds of any table, and so are the others
HELD_OUT_SEEDS = (1_000_001, 1_000_002, 1_000_003)
REPORT_SEEDS = (1_000_004, 1_000_005, 1_000_006)
_MAX_SHARED = 0.5  # of the clips of two inner splits
_MAX_SPLITS = 8  # that are tried for one that shares fewer


@dataclass(frozen=True)
class Candidate:
    """A configuration: what the search saw, its values on held-out seeds, and those that had no part in a choice.

    The winner and the first guess have the last ones. A value is NaN where a run failed.
    """

    number: int
    settings: dict[str, Any]
    search_value: float
    is_first_guess: bool
    held_out: tuple[float, ...]
    reported: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The held-out value: the mean over held-out seeds; NaN when one of them is missing."""
        return statistics.fmean(self.held_out)


def mean_and_sd(values: Sequence[float]) -> str:
    """Both as text; "–" where a value is missing."""
    whole = values and math.isfinite(sum(values))
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}" if whole else "–"


def chosen(
    study: optuna.Study, plan: SearchPlan, workspace: Workspace, database: Database, pool: Pool
) -> tuple[tuple[Candidate, ...], Candidate | None]:
    """The best trials with all their values, and the winner; None when no candidate has a value on every held-out seed.

    Candidates are the best complete trials of distinct settings, and the first guess. What is stored is not trained.
    """
    distinct = list({trial.user_attrs["run_id"]: trial for trial in best_first(study)}.values())
    trials = [each for place, each in enumerate(distinct) if place < plan.search.top or _is_first_guess(each, plan)]
    settings = {trial.number: to_settings(trial.params, plan.search.space) for trial in trials}

    def values(numbers: Sequence[int], seeds: Sequence[int], spec: RunSpec, kind: str) -> dict[int, tuple[float, ...]]:
        own = {number: settings[number] for number in numbers}
        return _trained(own, seeds, replace(plan, spec=spec), kind, workspace, database, pool)

    held_out = values(list(settings), HELD_OUT_SEEDS, plan.spec, "held-out")
    found = [
        Candidate(each.number, settings[each.number], each.value or 0.0, _is_first_guess(each, plan), values_)
        for each, values_ in zip(trials, held_out.values(), strict=True)
    ]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    sound = [each for each in found if math.isfinite(each.mean)]
    best = min(sound, key=lambda each: (sign * each.mean, each.number), default=None)
    if best is None:
        return tuple(found), None
    shown = [each.number for each in found if each is best or each.is_first_guess]
    reported = values(shown, REPORT_SEEDS, report_spec(plan, workspace.corpus), "reported")
    found = [replace(each, reported=reported.get(each.number, ())) for each in found]
    return tuple(found), next(each for each in found if each.number == best.number)


def report_spec(plan: SearchPlan, corpus: Corpus) -> RunSpec:
    """The row on another inner split of train, the first that shares at most half of its clips with the search's."""
    spec, data = plan.spec, plan.spec.data
    for step in range(1, _MAX_SPLITS + 1) if plan.search.score == "inner" else ():
        spec = spec.model_copy(update={"data": data.model_copy(update={"inner_seed": data.inner_seed + step})})
        shared, number = num_shared(plan.spec, spec, corpus)
        if shared <= _MAX_SHARED * number:
            break
    return spec


def num_shared(spec: RunSpec, other: RunSpec, corpus: Corpus) -> tuple[int, int]:
    """How many clips two inner splits share, and how many the second one has."""
    inner, others = (split(corpus, each.data).score["inner"] for each in (spec, other))
    return len(np.intersect1d(inner, others)), len(others)


def _trained(
    settings: Mapping[int, dict[str, Any]], seeds: Sequence[int], plan: SearchPlan, kind: str,
    workspace: Workspace, database: Database, pool: Pool,
) -> dict[int, tuple[float, ...]]:  # fmt: skip
    """The values of each trial's settings on these seeds."""
    table, tasks = f"{plan.name}-{kind}", dict[tuple[int, int], Task]()
    for seed in seeds:
        for number, own in settings.items():
            spec, row = with_settings(plan.spec, own).model_copy(update={"seed": seed}), f"trial-{number}"
            tasks[number, seed] = Task(identify(spec, workspace).run_id, f"{row} seed {seed}", spec, table, row)
    todo = [task for task in tasks.values() if database.state_of(task.run_id) != "done"]
    if todo:
        what = f"{len(settings)} configurations on {kind} seeds {seeds[0]} to {seeds[-1]}"
        log(f"search '{plan.name}': {what}, {len(tasks) - len(todo)} of {len(tasks)} runs found")
        pool.run(_PlainRuns(todo, plan), workspace, database, f"{plan.name}: {kind} seeds", len(todo))
    runs = database.runs([task.run_id for task in tasks.values()])
    return {number: tuple(_value(runs.get(tasks[number, seed].run_id), plan) for seed in seeds) for number in settings}


class _PlainRuns(Jobs):
    """A candidate whose run fails has no value; the next start tries again."""

    def __init__(self, todo: Sequence[Task], plan: SearchPlan) -> None:
        super().__init__(todo)
        self._plan = plan

    def done(self, task: Task, run: Run) -> str:
        return f"{objective_name(self._plan.search.objective)} {_value(run, self._plan):.4f}"


def _value(run: Run | None, plan: SearchPlan) -> float:
    if run is None or run.state != "done":
        return math.nan
    return objective_value(run.scored[plan.search.score].metrics, plan.search.objective)


def _is_first_guess(trial: FrozenTrial, plan: SearchPlan) -> bool:
    return to_settings(trial.params, plan.search.space) == plan.first_guess
