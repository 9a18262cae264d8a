"""What runs on a Dask worker: one task after the other, with the corpus and its features kept open in between."""

import logging
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from distributed import Queue, get_worker

from study.engine.execute import execute
from study.engine.provenance import PACKAGES, package_versions
from study.engine.tasks import Outcome, Stopped, Task, failure_of
from study.engine.workspace import Workspace, identify
from whisq_core import plugins
from whisq_core.device import resolve_auto
from whisq_core.errors import InputError
from whisq_core.spec import RunSpec, TrainSpec

_ANSWER_SECONDS = 3600.0  # a pruner's answer waits while the database is away
_EVENTS_PER_SECOND = 4  # of progress, from each worker
_SAME = ("whisq-study", "torch", "numpy", "transformers")  # packages whose versions decide numbers


def resolve_here(train: TrainSpec) -> TrainSpec | str:
    try:
        return resolve_auto(train)
    except InputError as error:
        return str(error)


@cache
def _workspace(data: Path, features: Path) -> Workspace:
    """Opened once per process and kept for all its tasks."""
    return Workspace(data, features)


@cache
def _quiet_about_memory() -> None:
    """Where memory runs out Dask logs the places in its code; what it means for the task is told as its failure."""
    of_dask = [
        handler for name in ("distributed", "tornado", "asyncio") for handler in logging.getLogger(name).handlers
    ]
    for handler in (*of_dask, *([logging.lastResort] if logging.lastResort else [])):
        handler.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], MemoryError)))


def compute_remotely(task: Task, data: Path, features: Path, topic: str, key: str, versions: dict[str, str]) -> Outcome:
    """Compute one task on a worker."""
    _quiet_about_memory()
    worker = get_worker()
    name, attempt = str(worker.name), uuid.uuid4().hex
    check_versions(name, versions)

    def tell(kind: str, **facts: Any) -> None:
        worker.log_event(topic, {"kind": kind, "key": key, "worker": name, "attempt": attempt, **facts})

    last = 0.0

    def show(epoch: int, text: str) -> None:
        nonlocal last
        if time.monotonic() - last > 1 / _EVENTS_PER_SECOND:
            last = time.monotonic()
            tell("epoch", epoch=epoch, text=text)

    def report(epoch: int, metrics: dict[str, float]) -> str | None:
        tell("report", epoch=epoch, metrics=metrics)
        reason: str | None = Queue(attempt).get(timeout=_ANSWER_SECONDS)
        return reason

    tell("start")
    try:
        _take_gpu(task.spec, worker.name)
        return execute(task, _known(task, data, features), show, report)
    except Stopped as stop:
        return stop
    except Exception as error:  # a task's failure is its own: the others still run
        return failure_of(error, task.spec)


def _take_gpu(spec: RunSpec, worker: object) -> None:
    """Local workers, whose names are numbers, share this machine's GPUs; those of a cluster have been given one."""
    if spec.train.device == "cuda" and isinstance(worker, int):
        import torch

        torch.cuda.set_device(worker % torch.cuda.device_count())


def _known(task: Task, data: Path, features: Path) -> Workspace:
    """The corpus as this process knows it; read anew where it has changed since."""
    workspace = _workspace(data, features)
    if identify(task.spec, workspace).run_id != task.run_id:
        _workspace.cache_clear()
        workspace = _workspace(data, features)
    return workspace


def check_versions(worker: str, wanted: dict[str, str]) -> None:
    """`wanted` are the coordinator's packages and, beyond those, the distributions of the task's plug-ins."""
    here = package_versions() | plugins.versions()
    names = (*_SAME, *(name for name in wanted if name not in PACKAGES))
    differing = [
        f"{name} {here.get(name)} instead of {wanted.get(name)}" for name in names if here.get(name) != wanted.get(name)
    ]
    if differing:
        raise InputError(
            f"worker {worker} has {', '.join(differing)}: its numbers would not be those of the other runs. "
            "Install the same versions there."
        )
