"""Dask's workers: processes of this machine by default, or those of any running cluster.

The scheduler hands a task of a killed worker to another one by itself. Workers keep the corpus and its features open
from task to task. Progress comes back as events; where a training waits for the pruner, the answer goes through a
queue of its own.
"""

import asyncio
import math
import queue
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Queue, Security
from distributed.scheduler import KilledWorker

from study.engine.provenance import package_versions
from study.engine.tasks import Jobs, Outcome, Task, died, failure_of
from study.engine.worker import compute_remotely, resolve_here
from study.engine.workspace import Workspace, brought_by
from study.terminal import Event, Show, log
from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

MAX_DEATHS = 3  # a task whose worker was killed so often is failed: it is what kills them
_CONNECT_SECONDS = 30
_COUNT_SECONDS = 1.0  # how old the number of workers may be

_LOOPBACK = "127.0.0.1:0"  # Dask serves a page of its state wherever it is not told otherwise; ours are empty
_CONFIG = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,  # Dask guards against too many results; ours are small
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.allowed-failures": 1000,  # it also counts tasks that only waited; we count real deaths
    "distributed.scheduler.worker-ttl": "2 minutes",  # a worker that is stopped, or that no memory is left for
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": "1"},  # without Dask's setting of malloc
    "distributed.admin.tick.limit": "1h",  # training holds Python's lock for longer than Dask likes
}


class Cluster:
    """Workers and the connection to them: local processes, or those of a running cluster's `scheduler`."""

    def __init__(self, scheduler: str | None) -> None:
        self._scheduler = scheduler
        self._local: LocalCluster | None = None
        self._client: Client | None = None
        self._inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._topic = f"whisq-{uuid.uuid4().hex}"

    def grow(self, wanted: int) -> None:
        """Have at least `wanted` local workers; a running cluster is connected to and has its own."""
        if self._client is None:
            with dask.config.set(_CONFIG), _deaf_to_interrupts():
                self._connect(wanted)
            assert self._client is not None
            self._client.subscribe_topic(self._topic, self._hear)
        elif self._local is not None and wanted > len(self._local.workers):
            with dask.config.set(_CONFIG):
                self._local.scale(wanted)

    def _connect(self, wanted: int) -> None:
        if self._scheduler is None:
            self._local = _local_cluster(wanted)
            self._local.sync(self._local.scheduler.listen, "inproc://")
            self._client = Client(self._local.scheduler.listeners[-1].contact_address, loop=self._local.loop)
            return
        where = {"address": self._scheduler} if "://" in self._scheduler else {"scheduler_file": self._scheduler}
        try:
            self._client = Client(**where, timeout=_CONNECT_SECONDS)
        except (TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"--scheduler {self._scheduler}: cannot be reached: {error}.") from None

    def close(self, at_once: bool = False) -> None:
        """End local workers, at once where their tasks are not wanted any more; a running cluster goes on."""
        if self._local is not None and at_once:
            for nanny in list(self._local.workers.values()):
                process = getattr(getattr(nanny, "process", None), "process", None)
                if process is not None:
                    with suppress(Exception):
                        self._local.sync(process.kill)
        for part in (self._client, self._local):
            if part is not None:
                with suppress(TimeoutError, asyncio.TimeoutError, OSError):
                    part.close(timeout=5)
        self._client = self._local = None

    def resolve(self, train: TrainSpec) -> TrainSpec:
        """`auto` made concrete by the workers, which must agree.

        Raises
        ------
        InputError
            When there is no worker, or they differ.
        """
        answers = self._wait_for_a_worker().run(resolve_here, train)
        refused = next((answer for answer in answers.values() if isinstance(answer, str)), None)
        if refused is not None:
            raise InputError(refused)
        found = {(answer.device, answer.precision): worker for worker, answer in answers.items()}
        if len(found) > 1:
            listed = "; ".join(f"{worker}: {device}, {precision}" for (device, precision), worker in found.items())
            raise InputError(
                f"--scheduler: workers differ in what `auto` means ({listed}). Write train.device and train.precision "
                "into the file's base."
            )
        resolved: TrainSpec = next(iter(answers.values()))
        return resolved

    def run(self, jobs: Jobs, workspace: Workspace, settle: Callable[[Task, Outcome], None], show: Show) -> None:
        """Keep every worker busy until `jobs` gives nothing more and all that it gave has ended."""
        assert self._client is not None, "grow() connects"
        places = (workspace.data.resolve(), workspace.features.resolve())
        _Round(self._client, self._inbox, self._topic, places, jobs, settle, show).run()

    def _wait_for_a_worker(self) -> Client:
        assert self._client is not None, "grow() connects"
        if not self._client.nthreads():
            log(f"waiting for workers at {self._scheduler}")
        while not self._client.nthreads():
            time.sleep(0.5)
        return self._client

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        self._inbox.put((message["kind"], message))


def _local_cluster(wanted: int) -> LocalCluster:
    """Workers on this machine; tried again where one of them is killed while it starts."""
    security = Security.temporary()  # no other user of this machine can send code to the workers
    reason: Exception | None = None
    for _ in range(MAX_DEATHS):
        try:
            return LocalCluster(
                n_workers=wanted, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tls://",
                security=security, dashboard_address=None, worker_dashboard_address=_LOOPBACK, memory_limit=0,
                scheduler_kwargs={"dashboard_address": _LOOPBACK}, silence_logs="CRITICAL",
            )  # fmt: skip
        except (RuntimeError, OSError) as error:
            reason = error
    raise InputError(f"--workers: they cannot be started on this machine ({reason}). Give fewer, or more memory.")


@dataclass
class _Round:
    """One stream of tasks on the workers; `places` are the absolute folders of corpus and features."""

    client: Client
    inbox: "queue.Queue[tuple[str, Any]]"
    topic: str
    places: tuple[Path, Path]
    jobs: Jobs
    settle: Callable[[Task, Outcome], None]
    show: Show
    flights: "dict[str, _Flight]" = field(default_factory=dict)
    workers: int = 1
    counted: float = -math.inf  # when they were

    def run(self) -> None:
        try:
            self._fill()
            while self.flights:
                if self._listen():
                    self._fill()
        finally:
            for flight in self.flights.values():
                flight.future.cancel(force=True)

    def _fill(self) -> None:
        """Hand out tasks while workers are free."""
        if self.client.status not in ("running", "connecting"):
            raise InputError("the Dask scheduler is gone. What has finished is stored; start it and run this again.")
        if time.monotonic() - self.counted > _COUNT_SECONDS:
            self.counted, self.workers = time.monotonic(), max(1, sum(self.client.nthreads().values()))
        while len(self.flights) < (1 + self.jobs.ahead) * self.workers and (task := self.jobs.next()) is not None:
            key = f"{task.run_id}-{uuid.uuid4().hex[:8]}"
            arguments = (task, *self.places, self.topic, key, package_versions() | brought_by(task.spec))
            future = self.client.submit(compute_remotely, *arguments, key=key, pure=False, retries=0)
            future.add_done_callback(lambda future: self.inbox.put(("ended", {"key": future.key})))
            self.flights[key] = _Flight(task, future)

    def _listen(self) -> bool:
        """Wait for one message; whether workers may be free: a task has ended, or others may have joined meanwhile."""
        try:
            kind, message = self.inbox.get(timeout=2.0)
        except queue.Empty:
            return True
        flight = self.flights.get(message["key"])
        if flight is None:  # of a task that was given up, or of an earlier stream
            return False
        task = flight.task
        if kind == "ended":
            del self.flights[message["key"]]
            self.settle(task, flight.outcome())
        elif kind == "start":
            self._started(flight, message)
        elif kind == "epoch":
            epochs = task.spec.train.epochs
            self.show(Event("epoch", message["worker"], task.title, message["epoch"], epochs, message["text"]))
        else:
            assert kind == "report", kind
            reason = self.jobs.report(task, message["epoch"], message["metrics"])
            Queue(message["attempt"], client=self.client).put(reason)
        return message["key"] not in self.flights

    def _started(self, flight: "_Flight", message: dict[str, Any]) -> None:
        """A task that starts again has lost its worker; after too many losses it is given up."""
        task, worker = flight.task, message["worker"]
        flight.starts += 1
        self.show(Event("start", worker, task.title, 0, task.spec.train.epochs))
        if flight.starts > 1:
            self.show(Event("requeued", worker, task.title, text="its worker was killed, it runs again on another"))
        if flight.starts > MAX_DEATHS:
            flight.future.cancel(force=True)
            del self.flights[message["key"]]
            self.settle(task, died(task.spec, MAX_DEATHS))


@dataclass
class _Flight:
    """A task on its way."""

    task: Task
    future: Any
    starts: int = 0

    def outcome(self) -> Outcome:
        """What it ended with.

        Raises
        ------
        InputError
            What a worker says of itself, such as other versions than here; or the scheduler has forgotten the task.
        """
        if self.future.status == "finished":
            result: Outcome = self.future.result()
            return result
        if self.future.status != "error":  # such as after the scheduler's own restart
            raise InputError("the Dask scheduler lost its tasks. What has finished is stored; run it again.")
        error = self.future.exception()
        if isinstance(error, InputError):
            raise error
        return (
            died(self.task.spec, MAX_DEATHS) if isinstance(error, KilledWorker) else failure_of(error, self.task.spec)
        )


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that start in here never see Ctrl-C, which a terminal sends to all: only the coordinator does."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
