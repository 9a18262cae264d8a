"""The coordinator: asks for tasks, has them computed, stores each run, and passes on what became of it.

It is the only process that writes the database. One worker computes in this very process; several are processes of a
local Dask cluster, or the workers of a running one (`cluster`).
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.engine.execute import Report, execute
from study.engine.provenance import command_line
from study.engine.tasks import Jobs, Outcome, Outcomes, Task, failure_of
from study.engine.workspace import Workspace
from study.store import Database, Run
from study.terminal import Event, Show, task_progress
from whisq_core.device import default_workers, resolve_auto
from whisq_core.errors import InputError
from whisq_core.files import read_regular
from whisq_core.spec import RunSpec

if TYPE_CHECKING:
    from study.engine.cluster import Cluster


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
        if workers is not None and not 1 <= workers <= 1024:
            raise InputError(f"--workers: found {workers}, allowed: 1 to 1024 on one machine.")
        try:
            if scheduler is not None and "://" not in scheduler:
                _ = json.loads(read_regular(Path(scheduler)))["address"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(
                f"--scheduler {scheduler}: {getattr(error, 'strerror', None) or 'it names no address'}. Give the "
                "--scheduler-file of `dask scheduler`, or an address such as tcp://HOST:8786."
            ) from None
        self._scheduler = scheduler
        self.workers = 1 if scheduler else workers or default_workers()
        self._cluster: Cluster | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        if self._cluster is not None:
            self._cluster.close(at_once=error[0] is not None)
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
        """Compute what `jobs` gives until it gives nothing more; store each finished run before anybody hears of it.

        Ctrl-C ends it within seconds as KeyboardInterrupt: what has finished is stored.
        """
        many = self.workers > 1 or self._scheduler
        outcomes = self._open(min(self.workers, total)).outcomes if many else _outcomes_here
        with task_progress(title, total) as show, closing(outcomes(jobs, workspace, show)) as stream:
            for task, outcome in stream:
                if isinstance(outcome, Run):
                    manifest = {**outcome.manifest, "command": command_line()}
                    run = replace(outcome, finished_at=time.time(), manifest=manifest)
                    database.save_run(run)
                    show(Event("done", "", task.title, text=f"{jobs.done(task, run)}  {run.seconds:.1f} s"))
                else:
                    jobs.failed(task, outcome)
                    kind = outcome.kind
                    show(Event("stopped" if kind == "stopped" else "failed", "", task.title, text=outcome.reason))

    def _open(self, wanted: int) -> "Cluster":
        """The cluster, with at least so many workers where they are ours."""
        if self._cluster is None:
            from study.engine.cluster import Cluster  # Dask: seconds that a table with nothing to run saves

            self._cluster = Cluster(self._scheduler, wanted)
        self._cluster.grow(wanted)
        return self._cluster


def _outcomes_here(jobs: Jobs, workspace: Workspace, show: Show) -> Outcomes:
    while (task := jobs.next()) is not None:
        yield task, compute(task, lambda: workspace, show, partial(jobs.report, task))


def compute(task: Task, opened: Callable[[], Workspace], show: Show, report: Report, worker: str = "") -> Outcome:
    """What becomes of one task in this process; a failure is the task's own: the others still run."""
    step = partial(Event, worker=worker, title=task.title, num_steps=task.spec.train.epochs)
    show(step("start"))
    try:
        return execute(task, opened(), lambda epoch, text: show(step("epoch", step=epoch, text=text)), report)
    except Exception as error:
        return failure_of(error, task.spec)
