"""What computes a task: in the coordinator's own process, or in a Dask worker, which stays warm from task to task."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

from study.engine.execute import Report, execute
from study.engine.provenance import package_versions
from study.engine.tasks import Outcome, Task, failure_of
from study.engine.workspace import Workspace, identify
from study.terminal import Event, Show
from whisq_core.errors import InputError

_ANSWER_SECONDS = 3600.0  # a pruner's answer waits while the database is away
_PAUSE = 0.25  # seconds between two events of progress from one worker
_SAME = ("whisq-study", "torch", "numpy", "transformers")  # packages whose versions decide numbers


def compute(task: Task, opened: Callable[[], Workspace], show: Show, report: Report, worker: str = "") -> Outcome:
    """What becomes of one task in this process; a failure is the task's own: the others still run."""

    def show_epoch(epoch: int, text: str) -> None:
        show(Event("epoch", worker, task.title, epoch, task.spec.train.epochs, text))

    show(Event("start", worker, task.title, 0, task.spec.train.epochs))
    try:
        return execute(task, opened(), show_epoch, report)
    except Exception as error:
        return failure_of(error, task.spec)


def compute_remotely(task: Task, data: Path, features: Path, topic: str, key: str, versions: dict[str, str]) -> Outcome:
    """`compute` on a Dask worker, which tells the coordinator how it goes under `topic`."""
    from distributed import Queue, get_worker

    worker, answers, shown = get_worker(), uuid.uuid4().hex, 0.0
    check_versions(str(worker.name), versions)
    is_local = isinstance(worker.name, int)  # those of a running cluster have been given a GPU, and log as they like
    if is_local:
        logging.disable(logging.ERROR)  # where memory runs out: what it means for a task is told as its failure

    def tell(kind: str, *facts: Any) -> None:
        worker.log_event(topic, (key, kind, *facts))

    def show(event: Event) -> None:
        nonlocal shown
        if event.kind == "start" or time.monotonic() - shown > _PAUSE:
            shown = time.monotonic()
            tell("event", *astuple(event))

    def report(epoch: int, metrics: dict[str, float]) -> str | None:
        tell("report", epoch, metrics, answers)
        reason: str | None = Queue(answers).get(timeout=_ANSWER_SECONDS)
        return reason

    def opened() -> Workspace:
        if is_local and task.spec.train.device == "cuda":
            import torch

            torch.cuda.set_device(worker.name % torch.cuda.device_count())
        workspace = _workspace(data, features)
        if identify(task.spec, workspace).run_id != task.run_id:  # it has changed since it was opened
            _workspace.cache_clear()
            workspace = _workspace(data, features)
        return workspace

    return compute(task, opened, show, report, str(worker.name))


_workspace = cache(Workspace)  # opened once per process and kept for all its tasks


def check_versions(worker: str, wanted: Mapping[str, str]) -> None:
    here = package_versions()
    differing = [name for name in _SAME if here.get(name) != wanted.get(name)]
    if differing:
        listed = ", ".join(f"{name} {here.get(name)} instead of {wanted.get(name)}" for name in differing)
        raise InputError(
            f"worker {worker} has {listed}: its numbers would not be those of the other runs. Install the same "
            "versions there."
        )
