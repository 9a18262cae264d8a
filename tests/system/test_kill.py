"""SIGKILL at seeded random moments, then the same command again: not a byte differs from an undisturbed run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from helpers.command import run, started_script
from helpers.studies import Place, beginning_in, copied_to
from optuna.trial import TrialState

from study.engine.queue import open_storage, worker_name
from study.store.database import Database

NUM_CELLS = 24
_PATIENCE = 300  # seconds until a command that makes no progress counts as hung


def wait_for(process: subprocess.Popen[str], progress: Callable[[], int], moment: int) -> None:
    """Return when the progress has reached `moment`, or the process has ended."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and progress() < moment:
        assert time.monotonic() < deadline, "the command hangs"
        time.sleep(0.005)


def kill_at(
    moment: int, progress: Callable[[], int], delay: float, folder: Path, arguments: tuple[object, ...]
) -> bool:
    """Start a command and kill it with all its processes `delay` seconds after its progress has reached `moment`.

    Returns:
        Whether it was still running then.
    """
    with started_script(folder, *arguments) as process:
        wait_for(process, progress, moment)
        time.sleep(delay)
        if process.poll() is not None:
            return False
        os.killpg(process.pid, signal.SIGKILL)
        return True


def living(group: int) -> bool:
    """Whether a process group has a process that is not a zombie: in a container nobody may wait for orphans."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, its_group = stat.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def features(place: Place) -> dict[str, bytes]:
    """Every file of the stores by its place."""
    stores = [path for path in place.features.glob("*/*") if path.parent.name != "cache"]
    return {str(path.relative_to(place.features)): path.read_bytes() for path in stores}


def num_features(place: Place) -> int:
    return sum(1 for _ in place.features.glob("*/*.safetensors"))


def num_runs(place: Place) -> int:
    """How many runs are stored; 0 before the database is there."""
    return Database(place.storage).count_runs() if (place.folder / "whisq.db").exists() else 0


def leftovers(*folders: Path) -> list[Path]:
    """Temporary files."""
    return [path for folder in folders for path in folder.rglob("*") if path.suffix == ".tmp" or "~" in path.name]


def study_of(place: Place) -> optuna.Study:
    return optuna.load_study(study_name="table2", storage=open_storage(Database(place.storage)))


def check_whole(place: Place, undisturbed: Place) -> None:
    """The study is as if nothing had happened: same tables, every ticket closed, nothing half-written."""
    assert place.tables() == undisturbed.tables()
    states = [trial.state for trial in study_of(place).get_trials(deepcopy=False)]
    assert len(states) == NUM_CELLS
    assert set(states) <= {TrialState.COMPLETE, TrialState.PRUNED}, states
    assert leftovers(place.folder, place.features) == []


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


def test_ctrl_c_puts_the_running_cell_back_and_says_how_to_go_on(finished_study: Place, tmp_path: Path) -> None:
    place = beginning_in(tmp_path, finished_study)
    with started_script(place.folder, *place.ablate) as process:
        wait_for(process, lambda: num_runs(place), 3)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the command
        _, err = process.communicate()

    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped; what was finished is saved, run the same command to go on"
    assert "Traceback" not in err
    states = [trial.state for trial in study_of(place).get_trials(deepcopy=False)]
    assert TrialState.RUNNING not in states
    assert len(states) == NUM_CELLS


def test_a_worker_that_is_still_starting_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "log"
    study = optuna.create_study(study_name="tiny", storage=open_storage(Database(url)))
    study.enqueue_trial({})
    program = (
        "import os, signal, sys, time; from pathlib import Path; from helpers.jobs import TinyJob;"
        "from study import workers; job = TinyJob('tiny', Path(sys.argv[2]), seconds=0.1);"
        "pool = workers._Pool(job, sys.argv[1], 2, lambda event: print(event.kind));"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(0.5); os.killpg(0, signal.SIGINT); pool.run()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", program, url, str(log)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, start_new_session=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert "lost" not in done.stdout
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_supervisor(tmp_path: Path, how: signal.Signals) -> None:
    url, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "log"
    study = optuna.create_study(study_name="tiny", storage=open_storage(Database(url)))
    for _ in range(300):
        study.enqueue_trial({})
    program = (
        "import sys; from pathlib import Path; from helpers.jobs import TinyJob;"
        "from study.engine.workers import run_workers;"
        "run_workers(TinyJob('tiny', Path(sys.argv[2]), seconds=0.1), sys.argv[1], 2, lambda event: None)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", program, url, str(log)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(process, lambda: log.read_text().count("\n") if log.exists() else 0, 4)
        process.send_signal(how)

    deadline = time.monotonic() + _PATIENCE
    while living(process.pid):
        assert time.monotonic() < deadline, "workers live on without their supervisor"
        time.sleep(0.05)
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    assert TrialState.WAITING in states
    assert TrialState.RUNNING not in states


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


def test_a_ticket_whose_worker_died_after_storing_its_run_is_closed_without_training(
    finished_study: Place, tmp_path: Path
) -> None:
    place = copied_to(tmp_path, finished_study)
    (place.out / ".published.json").unlink()  # written last, so a killed run has not got there
    database = Database(place.storage)
    before = database.headers("table2")
    number, dead = 4, f"{worker_name().split(':')[0]}:{2**22 + 1}:1"
    trial = study_of(place).get_trials(deepcopy=False)[number]
    with database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM trial_values WHERE trial_id = :id"), {"id": trial._trial_id})
        connection.execute(sa.text("UPDATE trials SET state = 'RUNNING' WHERE trial_id = :id"), {"id": trial._trial_id})
    study_of(place)._storage.set_trial_user_attr(trial._trial_id, "worker", dead)

    finished = run(place.folder, *place.ablate)

    assert finished.status == 0, finished.err
    assert database.headers("table2") == before
    check_whole(place, finished_study)
    closed = study_of(place).get_trials(deepcopy=False)[number]
    assert (closed.state, closed.values) == (trial.state, trial.values)
