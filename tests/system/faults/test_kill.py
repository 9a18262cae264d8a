"""SIGKILL at seeded random moments, then the same command again: not a byte differs from an undisturbed run."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers.clusters import started_cluster
from helpers.command import run, started_script
from helpers.faults import (
    ABLATE_BY_TWO,
    FAULTY,
    NUM_CELLS,
    Outcome,
    check_whole,
    features,
    kill_at,
    leftovers,
    living,
    num_features,
    num_runs,
    outcome_of,
    wait_for,
    wait_until,
)
from helpers.forked import Commands
from helpers.studies import Place, beginning_in


@pytest.mark.slow
def test_a_killed_encode_goes_on_to_the_same_features(finished_study: Place, tmp_path: Path) -> None:
    choose = random.Random(1)
    place = beginning_in(tmp_path / "study", finished_study, tmp_path / "features")
    moments = sorted(choose.randrange(1, num_features(finished_study)) for _ in range(2))

    for moment in moments:
        assert kill_at(moment, lambda: num_features(place), choose.uniform(0, 0.02), place.folder, place.encode)
    finished = run(place.folder, *place.encode)

    assert finished.status == 0, finished.err
    assert features(place) == features(finished_study)
    assert leftovers(place.features) == []


@pytest.mark.slow
def test_a_killed_ablate_goes_on_to_the_same_tables(finished_study: Place, tmp_path: Path) -> None:
    choose = random.Random(3)
    place = beginning_in(tmp_path, finished_study)
    moments = sorted(choose.randrange(1, NUM_CELLS) for _ in range(2))

    for moment, workers in zip(moments, (1, 2), strict=True):
        arguments = (*place.ablate, "--workers", workers)
        assert kill_at(moment, lambda: num_runs(place), choose.uniform(0, 0.3), place.folder, arguments)
    finished = run(place.folder, *place.ablate)

    assert finished.status == 0, finished.err
    check_whole(place, finished_study)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_killed_worker_of_a_started_scheduler_is_not_seen_in_the_tables(
    finished_study: Place, tmp_path: Path, number: int
) -> None:
    choose = random.Random(f"scheduler {number}")
    place = beginning_in(tmp_path / "study", finished_study)
    with started_cluster(tmp_path / "cluster") as cluster:
        arguments = (*place.ablate[:-2], "--scheduler", cluster.file)
        with started_script(place.folder, *arguments) as process:
            wait_for(process, lambda: num_runs(place), choose.randrange(1, NUM_CELLS - 2))
            time.sleep(choose.uniform(0, 0.3))
            assert process.poll() is None, "it ended before the kill"
            os.kill(choose.choice(cluster.workers()), signal.SIGKILL)
            if number % 2:  # for good: the nanny would start it again
                choose.choice(cluster.nannies).kill()
            _, err = process.communicate()

    assert process.returncode == 0, err
    check_whole(place, finished_study)


def test_nothing_of_an_ablate_lives_on_when_its_coordinator_is_killed(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome]
) -> None:
    pid = commands.start(beginning, *ABLATE_BY_TWO)
    wait_until(beginning, 3)
    os.kill(pid, signal.SIGKILL)
    commands.wait(pid)

    deadline = time.monotonic() + 10
    while living(pid):
        assert time.monotonic() < deadline, "workers live on without their coordinator"
        time.sleep(0.05)
    assert commands.run(beginning, *FAULTY["ablate"].split()).status == 0
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.parametrize(
    ("workers", "times"),
    [(1, 1), (2, 2), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(2, 1, marks=pytest.mark.slow)],
)
def test_ctrl_c_ends_within_seconds_and_says_how_to_go_on(
    finished_study: Place, tmp_path: Path, workers: int, times: int
) -> None:
    place = beginning_in(tmp_path, finished_study)
    with started_script(place.folder, *place.ablate, "--workers", workers) as process:
        wait_for(process, lambda: num_runs(place), 3)
        asked = time.monotonic()
        for _ in range(times):  # the second one by somebody impatient
            os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the command
            time.sleep(0.2)
        _, err = process.communicate()

    assert process.returncode == 130
    assert time.monotonic() - asked < 30
    assert err.splitlines()[-1] == "stopped; what was finished is saved, run the same command to go on"
    assert "Traceback" not in err
    assert not living(process.pid)


def test_a_second_command_on_the_same_storage_is_told_who_writes(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome]
) -> None:
    pid = commands.start(beginning, *FAULTY["ablate"].split())
    wait_until(beginning, 1)
    second = commands.run(beginning, *FAULTY["ablate"].split())
    first = commands.wait(pid)

    assert second.status == 2
    assert f"whisq-study ablate, process {pid} on " in second.errors[0]
    assert first.status == 0, first
    assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_study_killed_anywhere_and_often_ends_the_same(finished_study: Place, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    place = beginning_in(tmp_path / "study", finished_study, tmp_path / "features")

    def progress() -> int:
        return num_features(place) + num_runs(place)

    end = num_features(finished_study) + NUM_CELLS
    for _ in range(4):
        moment = choose.randrange(progress(), end + 2)  # beyond the end: while it publishes, or not at all
        arguments = (*place.ablate, "--workers", choose.choice((1, 2)))
        kill_at(moment, progress, choose.uniform(0, 1.0), place.folder, arguments)
    finished = run(place.folder, *place.ablate)

    assert finished.status == 0, finished.err
    assert features(place) == features(finished_study)
    check_whole(place, finished_study)
