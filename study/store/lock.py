"""One lock per storage, held by whichever command writes; the system releases it when its holder dies.

SQLite: a lock on the file `<database>.lock`. PostgreSQL: an advisory lock of one session, taken again when the
connection was lost in between.
"""

import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import sqlalchemy as sa

from study.store.retry import with_retry
from study.store.urls import masked, sqlite_path
from whisq_core.errors import InputError
from whisq_core.files import check_regular, open_regular

_KEY = 4711042  # of the advisory lock: any number that nobody else uses
_LARGEST = 4096  # bytes of a lock file
_POLL = 0.5  # seconds between two tries of a command that waits

_HOLDER = sa.text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.objid = :key AND l.granted AND a.datname = current_database()"
)


class StorageLock:
    """The right to write into one storage; taken by one command at a time, as often as that command likes."""

    def __init__(self, url: str, engine: sa.Engine) -> None:
        self._name, self._engine = masked(url), engine
        database = sqlite_path(url)
        self._path = None if database is None else Path(f"{database}.lock")
        self._file: IO[str] | None = None
        self._session: sa.Connection | None = None
        self._depth, self._label = 0, ""

    @contextmanager
    def held(self, command: str, wait: bool = False) -> Iterator[None]:
        """Hold the lock; `command` is what others are told about its holder.

        Where another process holds it and `wait` is false, an `InputError` names that one.
        """
        if self._depth == 0:
            self._label = f"{command}, process {os.getpid()} on {socket.gethostname()}"[:63]
            self._acquire(wait)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._release()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of the holder, on PostgreSQL in the very session that holds the lock: none goes in without it.

        A session that was lost is opened again, and takes the lock again: an `InputError` where another process has
        taken it meanwhile. While the database is away, the driver's own error.
        """
        if self._depth == 0 or self._path is not None:
            with self._engine.begin() as connection:
                yield connection
            return
        if self._session is None or self._session.invalidated:
            self._session = None
            self._engine.dispose()
            if not self._try():
                raise InputError(
                    f"storage '{self._name}': while it was away another command took over writing ({self.holder()}). "
                    "What is stored stays. Run the same command again when that one has finished."
                )
        assert self._session is not None
        with self._session.begin():
            yield self._session

    def holder(self) -> str | None:
        """Who holds the lock, in words, or None when nobody does."""
        if self._path is not None:
            return self._file_holder(self._path)

        def ask() -> str | None:
            with self._engine.connect() as connection:
                found: str | None = connection.scalar(_HOLDER, {"key": _KEY})
                return found

        return with_retry(ask)

    def _acquire(self, wait: bool) -> None:
        if with_retry(self._try):
            return
        holder = self.holder() or "another process"
        if not wait:
            raise InputError(
                f"storage '{self._name}': another command is writing to it ({holder}). "
                "Run this one when that has finished, or give --wait."
            )
        print(f"waiting until {holder} has finished writing to {self._name}", file=sys.stderr)
        while not with_retry(self._try):
            time.sleep(_POLL)

    def _try(self) -> bool:
        if self._path is not None:
            return self._try_file(self._path)
        session = self._engine.connect()
        session.execute(sa.text("SELECT set_config('application_name', :label, false)"), {"label": self._label})
        if session.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}):
            session.commit()
            self._session = session
            return True
        session.invalidate()  # its name is not to stay on a pooled connection
        session.close()
        return False

    def _try_file(self, path: Path) -> bool:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            check_regular(path, _LARGEST)
            file = os.fdopen(descriptor, "a+", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"storage '{self._name}': cannot be written: {path}: {error.strerror or error}. Give another --storage."
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(self._label)
        file.flush()
        self._file = file
        return True

    def _file_holder(self, path: Path) -> str | None:
        try:
            file = open_regular(path, _LARGEST)
        except OSError:  # there is none, or nobody can hold it
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _described(file.read().decode(errors="replace"))
        return None

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._session is not None:
            self._session.invalidate()  # closes the session, and with it the lock
            self._session.close()
            self._session = None


def _described(label: str) -> str:
    """The holder in words; a process of this machine that was stopped will not give the lock back by itself."""
    found = re.search(r"process (\d+) on (\S+)$", label)
    if found is None or found[2] != socket.gethostname()[: len(found[2])]:
        return label or "another process"
    with suppress(psutil.Error):
        if psutil.Process(int(found[1])).status() == psutil.STATUS_STOPPED:
            return f"{label}, which is stopped: `kill -CONT {found[1]}` lets it go on, `kill {found[1]}` then ends it"
    return label
