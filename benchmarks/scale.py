"""What a large study costs beside training: commands on 10,000 stored runs, a store of 4 GB, memory of a worker.

Each command is a whole process, imports included. Memory is that of a process which trains for one epoch over all
training clips of a corpus as large as MusicEval, in a feature store that is as long but mostly holes on the disk:

* resident: all pages it has in memory; those of the mapped features among them belong to the system's file cache,
  which takes them back when memory is short;
* private: what it alone holds and nobody can take back (anonymous pages), the batch included.

    python benchmarks/scale.py [--runs 10000] [--repeats 5] [--clips 1923] [--keep FOLDER] [--json]
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from big_study import fill_database, write_corpus, write_features, write_file

from study.config import read_ablation_file
from study.engine import Pool, Sources, Workspace

_COMMAND = Path(sys.executable).with_name("whisq-study")
_GIB = 2**30


@dataclass(frozen=True)
class Result:
    """Seconds are medians of whole processes; memory in GiB; `store_gib` is the length of the feature files."""

    runs: int
    database_gib: float
    plan_seconds: float
    report_seconds: float
    help_seconds: float
    store_gib: float
    store_on_disk_gib: float
    open_seconds: float
    train_clips: int
    seconds_per_clip: float
    resident_gib: float
    private_gib: float


@dataclass(frozen=True)
class Training:
    """What one training process of `measure_training` took."""

    open_seconds: float
    seconds_per_clip: float
    resident_gib: float
    private_gib: float


def main() -> None:
    """Build the study, measure, print."""
    arguments = _arguments()
    if arguments.train:
        print(json.dumps(asdict(measure_training(arguments.train, arguments.clips))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        request = build(folder, arguments.runs)
        result = measure(folder, request, arguments)
    print(json.dumps(asdict(result)) if arguments.json else table(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=1923, help="training clips of the epoch whose memory is measured")
    parser.add_argument("--keep", type=Path, help="build the study here, or use the one that is here")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)  # the process whose memory is measured
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def build(folder: Path, num_runs: int) -> Sources:
    """Corpus, features and database in `folder`, unless they are there."""
    request = _request(folder)
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder)
        workspace = Workspace(write_corpus(folder), folder / "features")
        write_features(workspace)
        print(f"writing {num_runs} runs", file=sys.stderr, flush=True)
        fill_database(request, num_runs)
        (folder / "complete").touch()
    return request


def _request(folder: Path) -> Sources:
    storage = f"sqlite:///{folder}/whisq.db"
    return Sources(folder / "table.yaml", folder / "corpus.csv", folder / "features", storage, folder / "out")


def measure(folder: Path, request: Sources, arguments: argparse.Namespace) -> Result:
    """All of it, one process after the other."""
    where = ("--storage", request.storage, "--out", f"{request.out}")
    data = ("--data", f"{request.data}", "--features", f"{request.features}")
    training = subprocess.run(
        [sys.executable, __file__, "--train", f"{folder}", "--clips", f"{arguments.clips}"],
        stdout=subprocess.PIPE,
        check=True,
    )
    trained = Training(**json.loads(training.stdout))
    files = [path.stat() for path in request.features.rglob("*.safetensors")]
    return Result(
        runs=arguments.runs,
        database_gib=(folder / "whisq.db").stat().st_size / _GIB,
        plan_seconds=_seconds(arguments.repeats, "ablate", f"{request.file}", *data, *where, "--plan"),
        report_seconds=_seconds(arguments.repeats, "report", f"{request.file}", *where),
        help_seconds=_seconds(arguments.repeats, "--help"),
        store_gib=sum(file.st_size for file in files) / _GIB,
        store_on_disk_gib=sum(512 * file.st_blocks for file in files) / _GIB,
        train_clips=arguments.clips,
        **asdict(trained),
    )


def _seconds(repeats: int, *command: str) -> float:
    """The median over `repeats` runs of a command, after one that warms the file cache."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run([_COMMAND, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def measure_training(folder: Path, num_clips: int) -> Training:
    """Train the base of the table for one epoch in this process, watching its memory."""
    request = _request(folder)
    file = read_ablation_file(request.file)
    spec = Pool(1).resolved(file.base.model_copy(update={"train": file.base.train.model_copy(update={"epochs": 1})}))
    workspace = Workspace(request.data, request.features)
    clips = np.flatnonzero(workspace.corpus.clips["split"] == "train")[:num_clips]
    backbone = workspace.backbone(spec.backbone)
    _ = workspace.digest  # sums of audio files are cached, and no part of opening features
    started = time.perf_counter()
    dataset = workspace.dataset(backbone, clips)
    open_seconds = time.perf_counter() - started
    from whisq_core.training import fit

    with _Watch() as watch:
        started = time.perf_counter()
        fit(spec, dataset)
        seconds = time.perf_counter() - started
    return Training(open_seconds, seconds / len(clips), watch.peak("Rss") / _GIB, watch.peak("Anonymous") / _GIB)


class _Watch:
    """Looks at this process's memory ten times a second."""

    def __enter__(self) -> "_Watch":
        self._seen: list[dict[str, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
            self._seen.append({name: 1024 * int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)})
            if self._stop.wait(0.1):
                return

    def peak(self, name: str) -> int:
        """The largest number of bytes seen."""
        return max(seen[name] for seen in self._seen)


def table(result: Result) -> str:
    """The result as Markdown, each number beside its aim."""
    lines: Sequence[tuple[str, str, str]] = (
        (f"`ablate --plan`, {result.runs:,} runs stored", f"{result.plan_seconds:.2f} s", "2 s"),
        (f"`report`, {result.runs:,} runs stored", f"{result.report_seconds:.2f} s", "5 s"),
        ("`--help`", f"{result.help_seconds:.2f} s", "0.4 s"),
        (f"opening {result.train_clips:,} clips of a store", f"{result.open_seconds:.2f} s", "1 s"),
        ("peak resident memory of training", f"{result.resident_gib:.2f} GiB", "1.5 GB and the batch"),
        ("of it private", f"{result.private_gib:.2f} GiB", ""),
    )
    head = (
        f"database {result.database_gib:.2f} GiB; feature store {result.store_gib:.2f} GiB long, "
        f"{result.store_on_disk_gib:.2f} GiB on the disk; {1000 * result.seconds_per_clip:.1f} ms per clip trained"
    )
    body = [f"| {what} | {measured} | {aim} |" for what, measured, aim in lines]
    return "\n".join([head, "", "| what | measured | aim |", "| --- | ---: | ---: |", *body])


if __name__ == "__main__":
    main()
