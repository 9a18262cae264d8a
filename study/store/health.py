"""Whether a storage can be opened and written right now, found out within seconds and without making anything."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from study.store.urls import QUEUE_LOCK, create_engine, masked, open_error, sqlite_path
from whisq_core.errors import InputError

_PATIENCE = 2.0  # seconds; a working process holds a lock for a fraction of one


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a storage, and what to do."""

    what: str
    advice: str


def storage_trouble(url: str) -> Trouble | None:
    """What keeps the storage from being used, or None. A SQLite file must be there."""
    try:
        path = sqlite_path(url)
        return _sqlite(path, url) if path is not None else _postgresql(url)
    except InputError as error:
        return Trouble(str(error), "start the database server, or give another --storage")


def _sqlite(path: Path, url: str) -> Trouble | None:
    lock = Path(f"{path}.lock")
    if lock.exists() and not _within_patience(lambda: _can_lock(lock)):
        holders = [f"process {pid}{_name(pid)}" for pid in _holders(lock)]
        return _held(f"{lock}", " and ".join(holders) or "another process")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=_PATIENCE)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return _held(f"storage '{url}'", "another program that writes to it")
        return Trouble(f"storage '{url}': {error}", f"make {path} readable and writable, or give another --storage")
    except sqlite3.DatabaseError as error:
        return Trouble(f"storage '{url}': {error}", f"restore {path} from a copy, or give another --storage")
    return None


def _postgresql(url: str) -> Trouble | None:
    engine = create_engine(url)
    holder = sa.text(
        "SELECT a.pid, a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.objid = :lock AND l.granted"
    )
    attempt = sa.text("SELECT pg_try_advisory_xact_lock(:lock)")
    try:
        with engine.connect() as connection:
            if _within_patience(lambda: bool(connection.scalar(attempt, {"lock": QUEUE_LOCK}))):
                return None
            found = connection.execute(holder, {"lock": QUEUE_LOCK}).all()
    except (DBAPIError, OSError) as error:
        raise open_error(url, error) from None
    finally:
        engine.dispose()
    sessions = [f"session {line.pid} of {line.client_addr or 'this host'}" for line in found]
    return _held(f"the queue lock of {masked(url)}", " and ".join(sessions) or "another session")


def _held(what: str, holder: str) -> Trouble:
    return Trouble(f"{what}: held by {holder}", "wait until it goes on; if it hangs, end it: the lock goes with it")


def _within_patience(attempt: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _can_lock(path: Path) -> bool:
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _holders(path: Path) -> Iterator[int]:
    """The processes that hold a lock on a file, where the system tells."""
    inode, table = str(path.stat().st_ino), Path("/proc/locks")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    for line in lines:
        words = line.split()
        if words[1] == "FLOCK" and words[5].rsplit(":", 1)[1] == inode and int(words[4]) != os.getpid():
            yield int(words[4])


def _name(pid: int) -> str:
    """The program's name in brackets; not its arguments, which may hold a password."""
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text(encoding='utf-8').strip()})"
    except OSError:
        return ""
