"""The coordinator: asks for tasks, has them computed, stores each run, and passes on what became of it.

It is the only process that writes the database. One worker computes in this very process; several are processes of a
local Dask cluster, or the workers of a running one (`cluster`).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from study.engine.execute import execute
from study.engine.provenance import command_line
from study.engine.tasks import Failure, Jobs, Outcome, Stopped, Task, failure_of
from study.engine.workspace import Workspace
from study.store import Database, Run
from study.terminal import Event, Show, task_progress
from whisq_core.device import default_workers, resolve_auto
from whisq_core.errors import InputError
from whisq_core.files import TEXT_BYTES, check_regular
from whisq_core.spec import RunSpec

if TYPE_CHECKING:
    from study.engine.cluster import Cluster


_MOST_WORKERS = 1024


class Pool:
    """Where tasks are computed. Processes start with the first task that needs them and stay for all that follow.

    Parameters
    ----------
    workers
        Processes on this machine; 1 computes in this process. None: `default_workers`.
    scheduler
        Address (``tcp://...``, ``tls://...``) or scheduler file of a running Dask cluster, in place of `workers`.

    Raises
    ------
    InputError
        When both are given, or the number is below 1.
    """

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        if workers is not None and scheduler is not None:
            raise InputError("--workers and --scheduler exclude each other: the cluster has its own workers.")
        if workers is not None and workers < 1:
            raise InputError(f"--workers: found {workers}, allowed: 1 or more.")
        if workers is not None and workers > _MOST_WORKERS:
            raise InputError(f"--workers: found {workers}, allowed: up to {_MOST_WORKERS} on one machine.")
        if scheduler is not None and "://" not in scheduler:
            _check_scheduler_file(Path(scheduler))
        self._scheduler = scheduler
        self.workers = 1 if scheduler else workers or default_workers()
        self._cluster: Cluster | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cluster is not None:
            self._cluster.close(at_once=error is not None)
            self._cluster = None

    def resolved(self, spec: RunSpec) -> RunSpec:
        """`spec` with the device and precision of the workers, so that they are part of its identity.

        Raises
        ------
        InputError
            When the device is not there, or workers of a cluster differ in what `auto` means.
        """
        if not spec.uses_features or (spec.train.device != "auto" and spec.train.precision != "auto"):
            return spec
        train = self._open(1).resolve(spec.train) if self._scheduler else resolve_auto(spec.train)
        return spec.model_copy(update={"train": train})

    def reach(self) -> None:
        """Connect to a running cluster: one that is not there is found before anything is made.

        Raises
        ------
        InputError
            When it cannot be reached.
        """
        if self._scheduler:
            self._open(1)

    def run(self, jobs: Jobs, workspace: Workspace, database: Database, title: str, total: int) -> None:
        """Compute what `jobs` gives until it gives nothing more; store each finished run at once.

        Ctrl-C ends it within seconds as KeyboardInterrupt: what has finished is stored.
        """
        with task_progress(title, total) as show:
            settle = _settler(jobs, database, show)
            if self.workers == 1 and not self._scheduler:
                _run_here(jobs, workspace, settle, show)
            else:
                self._open(min(self.workers, total)).run(jobs, workspace, settle, show)

    def _open(self, wanted: int) -> "Cluster":
        if self._cluster is None:
            from study.engine.cluster import Cluster  # Dask: seconds that a table with nothing to run saves

            self._cluster = Cluster(self._scheduler)
        self._cluster.grow(wanted)
        return self._cluster


def _check_scheduler_file(path: Path) -> None:
    try:
        check_regular(path, TEXT_BYTES)
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(
            f"--scheduler {path}: {what}. Give the --scheduler-file of `dask scheduler`, or an address such as "
            "tcp://HOST:8786."
        ) from None


def _run_here(jobs: Jobs, workspace: Workspace, settle: Callable[[Task, Outcome], None], show: Show) -> None:
    while (task := jobs.next()) is not None:
        settle(task, compute(task, workspace, show, jobs))


def compute(task: Task, workspace: Workspace, show: Show, jobs: Jobs) -> Outcome:
    """Compute one task in this process."""
    epochs = task.spec.train.epochs
    show(Event("start", "", task.title, 0, epochs))
    try:
        return execute(
            task,
            workspace,
            lambda epoch, text: show(Event("epoch", "", task.title, epoch, epochs, text)),
            lambda epoch, metrics: jobs.report(task, epoch, metrics),
        )
    except Stopped as stop:
        return stop
    except Exception as error:  # a task's failure is its own: the others still run
        return failure_of(error, task.spec)


def _settler(jobs: Jobs, database: Database, show: Show) -> Callable[[Task, Outcome], None]:
    """What happens to an outcome: a run is stored before anybody hears of it."""

    def settle(task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Run):
            manifest = {**outcome.manifest, "command": command_line()}
            run = replace(outcome, finished_at=time.time(), manifest=manifest)
            database.save_run(run)
            show(Event("done", "", task.title, text=f"{jobs.done(task, run)}  {run.seconds:.1f} s"))
        elif isinstance(outcome, Stopped):
            jobs.stopped(task, outcome)
            show(Event("stopped", "", task.title, text=outcome.reason))
        else:
            assert isinstance(outcome, Failure)
            jobs.failed(task, outcome)
            show(Event("failed", "", task.title, text=outcome.reason))

    return settle
