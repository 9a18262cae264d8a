"""What a person sees while it runs, on stderr: bars in a terminal, plain lines elsewhere."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from whisq_core.errors import InputError, printable, shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 10.0  # between two plain lines of one bar
_MOST_LINES, _LONGEST_LINE = 100, 800  # of mistakes: more would push the first ones off the screen


@dataclass(frozen=True)
class Event:
    """One step of a task on one worker."""

    kind: Literal["start", "epoch", "done", "stopped", "failed", "requeued"]
    worker: str
    title: str
    step: int = 0
    num_steps: int = 0
    text: str = ""


Show = Callable[[Event], None]


_log: list[IO[str]] = []  # the file of `--log-file`, if there is one


def keep_log(path: Path) -> None:
    """Append every line that is shown from now on to a file as well, with its time.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _log[:] = [path.open("a", encoding="utf-8")]
    except OSError as error:
        raise InputError(f"--log-file {path}: cannot be written: {error.strerror}. Give another file.") from None


def end_log() -> None:
    """Close the file of `keep_log`."""
    while _log:
        _log.pop().close()


def log(text: str) -> None:
    """One line on stderr."""
    _print_on_stderr(text)
    _write_log(text)


def _print_on_stderr(text: str) -> None:
    with suppress(OSError):  # nobody reads on, or there is no room: the work goes on
        print(printable(text), file=sys.stderr, flush=True)


def _write_log(text: str) -> None:
    for file in list(_log):
        try:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
            file.flush()
        except OSError as error:
            _log.clear()
            _print_on_stderr(f"note: --log-file {file.name}: {error.strerror}. It is written no further.")


def show(text: str) -> None:
    """A result on stdout, whatever names in it and whatever characters the terminal knows."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(printable(text), flush=True)
    except BrokenPipeError:  # nobody reads on, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explained(error: Exception) -> Sequence[str]:
    """One line for each thing that is wrong; what the system refuses is named with its file."""
    if isinstance(error, InputError):
        more = len(error.mistakes) - _MOST_LINES
        lines = [_shortened(line) for mistake in error.mistakes[:_MOST_LINES] for line in mistake.splitlines()]
        return [*lines, f"... and {more:,} more mistakes."] if more > 0 else lines
    if isinstance(error, MemoryError):
        return ["memory ran out. What was finished is saved. Give more memory, or fewer --workers."]
    assert isinstance(error, OSError)
    place = f"{shown(str(error.filename))[1:-1]}: " if error.filename else ""
    return [f"{place}{error.strerror or error}. Check the path and the disk; what was finished is saved."]


def _shortened(line: str) -> str:
    """Where a mistake is and what to do stand at both ends; names of thousands of characters in between."""
    line, half = printable(line), _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


@contextmanager
def task_progress(title: str, total: int) -> Iterator[Show]:
    """A bar over `total` tasks and a line per worker, fed with events."""
    with _bars() as bars:
        overall = bars.add_task(title, total=total, text="")
        lines: dict[str, TaskID] = {}

        def show(event: Event) -> None:
            if event.kind in ("start", "epoch"):
                if event.worker not in lines:
                    lines[event.worker] = bars.add_task("", total=None, text="")
                bars.update(
                    lines[event.worker],
                    description=f"  {event.title}",
                    completed=event.step,
                    total=event.num_steps or None,
                    text=event.text,
                )
                return
            if event.kind != "requeued":
                bars.advance(overall)
            number = int(bars.tasks[bars.task_ids.index(overall)].completed)
            text = f"[{number}/{total}] {event.title} {event.kind}: {event.text}".strip()
            _write_log(text)
            if not bars.console.is_terminal:
                _print_on_stderr(text)
            elif event.kind in ("failed", "requeued"):
                bars.console.print(text, markup=False)

        yield show


@contextmanager
def item_progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over items of equal cost, moved by calls with (done, total, text)."""
    with _bars() as bars:
        task = bars.add_task(title, total=None, text="")
        last_line = 0.0

        def move(done: int, total: int, text: str) -> None:
            nonlocal last_line
            bars.update(task, completed=done, total=total, text=text)
            now = time.monotonic()
            if done == total or now - last_line > _LINE_SECONDS:
                last_line, line = now, f"{title}: {done}/{total} {text}".rstrip()
                _write_log(line)
                if not bars.console.is_terminal:
                    _print_on_stderr(line)

        yield move


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, emoji=False, soft_wrap=True),  # "untrained:clap:" is no emoji
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
        transient=True,
    )
