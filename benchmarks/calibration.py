"""Does the verdict keep its promise? Simulated tables whose truth is known, judged by the functions that judge yours.

    python benchmarks/calibration.py [--tables 5000] [--workers 2] [--out results/calibration.csv]   (make calibration)

Each table is a corpus of its own (29 systems of 4 to 27 clips, crossed with 128 prompts, labels in steps of .2), a
reference and six declared rows on ten seeds, as MusicEval's dev set has them. Every table is judged on U-SRCC and on
U-MSE, some on system-level correlations. Nulls, in which every 'better' or 'worse' is false:

* same procedure: the rows are the reference with other seeds (A/A);
* equal in the population: every row errs in its own way, all of them equally on average; prompts carry 0, 40 or 80 % of
  the errors' variance; with tied predictions; with heavy tails;
* both of one size: errors mostly shared and seeds that scatter three times as much;
* cross-validated: 2,335 clips in five folds, each fold predicted by a model with training-set errors of its own.

Then rows that differ by just the equivalence margin, so that 'equivalent' would be false, rows that are equal, so that
it is right, and one row of six that is worse by a known difference: the power. The same tables are also judged as
version 0.1 did (errors over systems alone, equivalence by two intervals), but for its bootstrap.

Counts are kept in build/calibration as they are made: a run that was stopped goes on there, and one that was complete
only writes the table anew.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from calibration_counts import Counts, line_of, simulate_many
from calibration_worlds import PLAN, World
from threadpoolctl import threadpool_limits

PROCEDURE = 3
"""Raise when the same predictions get other verdicts: counts of an older procedure are left aside."""
CHUNK = 100  # tables whose counts are kept at once


class Kept:
    """The counts of one world as they are made: a line of JSON for each chunk of tables."""

    def __init__(self, folder: Path, world: World) -> None:
        name = sha256(json.dumps([PROCEDURE, CHUNK, asdict(world)]).encode()).hexdigest()[:12]
        self._path = folder / f"{name}.jsonl"
        self.chunks: dict[int, dict[str, Counts]] = {}
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                chunk = json.loads(line)
                self.chunks[chunk["start"]] = {name: Counts(**counts) for name, counts in chunk["counts"].items()}

    def add(self, start: int, counts: dict[str, Counts]) -> None:
        """Keep the counts of one more chunk."""
        self.chunks[start] = counts
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"start": start, "counts": {name: asdict(one) for name, one in counts.items()}}) + "\n"
            )

    def totals(self) -> dict[str, Counts]:
        """The counts of all chunks, by metric."""
        sums: dict[str, Counts] = {}
        for chunk in self.chunks.values():
            for metric, counts in chunk.items():
                sums.setdefault(metric, Counts())
                sums[metric] += counts
        return sums


def run(
    plan: Sequence[tuple[World, int]], num_tables: int, num_workers: int, folder: Path
) -> Iterator[tuple[World, Kept]]:
    """Each world of the plan when its tables are there; the counts do not depend on the number of workers."""
    with ProcessPoolExecutor(num_workers, initializer=_one_thread) as pool:
        for world, share in plan:
            kept = Kept(folder, world)
            starts = range(0, max(num_tables // share, CHUNK), CHUNK)
            chunks = [range(start, start + CHUNK) for start in starts if start not in kept.chunks]
            for chunk, counts in zip(chunks, pool.map(simulate_many, [world] * len(chunks), chunks), strict=True):
                kept.add(chunk.start, counts)
            yield world, kept


def _one_thread() -> None:
    threadpool_limits(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=5000, help="simulated tables under each null")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/calibration.csv"))
    parser.add_argument("--work", type=Path, default=Path("build/calibration"), help="where counts are kept")
    arguments = parser.parse_args()
    start = time.monotonic()
    for world, kept in run(PLAN, arguments.tables, arguments.workers, arguments.work):
        for metric, counts in kept.totals().items():
            print(f"{time.monotonic() - start:6.0f} s  {line_of(world, metric, counts)}", file=sys.stderr, flush=True)
        num_lines = write(arguments.out, arguments.work)
    print(f"{arguments.out}: {num_lines} lines, {time.monotonic() - start:.0f} s")


def write(out: Path, folder: Path) -> int:
    """The table of all counts that are kept; the number of its lines."""
    found = [(world, Kept(folder, world).totals()) for world, _ in PLAN]
    lines = [line_of(world, metric, counts) for world, totals in found for metric, counts in totals.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return len(lines)


if __name__ == "__main__":
    main()
