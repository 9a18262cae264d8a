"""What to do while a database is away: wait and try again, as long as that can help."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from study.interrupts import unbroken
from whisq_core.errors import InputError

_PATIENCE = 3600.0  # seconds that a database may be away
_PASSING = ("locked", "busy")  # what SQLite says while another program writes
# PostgreSQL: no connection, conflict, shutdown, too many, locked
_PASSING_STATES = ("08", "40", "57", "53300", "55P03")

Result = TypeVar("Result")


def with_retry(action: Callable[[], Result]) -> Result:
    """Run `action` again while the database is away or locked, waiting 0.1 s, 0.2 s, ... 30 s between tries.

    Once the user has asked for the end (Ctrl-C, SIGTERM), what is still to be tidied up is tried once.

    Raises
    ------
    InputError
        When it stays away for an hour, or fails for a reason that waiting does not mend (disk full, read-only).
    """
    ending = isinstance(sys.exception(), KeyboardInterrupt)
    try:
        return tried_for(0.0 if ending else _PATIENCE, action)
    except DBAPIError as error:
        if ending:
            raise KeyboardInterrupt from error
        raise InputError(
            f"the database cannot be used: {str(error.orig).strip().splitlines()[0]}. What was stored before "
            "is safe. Mend that, then run the same command again."
        ) from error


def tried_for(patience: float, action: Callable[[], Result]) -> Result:
    """As `with_retry`, for so many seconds; then the driver's own error."""
    pause, deadline = 0.1, time.monotonic() + patience
    while True:
        try:
            return unbroken(action)
        except DBAPIError as error:
            if not _passes(error) or time.monotonic() + pause > deadline:
                raise
            if pause > 1.0:
                print(f"the database does not answer, trying again: {error.orig}", file=sys.stderr)
            time.sleep(pause)
            pause = min(2 * pause, 30.0)


def _passes(error: DBAPIError) -> bool:
    """Whether it is worth waiting: a server that is away comes back, a full disk does not."""
    if type(error.orig).__module__.startswith("sqlite3"):
        return any(word in str(error.orig) for word in _PASSING)
    state = getattr(error.orig, "sqlstate", None)  # None: the connection is gone
    return state is None or state.startswith(_PASSING_STATES)
