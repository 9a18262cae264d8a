"""N processes here, any number elsewhere: each claims tickets, runs them, and puts back what it could not finish."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, cast

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from study.engine.patient_storage import patiently
from study.engine.queue import (
    MAX_LOSSES,
    claim,
    heartbeat,
    losses,
    open_storage,
    put_back,
    reap,
    unfinished,
    worker_name,
)
from study.store.database import Database
from study.store.urls import check_worker_count
from whisq_core.errors import InputError

_MAX_CRASHES = 5  # workers that may die one after the other, with no ticket finished in between


@dataclass(frozen=True)
class Event:
    """One step of progress: `kind` is "start", "epoch", "done", "failed", "pruned", "lost" or "fatal"."""

    kind: str
    worker: int
    title: str
    step: int = 0
    num_steps: int = 0
    text: str = ""


Emit = Callable[[Event], None]


class Session(Protocol):
    """A job opened in one process: its data mapped, its database connected."""

    def perform(self, trial: optuna.Trial, emit: Emit) -> None:
        """Run one ticket to its end and tell Optuna; raises only what should stop the worker."""

    def abandon(self, trial: optuna.Trial, reason: str) -> None:
        """Record that a ticket is given up."""


class Job(Protocol):
    """What the workers of one study do; pickled into each process."""

    @property
    def study_name(self) -> str:
        """The Optuna study whose tickets are worked on."""

    def open(self, study: optuna.Study, database: Database, worker: int) -> Session:
        """Called once in each process."""

    def wants(self, trial: FrozenTrial) -> bool:
        """Whether a ticket of the study is part of what was asked for."""

    def load(self, storage: RDBStorage, worker: int) -> optuna.Study:
        """The study with this worker's sampler and pruner."""


def run_workers(job: Job, url: str, workers: int, emit: Emit) -> None:
    """Work until no wanted ticket of the study waits or runs anywhere.

    One worker runs in this process. Several run in processes of their own; one that dies is replaced at once and its
    ticket goes back into the queue. Ctrl-C and SIGTERM put the running tickets back and raise KeyboardInterrupt.
    """
    check_worker_count(url, workers)
    with _terminated_as_interrupt():
        if workers == 1:
            _work(job, url, 0, emit)
        else:
            _Pool(job, url, workers, emit).run()


def _work(job: Job, url: str, worker: int, emit: Emit) -> None:
    database = Database(url)
    storage = open_storage(database)
    study = job.load(storage, worker)
    session: Session | None = None
    name = worker_name()
    while not _orphaned():
        trial = patiently(lambda: claim(study, database, name, job.wants))
        if trial is None:
            patiently(lambda: reap(study, database))
            if not unfinished(study, job.wants):
                return
            time.sleep(0.3)
            continue
        try:
            with heartbeat(trial):
                session = session or job.open(study, database, worker)
                if losses(trial) >= MAX_LOSSES:
                    session.abandon(trial, f"its worker died {losses(trial)} times (out of memory?)")
                else:
                    session.perform(trial, emit)
        except BaseException:
            put_back(study, trial._trial_id)
            raise


def _orphaned() -> bool:
    """Whether the supervisor of this worker was killed: then nobody sees what it does, and it takes no more tickets."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM (a batch system's notice) like Ctrl-C, so that the running ticket goes back."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: its signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What starts in here never sees Ctrl-C, which the terminal sends to it too; ours waits until the end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # what the first process brings with it lets interrupts through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Pool:
    """The worker processes of this machine and their supervisor.

    Each worker has a pipe of its own: a queue shared by all would stay locked when a worker is killed while it writes.
    """

    def __init__(self, job: Job, url: str, workers: int, emit: Emit) -> None:
        self._context = multiprocessing.get_context("spawn")  # forking after torch has made threads hangs
        self._job, self._url, self._emit = job, url, emit
        self._crashes = 0
        self._database = Database(url)
        self._study = job.load(open_storage(self._database), workers)
        self._pipes: dict[Connection, int] = {}
        self._processes = {worker: self._start(worker) for worker in range(workers)}

    def _start(self, worker: int) -> BaseProcess:
        reader, writer = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_process_main, args=(self._job, self._url, worker, writer), name=f"worker-{worker}"
        )
        with _deaf_to_interrupts():
            process.start()
        writer.close()
        self._pipes[reader] = worker
        return process

    def run(self) -> None:
        try:
            while self._processes:
                self._listen()
        except BaseException:
            self._stop()
            raise

    def _listen(self) -> None:
        """Pass on the events that are there; a pipe that ends tells that its worker has ended."""
        for ready in wait(list(self._pipes), timeout=1.0):
            pipe = cast("Connection", ready)
            try:
                event: Event = pipe.recv()
            except EOFError:
                self._ended(self._pipes.pop(pipe))
                pipe.close()
                continue
            if event.kind == "fatal":
                raise InputError(*event.text.splitlines())
            if event.kind in ("done", "pruned", "failed"):
                self._crashes = 0
            self._emit(event)

    def _ended(self, worker: int) -> None:
        """Let go of a worker that found nothing more to do; replace one that died, its ticket goes back at once."""
        process = self._processes.pop(worker)
        process.join()
        if process.exitcode == 0:
            return
        self._crashes += 1
        reap(self._study, self._database)
        self._emit(Event("lost", worker, "", text=f"worker {worker} ended with status {process.exitcode}"))
        if self._crashes >= _MAX_CRASHES:
            raise InputError(
                f"{self._crashes} workers died one after the other (last status {process.exitcode}); nothing is lost: "
                "their tickets are back in the queue. Run the same command with --workers 1 to see why."
            )
        self._processes[worker] = self._start(worker)

    def _stop(self) -> None:
        """End the workers gently; each puts its ticket back. What does not end in 10 s is killed and reaped."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + 10
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        reap(self._study, self._database)


def _process_main(job: Job, url: str, worker: int, events: Connection) -> None:
    """The whole life of a worker process; ends with status 0 when nothing is left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides

    def emit(event: Event) -> None:
        with suppress(BrokenPipeError):  # the supervisor is gone: finish this ticket all the same
            events.send(event)

    try:
        with _terminated_as_interrupt():
            _work(job, url, worker, emit)
    except KeyboardInterrupt:
        sys.exit(0)
    except InputError as error:
        emit(Event("fatal", worker, "", text=str(error)))
        sys.exit(1)
