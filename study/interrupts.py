"""Ctrl-C where it can be borne: what must not be left halfway ends first.

A database library whose transaction is broken off anywhere cannot be used any more: SQLAlchemy's session keeps its
half-done state, and the connection its lock.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

_PATIENCE = 3.0  # seconds that a Ctrl-C is put off at most
_AGAIN = 0.05  # seconds after which one that was lost comes again

Result = TypeVar("Result")


@dataclass
class _PutOff:
    depth: int = 0  # of `unbroken`, in the main thread
    came: bool = False  # a Ctrl-C has come inside


_put_off = _PutOff()


@contextmanager
def heeding_ctrl_c(patience: float = _PATIENCE) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM are KeyboardInterrupt: after what is `unbroken`, for which they wait `patience` s.

    One that comes while Python clears something away, where no exception can pass, comes again. SIGTERM is the notice
    of a batch system. For the main thread only.
    """

    def came(number: int, _frame: FrameType | None) -> None:
        if not _put_off.depth or (_put_off.came and number == signal.SIGALRM):
            raise KeyboardInterrupt
        if not _put_off.came:
            _put_off.came = True
            signal.setitimer(signal.ITIMER_REAL, patience)

    def lost(what: "sys.UnraisableHookArgs") -> None:
        if what.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            hook(what)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background of a script
        numbers.remove(signal.SIGINT)
    hook, sys.unraisablehook = sys.unraisablehook, lost
    before = {number: signal.signal(number, came) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def unbroken(action: Callable[[], Result]) -> Result:
    """Run `action`; a Ctrl-C that comes meanwhile is raised at its end, or where it asks by `heed_now`."""
    if threading.current_thread() is not threading.main_thread():  # where no signal is heard
        return action()
    _put_off.depth += 1
    try:
        return action()
    finally:
        _put_off.depth -= 1
        if not _put_off.depth:
            heed_now()


def heed_now() -> None:
    """Raise a Ctrl-C that has been put off: a place where what is `unbroken` can be left."""
    if _put_off.came:
        _put_off.came = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt
