"""What the coordinator asks of workers, what comes back, and who decides what happens then."""

import traceback
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from study.engine.workspace import distributions
from study.store import Run
from whisq_core.errors import InputError
from whisq_core.metrics import brought
from whisq_core.spec import RunSpec

MAX_DEATHS = 3  # a task whose worker was killed so often is failed: it is what kills them


@dataclass(frozen=True)
class Watch:
    """What a worker reports while it trains: `metrics` on `split`, every `every` epochs and after the last."""

    split: str
    metrics: tuple[str, ...]
    every: int


@dataclass(frozen=True)
class Task:
    """One run to compute. `spec` is resolved; `table` and `row` say what it is made for.

    `models` is the folder that keeps the model. Where the run is stored already, `stored` are its predictions by split:
    the model is kept only if it predicts the same again.
    """

    run_id: str
    title: str
    spec: RunSpec
    table: str
    row: str
    watch: Watch | None = None
    models: Path | None = None
    stored: Mapping[str, np.ndarray] = field(default_factory=dict)


def brought_by(task: Task) -> dict[str, str]:
    """The distributions of the plug-ins that a task needs, and their versions."""
    of_metrics = brought(task.watch.metrics if task.watch else ())
    found = (each.partition("==") for each in (*distributions(task.spec).values(), *of_metrics.values()))
    return {name: version for name, _, version in found}


class Stopped(Exception):
    """Ends a training that was asked to stop after a report: the epoch, and the reason."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no run, in one line for a person; "stopped" where `Jobs.report` asked for it."""

    kind: Literal["stopped", "diverged", "out_of_memory", "input", "died", "unexpected"]
    reason: str
    epoch: int | None = None


Outcome = Run | Failure
Outcomes = Generator[tuple[Task, Outcome], None, None]


class Jobs:
    """Tasks, one after the other, and what becomes of them: the base of a table's cells and a search's trials.

    Called in the coordinator's main thread only. Any method may raise `InputError` to stop everything; what has
    finished is stored.
    """

    ahead = 1  # tasks that may wait for each worker beyond the one that it computes

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._waiting = deque(tasks)

    def next(self) -> Task | None:
        """The next task, asked for whenever a worker is free; None: there is none now."""
        return self._waiting.popleft() if self._waiting else None

    def report(self, task: Task, epoch: int, metrics: dict[str, float]) -> str | None:
        """The watched metrics of a running task; returns the reason to stop it, or None."""
        return None

    def done(self, task: Task, run: Run) -> str:
        """A run has just been stored; returns what to show of it."""
        return ""

    def failed(self, task: Task, failure: Failure) -> None:
        """A task ended without a run; the engine stores nothing of it."""


def failure_of(error: Exception, spec: RunSpec) -> Failure:
    """Why a run failed; a place in the code only for what we did not expect."""
    import torch

    from whisq_core.training import Diverged

    if isinstance(error, Stopped):
        epoch, reason = error.args
        return Failure("stopped", reason, epoch)
    if isinstance(error, Diverged):
        return Failure("diverged", str(error), error.epoch)
    if isinstance(error, InputError):
        return Failure("input", " ".join(str(error).split()))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return Failure("out_of_memory", f"out of memory with train.batch_size {spec.train.batch_size}: {_advice(spec)}")
    file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
    return Failure("unexpected", f"unexpected {type(error).__name__}: {error} ({Path(file).name}:{line})")


def died(spec: RunSpec) -> Failure:
    """The failure of a task whose workers were killed again and again."""
    return Failure("died", f"its worker was killed {MAX_DEATHS} times, as when memory runs out: {_advice(spec)}")


def _advice(spec: RunSpec) -> str:
    half = spec.train.batch_size // 2
    smaller = f"try train.batch_size {half} (half of it) or less" if half else "no batch fits, try a smaller model"
    return f"{smaller}, or fewer --workers"
