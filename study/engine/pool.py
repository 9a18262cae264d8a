"""The coordinator: asks for tasks, has them computed, stores each run, and passes on what became of it.

It is the only process that writes the database. One worker computes in this very process; several are processes of a
local Dask cluster, or the workers of a running one (`cluster`).
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from study.engine.provenance import command_line
from study.engine.tasks import Failure, Jobs, Outcome, Task
from study.engine.worker import compute
from study.engine.workspace import Workspace
from study.store import Database
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
        When both are given, the number makes no sense, or there is no such file.
    """

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        if workers is not None and scheduler is not None:
            raise InputError("--workers and --scheduler exclude each other: the cluster has its own workers.")
        if workers is not None and not 1 <= workers <= _MOST_WORKERS:
            raise InputError(f"--workers: found {workers}, allowed: 1 to {_MOST_WORKERS} on one machine.")
        if scheduler is not None and "://" not in scheduler:
            try:
                check_regular(Path(scheduler), TEXT_BYTES)
            except OSError as error:
                raise InputError(
                    f"--scheduler {scheduler}: {error.strerror}. Give the --scheduler-file of `dask scheduler`, or an "
                    "address such as tcp://HOST:8786."
                ) from None
        self._scheduler = scheduler
        self.workers = 1 if scheduler else workers or default_workers()
        self._cluster: Cluster | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: object, _trace: TracebackType | None) -> None:
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
        resolve = self._open(1).resolve if self._scheduler else resolve_auto
        return spec.model_copy(update={"train": resolve(spec.train)})

    def reach(self) -> None:
        """Connect to a running cluster, so that one that cannot be reached is found before anything is made."""
        if self._scheduler:
            self._open(1)

    def run(self, jobs: Jobs, workspace: Workspace, database: Database, title: str, total: int) -> None:
        """Compute what `jobs` gives until it gives nothing more; store each finished run at once.

        Ctrl-C ends it within seconds as KeyboardInterrupt: what has finished is stored.
        """
        with task_progress(title, total) as show:
            settle = partial(_settle, jobs, database, show)
            if self.workers > 1 or self._scheduler:
                self._open(min(self.workers, total)).run(jobs, workspace, settle, show)
                return
            while (task := jobs.next()) is not None:
                settle(task, compute(task, lambda: workspace, show, partial(jobs.report, task)))

    def _open(self, wanted: int) -> "Cluster":
        """The cluster, with at least so many workers where they are ours."""
        if self._cluster is None:
            from study.engine.cluster import Cluster  # Dask: seconds that a table with nothing to run saves

            self._cluster = Cluster(self._scheduler, wanted)
        self._cluster.grow(wanted)
        return self._cluster


def _settle(jobs: Jobs, database: Database, show: Show, task: Task, outcome: Outcome) -> None:
    """Pass on what became of a task; a run is stored before anybody hears of it."""
    if isinstance(outcome, Failure):
        jobs.failed(task, outcome)
        kind: Literal["stopped", "failed"] = "stopped" if outcome.kind == "stopped" else "failed"
        return show(Event(kind, "", task.title, text=outcome.reason))
    manifest = {**outcome.manifest, "command": command_line()}
    run = replace(outcome, finished_at=time.time(), manifest=manifest)
    database.save_run(run)
    return show(Event("done", "", task.title, text=f"{jobs.done(task, run)}  {run.seconds:.1f} s"))
