"""A Dask cluster that was started by hand: a scheduler, and workers that each have a nanny which starts them again."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.command import ENVIRONMENT
from helpers.controls import children, is_worker


@dataclass(frozen=True)
class StartedCluster:
    """The scheduler's file, its process, and those of the nannies."""

    file: Path
    scheduler: subprocess.Popen[bytes]
    nannies: list[subprocess.Popen[bytes]]

    def workers(self) -> list[int]:
        """The processes that compute now."""
        return [pid for nanny in self.nannies for pid in children(nanny.pid) if is_worker(pid)]


@contextlib.contextmanager
def started_cluster(folder: Path) -> Iterator[StartedCluster]:
    """A scheduler and two workers on this machine, ended with the block."""
    folder.mkdir()
    file = folder / "scheduler.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(_started("scheduler", file, "--host", "127.0.0.1", "--port", port))
        own = [("--nthreads", "1", "--local-directory", str(folder / f"worker-{number}")) for number in range(2)]
        nannies = [stack.enter_context(_started("worker", file, *options)) for options in own]
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.05)
        yield StartedCluster(file, scheduler, nannies)


@contextlib.contextmanager
def _started(part: str, file: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--scheduler-file", str(file), "--no-dashboard"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, *options], env=ENVIRONMENT, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
