"""Ctrl-C ends what can be left, and waits for what cannot."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import optuna
import pytest

from study.dashboard import open_storage, retried
from study.interrupts import heed_now, heeding_ctrl_c, unbroken
from study.store import Database


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_heeded_even_where_python_lets_no_exception_pass() -> None:
    class Going:
        def __del__(self) -> None:
            ctrl_c()

    with heeding_ctrl_c():
        Going()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_unbroken_ends_before_a_signal_is_heeded(number: signal.Signals) -> None:
    done = []

    def action() -> None:
        unbroken(partial(signal.raise_signal, number))
        signal.raise_signal(number)
        done.append(True)

    with heeding_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            unbroken(action)
        time.sleep(0.01)  # and it comes once

    assert done


def test_a_long_action_is_left_where_it_asks() -> None:
    def action() -> None:
        heed_now()
        ctrl_c()
        heed_now()
        pytest.fail("went on")

    with heeding_ctrl_c(), pytest.raises(KeyboardInterrupt):
        unbroken(action)


def test_an_action_that_hangs_is_left_after_a_while() -> None:
    def hang() -> None:
        ctrl_c()
        time.sleep(60)

    with heeding_ctrl_c(patience=0.05), pytest.raises(KeyboardInterrupt):
        unbroken(hang)


def test_ctrl_c_is_not_lost_behind_an_error_of_the_action() -> None:
    def fail() -> None:
        ctrl_c()
        raise ValueError

    with heeding_ctrl_c(), pytest.raises(KeyboardInterrupt):
        unbroken(fail)


def test_another_thread_puts_nothing_off() -> None:
    ended: list[bool] = []
    other = Thread(target=unbroken, args=(lambda: ended.append(True) or time.sleep(0.5),))

    with heeding_ctrl_c():
        other.start()
        while not ended:
            time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()
    other.join()


@contextmanager
def ctrl_c_at_line(wanted: int, package: str) -> Iterator[Callable[[], bool]]:
    """Ctrl-C before the line of a package that is the `wanted`-th to be run; yields whether it has come."""
    left = wanted

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if f"/{package}/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                ctrl_c()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: left <= 0
    finally:
        sys.settrace(before)


def test_wherever_ctrl_c_comes_while_a_trial_is_told_it_is_told_and_the_storage_serves_on(tmp_path: Path) -> None:
    storage = open_storage(Database(f"sqlite:///{tmp_path}/whisq.db"))
    study, line, told = optuna.create_study(storage=storage), 1, 0
    with heeding_ctrl_c():
        while True:
            trial = retried(study.ask)
            with ctrl_c_at_line(line, "sqlalchemy") as came:
                try:
                    retried(partial(study.tell, trial, 0.5))
                except KeyboardInterrupt:
                    told += 1
            if not came():
                break
            line += 1 + line // 4

    trials = study.get_trials(deepcopy=False)
    assert told == len(trials) - 1 > 10
    assert all(trial.state.is_finished() for trial in trials)
