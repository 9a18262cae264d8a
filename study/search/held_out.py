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

from study.engine import Jobs, Pool, Task, Workspace, identify, metrics_of
from study.search.objective import objective_name, objective_value
from study.search.params import to_settings
from study.search.study import SearchPlan, best_first
from study.store import Database, Run
from study.terminal import log
from whisq_core.corpus import splits
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
) -> tuple[tuple[Candidate, ...], Candidate | None, str]:
    """The best trials with all their values, the winner, and on which clips the reported values are.

    Candidates are the best complete trials of distinct settings, and the first guess. There is no winner when none has
    a value on every held-out seed. What is stored is not trained.
    """
    distinct = list({trial.user_attrs["run_id"]: trial for trial in best_first(study)}.values())
    settings = {trial.number: to_settings(trial.params, plan.search.space) for trial in distinct}
    first = {number for number, own in settings.items() if own == plan.first_guess}
    trials = [each for place, each in enumerate(distinct) if place < plan.search.top or each.number in first]
    settings = {trial.number: settings[trial.number] for trial in trials}
    spec, where = _report_spec(plan, workspace)
    held_out = _trained(settings, HELD_OUT_SEEDS, plan, "held-out", workspace, database, pool)
    found = [
        Candidate(each.number, settings[each.number], each.value or 0.0, each.number in first, values)
        for each, values in zip(trials, held_out.values(), strict=True)
    ]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    sound = [each for each in found if math.isfinite(each.mean)]
    best = min(sound, key=lambda each: (sign * each.mean, each.number), default=None)
    shown = {each.number: each.settings for each in found if best and (each is best or each.is_first_guess)}
    reported = _trained(shown, REPORT_SEEDS, replace(plan, spec=spec), "reported", workspace, database, pool)
    found = [replace(each, reported=reported.get(each.number, ())) for each in found]
    return tuple(found), next((each for each in found if best and each.number == best.number), None), where


def _report_spec(plan: SearchPlan, workspace: Workspace) -> tuple[RunSpec, str]:
    """The row on the first other inner split that shares at most half of its clips with the search's; that in words."""
    spec, data = plan.spec, plan.spec.data
    if plan.search.score != "inner":
        return spec, f"split '{plan.search.score}', as in the search"
    inner = splits(workspace.corpus, data, 0)[0].score["inner"]
    for step in range(1, _MAX_SPLITS + 1):
        other = data.model_copy(update={"inner_seed": data.inner_seed + step})
        clips = splits(workspace.corpus, other, 0)[0].score["inner"]
        shared = len(np.intersect1d(inner, clips))
        if shared <= _MAX_SHARED * len(clips):
            break
    where = f"another inner split: inner_seed {other.inner_seed}, {shared} of its {len(clips)} clips in both"
    return spec.model_copy(update={"data": other}), where


def _trained(
    settings: Mapping[int, dict[str, Any]], seeds: Sequence[int], plan: SearchPlan, kind: str,
    workspace: Workspace, database: Database, pool: Pool,
) -> dict[int, tuple[float, ...]]:  # fmt: skip
    """The values of each trial's settings on these seeds; NaN where a run fails, which the next start tries again."""
    tasks = dict[tuple[int, int], Task]()
    for seed in seeds:
        for number, own in settings.items():
            spec, row = with_settings(plan.spec, own).model_copy(update={"seed": seed}), f"trial-{number}"
            run_id, title = identify(spec, workspace).run_id, f"{row} seed {seed}"
            tasks[number, seed] = Task(run_id, title, spec, f"{plan.name}-{kind}", row)
    todo = [task for task in tasks.values() if database.state_of(task.run_id) != "done"]
    if todo:
        what = f"{len(settings)} configuration(s) on {kind} seeds {seeds[0]} to {seeds[-1]}"
        log(f"search '{plan.name}': {what}, {len(tasks) - len(todo)} of {len(tasks)} runs found")
        pool.run(_PlainRuns(todo, plan, workspace), workspace, database, f"{plan.name}: {kind} seeds", len(todo))
    runs = database.runs([task.run_id for task in tasks.values()])
    values = {run_id: _value(run, plan, workspace) for run_id, run in runs.items() if run.state == "done"}
    return {number: tuple(values.get(tasks[number, seed].run_id, math.nan) for seed in seeds) for number in settings}


class _PlainRuns(Jobs):
    def __init__(self, todo: Sequence[Task], plan: SearchPlan, workspace: Workspace) -> None:
        super().__init__(todo)
        self._plan, self._workspace = plan, workspace

    def done(self, task: Task, run: Run) -> str:
        return f"{objective_name(self._plan.search.objective)} {_value(run, self._plan, self._workspace):.4f}"


def _value(run: Run, plan: SearchPlan, workspace: Workspace) -> float:
    names = plan.search.objective
    return objective_value(metrics_of(run.scored[plan.search.score], names, workspace, plan.spec), names)
