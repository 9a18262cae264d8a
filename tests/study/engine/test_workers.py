"""Tickets are claimed once, survive their workers, and end in exact totals: on SQLite and on PostgreSQL."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from helpers.jobs import TinyJob
from optuna.trial import TrialState

from study.engine import queue
from study.engine.queue import claim, open_storage, put_back, reap, worker_name
from study.engine.workers import Event, run_workers
from study.store.database import Database
from whisq_core.errors import InputError


def new_study(url: str, name: str, tickets: int) -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=open_storage(Database(url)))
    for _ in range(tickets):
        study.enqueue_trial({})
    return study


def lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        yield request.getfixturevalue("postgresql_url")


def test_eight_processes_run_each_of_160_short_tickets_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = new_study(url, "tiny", 160)
    events: list[Event] = []

    run_workers(TinyJob("tiny", tmp_path / "log"), url, 8, events.append)

    assert Counter(int(line[0]) for line in lines(tmp_path / "log")) == Counter(range(160))
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 160
    assert not [event for event in events if event.kind == "lost"]


def test_killed_workers_lose_no_ticket_and_count_none_twice(url: str, tmp_path: Path) -> None:
    study = new_study(url, "killed", 40)
    choose = random.Random(7)
    victims = {choose.randrange(3, 15), choose.randrange(18, 30)}
    started: list[Event] = []
    killed: list[int] = []

    def kill_some(event: Event) -> None:
        if event.kind != "done":
            return
        started.append(event)
        if len(started) in victims and len(killed) < 2:
            killed.append(int(event.text))
            os.kill(int(event.text), signal.SIGKILL)

    run_workers(TinyJob("killed", tmp_path / "log", seconds=0.05), url, 4, kill_some)

    assert len(killed) == 2
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40
    assert len({trial.params["x"] for trial in trials}) == 40


def test_the_ticket_of_a_killed_only_worker_is_run_again_with_its_parameters(url: str, tmp_path: Path) -> None:
    study = new_study(url, "alone", 5)
    program = (
        "import sys; from pathlib import Path; from helpers.jobs import TinyJob;"
        "from study.engine.workers import run_workers;"
        "job = TinyJob('alone', Path(sys.argv[2]), seconds=30.0);"
        "run_workers(job, sys.argv[1], 1, lambda event: print(event.kind, flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    worker = subprocess.Popen(
        [sys.executable, "-c", program, url, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "start\n"
    worker.kill()
    worker.wait()
    worker.stdout.close()
    half_done = study.get_trials()[0]
    assert half_done.state == TrialState.RUNNING

    run_workers(TinyJob("alone", tmp_path / "log"), url, 1, lambda event: None)

    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert trials[0].params == half_done.params
    assert len({trial.params["x"] for trial in trials}) == 5


def test_a_ticket_that_kills_every_worker_is_given_up_after_three(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = new_study(url, "poison", 3)

    run_workers(TinyJob("poison", tmp_path / "log", poison=1), url, 2, lambda event: None)

    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert study.get_trials()[1].user_attrs["reason"] == "its worker died 3 times (out of memory?)"


def test_a_ticket_goes_back_in_place_and_is_claimed_again(url: str) -> None:
    study = new_study(url, "back", 2)
    database = Database(url)
    first = claim(study, database, worker_name(), lambda _: True)
    assert first is not None
    assert first.number == 0
    assert put_back(study, first._trial_id)

    again = claim(study, database, worker_name(), lambda _: True)

    assert again is not None
    assert again.number == 0


def test_a_silent_worker_of_another_machine_loses_its_ticket_after_the_grace_period(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "GRACE_SECONDS", 1)
    study = new_study(url, "silent", 1)
    database = Database(url)
    assert claim(study, database, "elsewhere:1:1", lambda _: True) is not None
    assert reap(study, database) == 0
    time.sleep(2.5)

    assert reap(study, database) == 1
    assert study.get_trials()[0].state == TrialState.WAITING


def test_more_than_eight_workers_on_sqlite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 8 local workers"):
        run_workers(TinyJob("x", tmp_path / "log"), f"sqlite:///{tmp_path}/study.db", 9, lambda event: None)
