"""Locks, stopped processes, little memory, files that vanish: a stated outcome, and what follows is whole."""

import os
import resource
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from helpers.controls import children, is_worker
from helpers.faults import ABLATE_BY_TWO as BY_TWO
from helpers.faults import FAULTY, Outcome, outcome_of, wait_until
from helpers.forked import Commands
from helpers.malformed import also_long

ABLATE = FAULTY["ablate"].split()


def a_worker(pid: int) -> int:
    deadline = time.monotonic() + 120
    while not (found := [child for child in children(pid) if is_worker(child)]):
        assert time.monotonic() < deadline, "no worker has started"
        time.sleep(0.05)
    return found[0]


@pytest.mark.parametrize("seconds", [5, pytest.param(90, marks=pytest.mark.slow)])
def test_a_database_that_another_program_locks_is_waited_for(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], seconds: int
) -> None:
    pid = commands.start(beginning, *ABLATE)
    wait_until(beginning, 2)
    connection = sqlite3.connect(beginning / "whisq.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()
    answer = commands.wait(pid)

    assert answer.status == 0, answer
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


def test_a_stopped_command_that_holds_the_lock_is_named_at_once(commands: Commands, beginning: Path) -> None:
    pid = commands.start(beginning, *ABLATE)
    wait_until(beginning, 1)
    os.kill(pid, signal.SIGSTOP)
    answer = commands.run(beginning, *ABLATE)
    os.kill(pid, signal.SIGCONT)

    assert answer.status == 2
    assert f"process {pid} on " in answer.errors[0]
    assert "which is stopped" in answer.errors[0]
    assert answer.cpu_seconds < 10
    assert commands.wait(pid).status == 0


def test_of_two_commands_at_once_one_runs_and_one_is_told(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome]
) -> None:
    both = [commands.start(beginning, *ABLATE) for _ in range(2)]
    answers = sorted((commands.wait(pid) for pid in both), key=lambda answer: answer.status)

    assert [answer.status for answer in answers] in ([0, 2], [0, 0]), answers
    assert not any("Traceback" in answer.err for answer in answers)
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.parametrize("name", also_long(["whisq.db", "out", "features", "corpus/wav"]))
def test_what_is_removed_in_the_middle_is_named_and_made_again(
    commands: Commands, inputs: Path, beginning: Path, undisturbed: dict[str, Outcome], name: str
) -> None:
    pid = commands.start(beginning, *ABLATE)
    wait_until(beginning, 2)
    os.kill(pid, signal.SIGSTOP)
    path = beginning / name
    shutil.rmtree(path, ignore_errors=True)
    for file in beginning.glob("whisq.db*") if name == "whisq.db" else ():
        file.unlink()
    os.kill(pid, signal.SIGCONT)
    answer = commands.wait(pid)

    assert answer.status in (0, 1, 2), answer
    assert "Traceback" not in answer.err, answer
    shutil.copytree(inputs, beginning, dirs_exist_ok=True)
    assert commands.run(beginning, *ABLATE).status == 0
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.slow
def test_a_stopped_worker_holds_up_no_other_and_goes_on(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome]
) -> None:
    pid = commands.start(beginning, *BY_TWO)
    worker = a_worker(pid)
    wait_until(beginning, 1)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(5)
    os.kill(worker, signal.SIGCONT)
    answer = commands.wait(pid)

    assert answer.status == 0, answer
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, 64, 400])
def test_a_worker_with_little_memory_ends_in_lines_and_not_in_silence(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], more: int
) -> None:
    pid = commands.start(beginning, *BY_TWO)
    worker = a_worker(pid)
    wait_until(beginning, 1)
    pages = int(Path(f"/proc/{worker}/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more * 2**20
    resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
    answer = commands.wait(pid)

    assert answer.status in (0, 1), answer
    assert "Traceback" not in answer.err, answer
    assert commands.run(beginning, *ABLATE).status == 0
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.parametrize("signal_", also_long([signal.SIGTERM, signal.SIGINT]))
@pytest.mark.parametrize("command", also_long(["ablate", "encode", "optimize", "report"]))
def test_a_command_that_is_asked_to_end_does_and_goes_on_later(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], command: str, signal_: signal.Signals
) -> None:
    if command == "report":
        assert commands.run(beginning, *ABLATE).status == 0
    pid = commands.start(beginning, *FAULTY[command].split())
    threading.Event().wait(undisturbed[command].seconds / 2)
    os.killpg(pid, signal_)
    answer = commands.wait(pid)

    assert answer.status in (0, 130, -2, -15), answer
    assert "Traceback" not in answer.err, answer
    assert commands.run(beginning, *FAULTY[command].split()).status == 0
    assert outcome_of(beginning, command) == undisturbed[command]
