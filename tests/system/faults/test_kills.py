"""SIGKILL at random moments of each command: what is stored is whole, and what follows gives the same bytes."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml
from helpers.controls import children, is_worker
from helpers.faults import FAULTY, Outcome, kill_group, leftovers, outcome_of
from helpers.forked import Commands
from helpers.malformed import also_long

MOMENTS = 4  # of each series of kills, one after the other in the same study
_SHORT, _LONG = 1, 16  # series of each command


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n < _SHORT else pytest.mark.slow) for n in range(_LONG)]
)
@pytest.mark.parametrize("command", also_long(["ablate", "encode", "optimize", "report"]))
def test_a_command_killed_at_any_moment_ends_as_if_it_had_not_been(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], command: str, number: int
) -> None:
    choose, words = random.Random(f"{command} {number}"), FAULTY[command].split()
    if command == "report":
        assert commands.run(beginning, *FAULTY["ablate"].split()).status == 0
    for _ in range(MOMENTS):
        pid = commands.start(beginning, *words)
        time.sleep(choose.uniform(0, undisturbed[command].seconds))
        kill_group(pid)
        answer = commands.wait(pid)
        assert "Traceback" not in answer.err, answer

    answer = commands.run(beginning, *words)

    assert answer.status == 0, answer
    assert outcome_of(beginning, command) == undisturbed[command]
    assert leftovers(beginning) == []


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n < 1 else pytest.mark.slow) for n in range(6)])
@pytest.mark.parametrize("victim", also_long(["worker", "coordinator", "group"]))
@pytest.mark.parametrize("command", ["ablate", pytest.param("optimize", marks=pytest.mark.slow)])
def test_processes_killed_at_any_moment_are_not_seen_in_the_results(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], command: str, victim: str, number: int
) -> None:
    choose, words = random.Random(f"{command} {victim} {number}"), FAULTY[command].replace("--workers 1", "--workers 2")
    pid = commands.start(beginning, *words.split())
    deadline = time.monotonic() + 120
    while not (workers := [child for child in children(pid) if is_worker(child)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(choose.uniform(0, 4))
    if victim == "group":
        kill_group(pid)
    else:
        os.kill(pid if victim == "coordinator" else choose.choice(workers), signal.SIGKILL)
    killed = commands.wait(pid)
    assert killed.status == (0 if victim == "worker" else -9) or not killed.err.count("Traceback"), killed

    answer = commands.run(beginning, *FAULTY[command].split())

    assert answer.status == 0, answer
    found = outcome_of(beginning, command)
    if command == "optimize":  # which trials two workers make depends on their speed
        assert len(found.trials) == len(undisturbed[command].trials)
    else:
        assert found == undisturbed[command]
    assert leftovers(beginning) == []
    assert yaml.safe_load((beginning / "table.yaml").read_text())["seeds"] == list(range(8))
