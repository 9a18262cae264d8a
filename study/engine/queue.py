"""The queue of tickets: Optuna trials that are claimed exclusively, kept alive by heartbeats, and put back when lost.

A ticket is an Optuna trial. It is claimed under the storage's queue lock (`Database.exclusive`), so that no two workers
hold the same one, whatever the database. A worker that dies leaves its trial RUNNING; the trial goes back to WAITING
*in place*, with its number, parameters and attributes, so totals stay exact and no configuration is tried twice.
"""

import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from study.store.database import Database, with_retry
from study.store.urls import engine_options, full, lock_writers, open_error

HEARTBEAT_SECONDS = 60
GRACE_SECONDS = 5 * HEARTBEAT_SECONDS  # shorter, and workers that only paused were declared dead
MAX_LOSSES = 3  # a ticket whose worker died so often is failed: it is what kills them
_WORKER = "worker"
_LOSSES = "lost_workers"


def open_storage(database: Database) -> RDBStorage:
    """Optuna's storage on the same URL as `database`, with heartbeats and with exclusive writers on SQLite.

    Raises:
        InputError: when the URL cannot be opened or holds tables of another Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with database.exclusive(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(
                full(database.url),
                engine_kwargs=engine_options(database.url),
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )
    except (DBAPIError, RuntimeError) as error:
        raise open_error(database.url, error) from None
    storage.engine.dispose()
    lock_writers(storage.engine)
    return storage


def worker_name() -> str:
    """This process, told apart from an earlier one of the same number: host:pid:start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_process_start(os.getpid())}"


def is_dead(worker: str) -> bool:
    """Whether `worker` is known to have ended: a process of this host that is gone. Other hosts are never known."""
    host, pid, start = worker.rsplit(":", 2)
    return host == socket.gethostname() and _process_start(int(pid)) != start


def _process_start(pid: int) -> str:
    """The start time of a process in clock ticks since boot; "gone" when there is none (or it is a zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():  # no procfs (macOS): the number alone has to do
        try:
            os.kill(pid, 0)
        except OSError:
            return "gone"
        return "0"
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return "gone"
    return "gone" if fields[0] in "ZX" else fields[19]


Wanted = Callable[[FrozenTrial], bool]


def claim(study: optuna.Study, database: Database, worker: str, wanted: Wanted) -> optuna.Trial | None:
    """Take the oldest waiting ticket that is `wanted`, or return None when none waits."""
    storage: Any = study._storage  # Optuna's cache around RDBStorage: its type says less than it does
    with database.exclusive():
        waiting = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)) if wanted(trial)]
        if not waiting:
            return None
        trial_id = min(waiting, key=lambda trial: trial.number)._trial_id
        storage.set_trial_user_attr(trial_id, _WORKER, worker)
        storage.record_heartbeat(trial_id)
        if not storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
            return None  # the lock was lost with its connection, and another worker was quicker
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, trial_id)


def owns(trial: optuna.Trial, worker: str) -> bool:
    """Whether `worker` still holds the trial; it lost it when it was silent for longer than the grace period."""
    frozen = trial.storage.get_trial(trial._trial_id)
    return frozen.state == TrialState.RUNNING and frozen.user_attrs.get(_WORKER) == worker


def put_back(study: optuna.Study, trial_id: int) -> bool:
    """Return a running ticket to the queue in place; False when it is not running any more."""
    try:
        if study._storage.get_trial(trial_id).state != TrialState.RUNNING:
            return False
        return study._storage.set_trial_state_values(trial_id, state=TrialState.WAITING)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False


def lost(study: optuna.Study) -> list[FrozenTrial]:
    """Running tickets whose worker is gone: dead on this host, or silent for the grace period anywhere."""
    storage: Any = study._storage
    stale = set(storage._get_stale_trial_ids(study._study_id))
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [
        trial for trial in running if trial._trial_id in stale or is_dead(trial.user_attrs.get(_WORKER, "unknown:0:0"))
    ]


def reap(study: optuna.Study, database: Database) -> int:
    """Put every lost ticket back into the queue; returns how many there were."""
    if not lost(study):
        return 0
    with database.exclusive():
        trials = lost(study)
        for trial in trials:
            study._storage.set_trial_user_attr(trial._trial_id, _LOSSES, losses(trial) + 1)
        return sum(put_back(study, trial._trial_id) for trial in trials)


def losses(trial: optuna.Trial | FrozenTrial) -> int:
    """How many workers died over this ticket."""
    return int(trial.user_attrs.get(_LOSSES, 0))


def unfinished(study: optuna.Study, wanted: Wanted) -> list[FrozenTrial]:
    """Wanted tickets that still wait or run, here or elsewhere."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
        if wanted(trial)
    ]


@contextmanager
def heartbeat(trial: optuna.Trial, interval: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Say that this process is alive, every `interval` seconds while the block runs."""
    stop = threading.Event()
    storage: Any = trial.storage

    def beat() -> None:
        while not stop.wait(interval):
            with_retry(lambda: storage.record_heartbeat(trial._trial_id), patience_seconds=interval)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
