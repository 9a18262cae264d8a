"""Runs that cost nothing: the constant predictor on a small corpus, one run per seed. For tests of the engine."""

import threading
from collections.abc import Callable
from pathlib import Path

from study.engine import Failure, Jobs, Task, Workspace, identify
from study.store import Run
from whisq_core.spec import RunSpec, with_settings

CONSTANT = with_settings(RunSpec(), {"model.predictor": "constant"})


class ControlJobs(Jobs):
    """`count` runs of the constant predictor; `after` is called with each finished run."""

    def __init__(self, workspace: Workspace, count: int, after: Callable[[Run], None] = lambda run: None) -> None:
        specs = (CONSTANT.model_copy(update={"seed": seed}) for seed in range(count))
        super().__init__(
            Task(identify(spec, workspace).run_id, f"seed {spec.seed}", spec, "table", "constant") for spec in specs
        )
        self._after = after
        self.finished: list[int] = []
        self.failures: list[Failure] = []

    def done(self, task: Task, run: Run) -> str:
        assert threading.current_thread() is threading.main_thread()
        self.finished.append(run.seed)
        self._after(run)
        return ""

    def failed(self, task: Task, failure: Failure) -> None:
        self.failures.append(failure)


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs, as far as they live."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_worker(pid: int) -> bool:
    """Whether a process is one of Dask's workers, and not the helper that multiprocessing brings."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
