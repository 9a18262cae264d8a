"""Dask's workers: processes of this machine by default, or those of any running cluster.

The scheduler hands a task of a killed worker to another one by itself. Workers keep the corpus and its features open
from task to task. Progress comes back as events; where a training waits for the pruner, the answer goes through a
queue of its own.
"""

import asyncio
import queue
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Queue, Security
from distributed.scheduler import KilledWorker

from study.engine.provenance import package_versions
from study.engine.tasks import Jobs, Outcome, Task, died, failure_of
from study.engine.worker import compute_remotely, resolve_here
from study.engine.workspace import Workspace
from study.terminal import Event, Show, log
from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

MAX_DEATHS = 3  # a task whose worker was killed so often is failed: it is what kills them
_CONNECT_SECONDS = 30

_CONFIG = {
    "distributed.worker.memory.target": False,  # Dask guards against too many results; ours are small
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.allowed-failures": 1000,  # it also counts tasks that only waited; we count real deaths
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": "1"},  # without Dask's setting of malloc
    "distributed.admin.tick.limit": "1h",  # training holds Python's lock for longer than Dask likes
}


class Cluster:
    """Workers and the connection to them; `workers` are local processes, None with a `scheduler`."""

    def __init__(self, workers: int | None, scheduler: str | None) -> None:
        self._scheduler, self._most = scheduler, workers
        self._local: LocalCluster | None = None
        self._client: Client | None = None
        self._inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._topic = f"whisq-{uuid.uuid4().hex}"

    def grow(self, wanted: int) -> None:
        """Have at least `wanted` local workers, up to the number asked for; a running cluster is connected to."""
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
            security = Security.temporary()  # no other user of this machine can send code to the workers
            self._local = LocalCluster(
                n_workers=wanted, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tls://",
                security=security, dashboard_address=None, memory_limit=0, silence_logs="CRITICAL",
            )  # fmt: skip
            self._client = Client(self._local)
            return
        where = {"address": self._scheduler} if "://" in self._scheduler else {"scheduler_file": self._scheduler}
        if "scheduler_file" in where and not Path(self._scheduler).is_file():
            raise InputError(
                f"--scheduler {self._scheduler}: no such file. Give the --scheduler-file of `dask scheduler`, or an "
                "address such as tcp://HOST:8786."
            )
        try:
            self._client = Client(**where, timeout=_CONNECT_SECONDS)
        except (TimeoutError, OSError, ValueError) as error:
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
        client = self._connected()
        self._wait_for_a_worker(client)
        answers = client.run(resolve_here, train)
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
        flights: dict[str, _Flight] = {}
        places = (workspace.data.resolve(), workspace.features.resolve())
        try:
            while True:
                self._fill(jobs, flights, places)
                if not flights:
                    return
                self._listen(jobs, flights, settle, show)
        finally:
            for flight in flights.values():
                flight.future.cancel(force=True)

    def _fill(self, jobs: Jobs, flights: "dict[str, _Flight]", places: tuple[Path, Path]) -> None:
        client = self._connected()
        capacity = (1 + jobs.ahead) * max(1, sum(client.nthreads().values()))
        while len(flights) < capacity and (task := jobs.next()) is not None:
            key = f"{task.run_id}-{uuid.uuid4().hex[:8]}"
            future = client.submit(
                compute_remotely, task, *places, self._topic, key, package_versions(), key=key, pure=False, retries=0
            )
            flights[key] = _Flight(task, future)
            future.add_done_callback(lambda future: self._inbox.put(("ended", future.key)))

    def _listen(
        self, jobs: Jobs, flights: "dict[str, _Flight]", settle: Callable[[Task, Outcome], None], show: Show
    ) -> None:
        """Wait for one message, or a moment: workers may have joined in between."""
        try:
            kind, message = self._inbox.get(timeout=2.0)
        except queue.Empty:
            self._look_around()
            return
        key = message if kind == "ended" else message["key"]
        flight = flights.get(key)
        if flight is None:
            return
        if kind == "ended":
            outcome = flight.outcome()
            if outcome is None:  # the scheduler forgot it, such as after its own restart
                flights.pop(key)
                raise InputError("the Dask scheduler lost its tasks. What has finished is stored; run it again.")
            flights.pop(key)
            settle(flight.task, outcome)
        elif kind == "start":
            self._started(flight, message, flights, settle, show)
        elif kind == "epoch":
            task = flight.task
            text, epoch = message["text"], message["epoch"]
            show(Event("epoch", message["worker"], task.title, epoch, task.spec.train.epochs, text))
        elif kind == "report":
            reason = jobs.report(flight.task, message["epoch"], message["metrics"])
            Queue(message["attempt"], client=self._connected()).put(reason)

    def _started(
        self,
        flight: "_Flight",
        message: dict[str, Any],
        flights: "dict[str, _Flight]",
        settle: Callable[[Task, Outcome], None],
        show: Show,
    ) -> None:
        """A task that starts again has lost its worker; after too many losses it is given up."""
        task, worker = flight.task, message["worker"]
        flight.starts += 1
        show(Event("start", worker, task.title, 0, task.spec.train.epochs))
        if flight.starts == 1:
            return
        show(Event("requeued", worker, task.title, text="its worker was killed, it runs again on another"))
        if flight.starts > MAX_DEATHS:
            flight.future.cancel(force=True)
            flights.pop(message["key"])
            settle(task, died(task.spec, MAX_DEATHS))

    def _look_around(self) -> None:
        client = self._connected()
        if client.status not in ("running", "connecting"):
            raise InputError("the Dask scheduler is gone. What has finished is stored; start it and run this again.")
        self._wait_for_a_worker(client)

    def _wait_for_a_worker(self, client: Client) -> None:
        told = False
        while not client.nthreads():
            if not told:
                log(f"waiting for workers at {self._scheduler or 'this machine'}")
                told = True
            time.sleep(0.5)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        self._inbox.put((message["kind"], message))

    def _connected(self) -> Client:
        assert self._client is not None, "grow() connects"
        return self._client


@dataclass
class _Flight:
    """A task on its way."""

    task: Task
    future: Any
    starts: int = 0

    def outcome(self) -> Outcome | None:
        """What it ended with; None when the scheduler does not know it any more.

        Raises
        ------
        InputError
            What a worker says of itself: other versions than here.
        """
        if self.future.status == "finished":
            result: Outcome = self.future.result()
            return result
        if self.future.status != "error":
            return None
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
