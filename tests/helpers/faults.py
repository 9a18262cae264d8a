"""What tests of kills and faults share: how far a command is, killing it, and what must be as before."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from helpers.command import started_script
from helpers.studies import CSV_TABLES, Place

from study.dashboard import open_storage
from study.search.study import finished_trials
from study.store import Database
from whisq_core.errors import InputError

NUM_CELLS = 24
_PATIENCE = 600  # seconds until a command that makes no progress counts as hung


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


def kill_group(pid: int) -> None:
    """End a command with all its processes, also one that has not yet become the leader of its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)


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
    """How many items are encoded."""
    return sum(1 for _ in place.features.glob("*/*.safetensors"))


def num_runs(place: Place) -> int:
    """How many runs are stored; 0 before the database is there."""
    try:
        return Database(place.storage).count_runs() if (place.folder / "whisq.db").exists() else 0
    except InputError:  # it is just being made
        return 0


def leftovers(*folders: Path) -> list[Path]:
    """Temporary files."""
    return [path for folder in folders for path in folder.rglob("*") if path.suffix == ".tmp" or "~" in path.name]


def check_whole(place: Place, undisturbed: Place) -> None:
    """The study is as if nothing had happened: the same tables, and nothing half-written."""
    assert place.tables() == undisturbed.tables()
    assert num_runs(place) == num_runs(undisturbed)
    assert leftovers(place.folder, place.features) == []


@contextlib.contextmanager
def stopped_later(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a process that a failed test has left."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# --- a study that takes seconds -------------------------------------------------------------------------------------

_WHERE = "--data corpus --features features"
FAULTY = {
    "encode": f"encode table.yaml {_WHERE} --workers 1",
    "ablate": f"ablate table.yaml {_WHERE} --storage sqlite:///whisq.db --out out --workers 1",
    "optimize": f"optimize table.yaml {_WHERE} --storage sqlite:///whisq.db --out out --trials 6 --workers 1",
    "report": "report table.yaml --storage sqlite:///whisq.db --out out",
}
ABLATE_BY_TWO = FAULTY["ablate"].replace("--workers 1", "--workers 2").split()


def stored(folder: Path) -> int:
    """How many runs are stored."""
    try:
        with sqlite3.connect(f"file:{folder}/whisq.db?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM whisq_runs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_until(folder: Path, number: int) -> None:
    """Until so many runs are stored."""
    deadline = time.monotonic() + 300
    while stored(folder) < number:
        assert time.monotonic() < deadline, "the command hangs"
        time.sleep(0.01)


@dataclass(frozen=True)
class Outcome:
    """What a command leaves, as far as it depends on nothing but its input; `seconds` is how long it took."""

    files: dict[str, bytes]
    trials: list[tuple[dict[str, object], float | None]]
    seconds: float = field(default=0.0, compare=False)


def outcome_of(folder: Path, command: str, seconds: float = 0.0) -> Outcome:
    """The outcome of a command in a study's folder."""
    names = {"encode": (), "ablate": CSV_TABLES, "report": CSV_TABLES, "optimize": ()}[command]
    files = {name: (folder / "out" / name).read_bytes() for name in names}
    files |= {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("features/*-*/*"))}
    trials: list[tuple[dict[str, object], float | None]] = []
    if command == "optimize":
        storage = open_storage(Database(f"sqlite:///{folder}/whisq.db"))
        study = optuna.load_study(study_name="table-whisq", storage=storage)
        assert all(trial.state.is_finished() for trial in study.trials), "a trial is left running"
        trials = [(trial.params, trial.value) for trial in finished_trials(study)]
        best = (folder / "out/table-whisq/best.yaml").read_bytes().splitlines()
        files["best"] = b"\n".join(line for line in best if not line.startswith(b"#"))
    if command == "report":
        assert (folder / "out/report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    return Outcome(files, trials, seconds)
