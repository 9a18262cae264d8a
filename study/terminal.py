"""Live progress on stderr: a bar over all cells and a line per worker; plain lines where there is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from study.engine.workers import Emit, Event

console = Console(stderr=True, highlight=False, emoji=False)  # "untrained:clap:" is not applause


def say(text: str) -> None:
    """One line of log on stderr."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def ticket_progress(title: str, total: int) -> Iterator[Emit]:
    """A display fed with worker events until `total` tickets are finished."""
    with _bars() as bars:
        overall = bars.add_task(title, total=total, text="")
        lines: dict[int, TaskID] = {}

        def emit(event: Event) -> None:
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
            if event.kind in ("done", "pruned", "failed"):
                bars.advance(overall)
            if event.kind in ("failed", "lost") or not bars.console.is_terminal:
                number = int(bars.tasks[bars.task_ids.index(overall)].completed)
                bars.console.print(f"[{number}/{total}] {event.title} {event.kind}: {event.text}".strip(), markup=False)

        yield emit


@contextmanager
def item_progress(title: str) -> Iterator["ItemBar"]:
    """A bar over items of equal cost, with items per second."""
    with _bars() as bars:
        yield ItemBar(bars, title)


class ItemBar:
    """Shows done / total, a rate and the time left; prints a line every 10 s where there is no terminal."""

    def __init__(self, bars: Progress, title: str) -> None:
        self._bars, self._title = bars, title
        self._task = bars.add_task(title, total=None, text="")
        self._last_line = 0.0

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Move to `done` of `total`."""
        self._bars.update(self._task, completed=done, total=total, text=text)
        now = time.monotonic()
        if not self._bars.console.is_terminal and (done == total or now - self._last_line > 10):
            self._last_line = now
            self._bars.console.print(f"{self._title}: {done}/{total} {text}".rstrip(), markup=False)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
