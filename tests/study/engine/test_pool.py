"""Tasks are computed once each, here, in local processes or on a running cluster, and stored by the coordinator."""

import os
import re
import signal
from pathlib import Path

import pytest
from helpers.clusters import started_cluster
from helpers.controls import CONSTANT, ControlJobs, children, is_worker
from helpers.searches import BACKBONE, shared_data

from study.engine import Failure, Jobs, Pool, Task, Watch, Workspace, identify
from study.engine.cluster import VERSIONS, check_versions
from study.engine.tasks import failure_of
from study.store import Database, Run
from whisq_core.errors import InputError
from whisq_core.spec import BackboneSpec, RunSpec, with_settings


def test_one_worker_computes_in_this_process(workspace: Workspace, database: Database) -> None:
    jobs, before = ControlJobs(workspace, 5), children(os.getpid())

    with Pool(1) as pool:
        pool.run(jobs, workspace, database, "test", 5)

    assert jobs.finished == [0, 1, 2, 3, 4]
    assert set(children(os.getpid())) <= set(before)
    assert database.count_runs() == 5


def test_killed_workers_lose_no_task_and_count_none_twice(workspace: Workspace, database: Database) -> None:
    killed: list[int] = []

    def kill_some(run: Run) -> None:
        if len(jobs.finished) in (3, 20):
            victim = next(pid for pid in children(os.getpid()) if is_worker(pid))
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    jobs = ControlJobs(workspace, 40, kill_some)
    with Pool(2) as pool:
        pool.run(jobs, workspace, database, "test", 40)

    assert len(killed) == 2
    assert sorted(jobs.finished) == list(range(40))
    assert jobs.failures == []
    assert database.count_runs() == 40
    assert [pid for pid in children(os.getpid()) if is_worker(pid)] == []


def test_a_running_cluster_computes_and_stays_and_its_killed_worker_is_not_missed(
    workspace: Workspace, database: Database, tmp_path: Path
) -> None:
    def kill_one(run: Run) -> None:
        if len(jobs.finished) == 5:
            os.kill(cluster.workers()[0], signal.SIGKILL)

    jobs = ControlJobs(workspace, 30, kill_one)
    with started_cluster(tmp_path / "cluster") as cluster, Pool(scheduler=str(cluster.file)) as pool:
        pool.run(jobs, workspace, database, "test", 30)

        assert sorted(jobs.finished) == list(range(30))
        assert cluster.scheduler.poll() is None


def test_a_scheduler_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        Pool(scheduler=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"workers": 0}, "found 0, allowed: 1 to 1024"), ({"workers": 2, "scheduler": "x"}, "exclude each other")],
)
def test_a_pool_that_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pool(**options)  # type: ignore[arg-type]


class OneTraining(Jobs):
    """One training that is watched and, at its second report, stopped."""

    ahead = 0

    def __init__(self, task: Task) -> None:
        super().__init__([task])
        self.reports: list[tuple[int, list[str]]] = []
        self.ended: list[Failure] = []

    def report(self, task: Task, epoch: int, metrics: dict[str, float]) -> str | None:
        self.reports.append((epoch, sorted(metrics)))
        return "enough" if len(self.reports) == 2 else None

    def failed(self, task: Task, failure: Failure) -> None:
        self.ended.append(failure)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A corpus with the features of tiny encoders."""
    data = shared_data(tmp_path_factory)
    return Workspace(data / "corpus", data / "features")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_stops_at_the_report_at_which_it_is_told_to(
    encoded: Workspace, database: Database, workers: int
) -> None:
    settings = {"train.epochs": 9, "train.device": "cpu", "train.precision": "float32", "data.score": ["dev"]}
    spec = with_settings(RunSpec(backbone=BackboneSpec(**BACKBONE)), settings)
    watch = Watch("dev", ("ta.utterance.mse",), 3)
    jobs = OneTraining(Task(identify(spec, encoded).run_id, "trial 0", spec, "search", "whisq", watch))

    with Pool(workers) as pool:
        pool.run(jobs, encoded, database, "test", 1)

    assert jobs.reports == [(3, ["ta.utterance.mse"]), (6, ["ta.utterance.mse"])]
    assert jobs.ended == [Failure("stopped", "enough", 6)]
    assert database.count_runs() == 0


def test_another_corpus_on_a_worker_is_found_before_anything_is_computed(
    workspace: Workspace, database: Database, tmp_path: Path
) -> None:
    class Other(ControlJobs):
        def next(self) -> Task | None:
            task = super().next()
            return None if task is None else Task("0" * 32, task.title, task.spec, task.table, task.row)

    jobs = Other(workspace, 1)
    with Pool(1) as pool:
        pool.run(jobs, workspace, database, "test", 1)

    assert [failure.kind for failure in jobs.failures] == ["input"]
    assert "corpus, features or program differ" in jobs.failures[0].reason


def test_a_worker_with_other_versions_is_refused_by_name() -> None:
    check_versions("7", VERSIONS)

    with pytest.raises(InputError, match=rf"worker 7 has torch {re.escape(str(VERSIONS['torch']))} instead of 0\.1"):
        check_versions("7", {**VERSIONS, "torch": "0.1"})


def test_memory_that_runs_out_is_told_with_a_batch_that_may_fit() -> None:
    import numpy as np
    import torch

    spec = with_settings(CONSTANT, {"train.batch_size": 64})
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, np.uint8)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as of_torch:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2, 3) @ torch.zeros(2, 3)

    for error in (of_numpy.value, of_torch.value):
        failure = failure_of(error, spec)
        assert failure.kind == "out_of_memory"
        assert failure.reason.startswith("out of memory with train.batch_size 64: try train.batch_size 32")
    assert failure_of(other.value, spec).reason.startswith("unexpected RuntimeError: mat1 and mat2")
    assert failure_of(InputError("one thing,\nand another"), spec).reason == "one thing, and another"
