"""Dask's workers, processes of this machine by default or those of any running cluster: both ends of the connection.

The scheduler hands a task of a killed worker to another one by itself. What workers tell meanwhile comes back as
Dask's events; where a training waits for the pruner, the answer goes through a queue of its own.
"""

import asyncio
import logging
import os
import queue
import signal
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cache
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Queue, Security, get_worker
from distributed.scheduler import KilledWorker

from study.engine.pool import compute
from study.engine.provenance import package_versions
from study.engine.tasks import MAX_DEATHS, Jobs, Outcome, Outcomes, Task, brought_by, died, failure_of
from study.engine.workspace import Workspace, identify
from study.terminal import Event, Show, log
from whisq_core import plugins
from whisq_core.device import resolve_auto
from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

_CONNECT_SECONDS = 30
_COUNT_SECONDS = 1.0  # how old the number of workers may be
_ANSWER_SECONDS = 3600.0  # a pruner's answer waits while the database is away
_SHOW_SECONDS = 0.25  # between two events of progress from one worker
VERSIONS = {name: package_versions().get(name) for name in ("whisq-study", "torch", "numpy", "transformers")}

_LOOPBACK = "127.0.0.1:0"  # Dask serves a page of its state wherever it is not told otherwise; ours are empty
_CONFIG = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.scheduler.allowed-failures": 1000,  # it also counts tasks that only waited; we count real deaths
    "distributed.scheduler.worker-ttl": "2 minutes",  # a worker that is stopped, or that no memory is left for
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": "1"},  # without Dask's setting of malloc
}


@dataclass
class _Flight:
    """A task on its way, what will bring its outcome, and how often a worker has begun it."""

    task: Task
    outcome: "Future[Outcome]"
    starts: int = 0


class Cluster:
    """Workers and the connection to them: `wanted` local processes, or those of a running cluster's `scheduler`."""

    def __init__(self, scheduler: str | None, wanted: int) -> None:
        self._local: LocalCluster | None = None
        self._inbox: queue.Queue[tuple[Any, ...]] = queue.Queue()  # (key of a flight, what, facts)
        self._topic = f"whisq-{uuid.uuid4().hex}"
        self._workers, self._counted = 1, -_COUNT_SECONDS
        # Processes that start in here never see Ctrl-C, which a terminal sends to all: only the coordinator does.
        resource_tracker.ensure_running()  # whichever thread starts it would hear Ctrl-C from then on
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with dask.config.set(_CONFIG):
                self._client = self._local_client(wanted) if scheduler is None else _connected(scheduler)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._client.subscribe_topic(self._topic, lambda event: self._inbox.put(event[1]))

    def _local_client(self, wanted: int) -> Client:
        """A connection to workers on this machine; tried again where one of them is killed while it starts."""
        security = Security.temporary()  # no other user of this machine can send code to the workers
        for left in reversed(range(MAX_DEATHS)):
            try:
                self._local = LocalCluster(
                    n_workers=wanted, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tls://",
                    security=security, dashboard_address=None, worker_dashboard_address=_LOOPBACK, memory_limit=0,
                    scheduler_kwargs={"dashboard_address": _LOOPBACK}, silence_logs="CRITICAL",
                )  # fmt: skip
                break
            except (RuntimeError, OSError) as error:
                if not left:
                    raise InputError(
                        f"--workers: they cannot be started on this machine ({error}). Give fewer, or more memory."
                    ) from None
        assert self._local is not None
        self._local.sync(self._local.scheduler.listen, "inproc://")
        return Client(self._local.scheduler.listeners[-1].contact_address, loop=self._local.loop)

    def grow(self, wanted: int) -> None:
        """Have at least `wanted` local workers; a running cluster has its own."""
        if self._local is not None and wanted > len(self._local.workers):
            with dask.config.set(_CONFIG):
                self._local.scale(wanted)

    def close(self, at_once: bool) -> None:
        """End local workers, at once where their tasks are not wanted any more; a running cluster goes on."""
        if at_once and self._local is not None:
            for nanny in list(self._local.workers.values()):
                nanny.auto_restart = False
                with suppress(OSError, TypeError):  # it has none any more
                    os.kill(nanny.pid, signal.SIGKILL)
        for part in filter(None, (self._client, self._local)):
            with suppress(TimeoutError, OSError):
                part.close(timeout=5)

    def resolve(self, train: TrainSpec) -> TrainSpec:
        """`auto` made concrete by the workers, which must agree and have the device; waits until there is one."""
        if not self._client.nthreads():
            log("waiting for workers of the cluster")
            self._client.wait_for_workers(1)
        answers: dict[str, TrainSpec] = self._client.run(resolve_auto, train)
        found = {(answer.device, answer.precision): worker for worker, answer in answers.items()}
        if len(found) > 1:
            listed = "; ".join(f"{worker}: {device}, {precision}" for (device, precision), worker in found.items())
            raise InputError(
                f"--scheduler: workers differ in what `auto` means ({listed}). Write train.device and train.precision "
                "into the file's base."
            )
        return next(iter(answers.values()))

    def outcomes(self, jobs: Jobs, workspace: Workspace, show: Show) -> Outcomes:
        """Every task that `jobs` gives with what it ended with, as they end; workers are kept busy meanwhile."""
        flights: dict[str, _Flight] = {}
        try:
            while self._filled(flights, jobs, workspace):
                yield from self._heard(flights, jobs, show)
        finally:
            for flight in flights.values():
                flight.outcome.cancel()

    def _filled(self, flights: dict[str, _Flight], jobs: Jobs, workspace: Workspace) -> bool:
        """Hand out tasks while workers are free; whether any is on its way."""
        if self._client.status not in ("running", "connecting"):
            raise InputError("the Dask scheduler is gone. What has finished is stored; start it and run this again.")
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self._counted, self._workers = time.monotonic(), max(1, sum(self._client.nthreads().values()))
        places = (workspace.data.resolve(), workspace.features.resolve())
        while len(flights) < (1 + jobs.ahead) * self._workers and (task := jobs.next()) is not None:
            key = f"{task.run_id}-{uuid.uuid4().hex[:8]}"
            brought = self._bring(key, task, *places, VERSIONS | brought_by(task))
            outcome = asyncio.run_coroutine_threadsafe(brought, self._client.loop.asyncio_loop)
            flights[key] = _Flight(task, outcome)
        return bool(flights)

    async def _bring(self, key: str, *what: Any) -> Outcome:
        """The outcome of a task on a worker; one that is lost with its worker is computed again.

        Dask's future lives and dies in this thread of the client: in the main one, a Ctrl-C that is raised while a
        future is dropped would be lost.
        """
        try:
            outcome: Outcome = await self._client.submit(_compute, self._topic, key, *what, key=key)
            return outcome
        finally:
            self._inbox.put((key, "ended"))

    def _heard(self, flights: dict[str, _Flight], jobs: Jobs, show: Show) -> Outcomes:
        """Take one message; a task that starts again has lost its worker, after too many losses it is given up."""
        try:
            key, kind, *facts = self._inbox.get(timeout=2.0)
        except queue.Empty:  # others may have joined meanwhile
            return
        if (flight := flights.get(key)) is None:  # of a task that was given up, or of an earlier stream
            return
        if kind == "report":
            epoch, metrics, answers = facts
            Queue(answers, client=self._client).put(jobs.report(flight.task, epoch, metrics))
        elif kind == "event":
            show(event := Event(*facts))
            flight.starts += event.kind == "start"
            if event.kind == "start" and flight.starts > 1:
                show(replace(event, kind="requeued", text="its worker was killed, it runs again on another"))
        if kind == "ended":
            yield flights.pop(key).task, _outcome(flight)
        elif flight.starts > MAX_DEATHS:
            flights.pop(key).outcome.cancel()
            yield flight.task, died(flight.task.spec)


def _outcome(flight: _Flight) -> Outcome:
    """What a task ended with; what a worker says of itself, such as other versions than here, stops everything."""
    try:
        return flight.outcome.result()
    except CancelledError:  # such as after the scheduler's own restart
        raise InputError("the Dask scheduler lost its tasks. What has finished is stored; run it again.") from None
    except KilledWorker:
        return died(flight.task.spec)
    except Exception as error:
        if isinstance(error, InputError):
            raise
        return failure_of(error, flight.task.spec)


def _connected(scheduler: str) -> Client:
    try:
        where = {"address" if "://" in scheduler else "scheduler_file": scheduler}
        return Client(**where, timeout=_CONNECT_SECONDS)
    except (TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--scheduler {scheduler}: cannot be reached: {error}.") from None


# --- on a worker ------------------------------------------------------------------------------------------------------

_workspace = cache(Workspace)  # opened once per process and kept for all its tasks


def _compute(topic: str, key: str, task: Task, data: Path, features: Path, versions: dict[str, str | None]) -> Outcome:
    """`compute` a task here and tell the coordinator how it goes under `topic`."""
    worker, answers, shown = get_worker(), uuid.uuid4().hex, 0.0
    check_versions(str(worker.name), versions)
    is_local = isinstance(worker.name, int)  # those of a running cluster have been given a GPU, and log as they like
    if is_local:
        logging.disable(logging.CRITICAL)  # where memory runs out: what it means for a task is told as its failure

    def show(event: Event) -> None:
        nonlocal shown
        if event.kind == "start" or time.monotonic() - shown > _SHOW_SECONDS:
            shown = time.monotonic()
            worker.log_event(topic, (key, "event", *astuple(event)))

    def report(epoch: int, metrics: dict[str, float]) -> str | None:
        worker.log_event(topic, (key, "report", epoch, metrics, answers))
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


def check_versions(worker: str, wanted: Mapping[str, str | None]) -> None:
    """`wanted` are the coordinator's packages and the distributions of the task's plug-ins."""
    here = plugins.versions() | VERSIONS
    differing = [
        f"{name} {here.get(name)} instead of {there}" for name, there in wanted.items() if there != here.get(name)
    ]
    if differing:
        raise InputError(
            f"worker {worker} has {', '.join(differing)}: its numbers would not be those of the other runs. "
            "Install the same versions there."
        )
