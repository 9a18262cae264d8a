"""What trials a search hands out: none is trained that is stored, pruned, or in hand already."""

from pathlib import Path
from typing import Any

import optuna
from helpers.searches import request, runs_of, search, trials
from optuna.trial import TrialState

from study.engine import Failure, Pool, execute, preflight
from study.search import OptimizeRequest
from study.search.jobs import SearchJobs
from study.search.optimize import plan_search
from study.search.study import close_interrupted, open_search


def finished_at(asked: OptimizeRequest, table: str) -> dict[str, float]:
    """When each done run of a table or search was stored."""
    return {run.run_id: run.finished_at for run in runs_of(asked, table)}


def begun(asked: OptimizeRequest, total: int) -> tuple[SearchJobs, optuna.Study, Any]:
    """The jobs of a search that nobody computes; the caller holds the lock."""
    inputs = preflight(asked.sources)
    with Pool(1) as pool:
        plan = plan_search(inputs.file, inputs.file.row("whisq"), inputs.workspace, pool)
    study, _ = open_search(inputs.database, plan)
    return SearchJobs(study, plan, inputs.workspace, inputs.database, total), study, inputs


def test_equal_settings_are_trained_once_and_finish_all_their_trials(data: Path, tmp_path: Path) -> None:
    two = {"train.momentum": {"choices": [0.5, 0.7435]}}
    asked = request(data, tmp_path, sampler="random", pruner="none", space=two)
    jobs, study, inputs = begun(asked, 8)

    with inputs.database.writing("a test"):
        tasks = [jobs.next(), jobs.next()]
        assert jobs.next() is None
        assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 8
        for task in tasks:
            assert task is not None
            run = execute(task, inputs.workspace)
            inputs.database.save_run(run)
            jobs.done(task, run)

    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 8
    assert len({trial.value for trial in study.trials}) == 2


def test_a_trial_that_was_stored_but_not_closed_is_not_trained_again(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, pruner="none")
    jobs, _, inputs = begun(asked, 3)
    task = jobs.next()
    assert task is not None
    with inputs.database.writing("a test"):
        inputs.database.save_run(execute(task, inputs.workspace))
    stored = finished_at(asked, "tiny-whisq")

    outcome = search(asked)

    assert stored.items() <= finished_at(asked, "tiny-whisq").items()
    assert outcome.result.counts == {"interrupted": 1, "complete": 3}
    assert trials(asked)[1].params == trials(asked)[0].params
    assert trials(asked)[1].value is not None


def test_settings_that_were_pruned_are_not_trained_again(data: Path, tmp_path: Path) -> None:
    two = {"train.momentum": {"choices": [0.5, 0.7435]}}
    asked = request(data, tmp_path, sampler="random", pruner="none", space=two)
    jobs, study, inputs = begun(asked, 6)
    first, second = jobs.next(), jobs.next()
    assert first is not None
    assert second is not None
    with inputs.database.writing("a test"):
        for task in (first, second):
            jobs.failed(task, Failure("stopped", "a pruner", 1))

    jobs = SearchJobs(study, jobs._plan, inputs.workspace, inputs.database, 9)
    assert jobs.next() is None
    again = [trial for trial in study.trials if "which was pruned" in trial.user_attrs["reason"]]
    assert again
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 9


def test_interrupted_trials_do_not_count_towards_ten_failures_in_a_row(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)
    _, study, _ = begun(asked, 3)
    for _ in range(12):
        study.ask()
    assert len(close_interrupted(study)) == 12

    outcome = search(asked)

    assert outcome.result.counts == {"interrupted": 12, "complete": 3}
