"""Does the verdict keep its promise? Simulated tables whose truth is known, judged by the functions that judge yours.

    python benchmarks/calibration.py [--tables 5000] [--workers 2] [--out results/calibration.csv]   (make calibration)

Each table is a corpus of its own (systems, clips, labels in steps of .2), a reference and six declared rows trained on
seeds of their own. Numbers of systems and clips, the SRCC of about .6 and its seed sd of .01 are those of MusicEval.

Nulls, in which every verdict 'better' or 'worse' is false:

* same procedure: the rows are the reference with other seeds;
* equal in the population: every row errs on clips of its own, all of them equally on average;
* both of one size: errors mostly shared and seeds that scatter three times as much, so that neither source dominates
  (here max(p_seed, p_system) alone fails, and p_both is what keeps the promise).

With fewer tables: 12 systems; a system-level metric; one row worse by just the equivalence margin, so that
'equivalent' would be false; and the power: one of six rows is worse by a known difference of population SRCC.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from study.stats import ALPHA, Comparison, Interval, compare, decide, holm, resample
from whisq_core.metrics import group_means, srcc

Array = NDArray[np.float64]

MARGIN = 0.01
NUM_ROWS = 6
NUM_DRAWS = 500  # the interval rests on the draws' standard deviation: 3 % off, where 2,000 draws are 1.6 % off
CHUNK = 25  # tables a process takes at once


@dataclass(frozen=True)
class World:
    """How tables are made: sds of errors (by system and, again, by clip), and how seeds move them.

    ``seed_scale`` is the relative sd, over seeds, of a row's whole error; ``seed_noise`` the sd of what a seed adds to
    each clip. ``effect`` is by how much the first row's population SRCC lies below that of the others.
    """

    name: str
    shared_error: float
    own_error: float
    seed_scale: float
    seed_noise: float
    num_seeds: int = 10
    num_systems: int = 29
    effect: float = 0.0
    metric: str = "ta.utterance.srcc"


SAME = World("same procedure", shared_error=0.35, own_error=0.0, seed_scale=0.03, seed_noise=0.08)
EQUAL = World("equal in the population", shared_error=0.0, own_error=0.35, seed_scale=0.03, seed_noise=0.08)
BOTH = World("both of one size", shared_error=0.35, own_error=0.05, seed_scale=0.10, seed_noise=0.08)
SHARED = World("mostly shared errors", shared_error=0.33, own_error=0.12, seed_scale=0.03, seed_noise=0.08)
NULLS = (SAME, EQUAL, BOTH)
OTHERS = (
    replace(EQUAL, num_systems=12),
    replace(EQUAL, metric="ta.system.srcc"),
    replace(SAME, name="at the margin", effect=MARGIN),
)
POWER = tuple(
    replace(world, name=f"power, {kind}", effect=effect, num_seeds=num_seeds, num_systems=num_systems)
    for world, kind in ((EQUAL, "own errors"), (SHARED, "mostly shared errors"))
    for num_systems, num_seeds in ((29, 5), (29, 10), (29, 20), (60, 10), (100, 10))
    for effect in (0.03, 0.06, 0.12)
)
PLAN = (*((world, 1) for world in NULLS), *((world, 5) for world in OTHERS), *((world, 25) for world in POWER))


@dataclass(frozen=True)
class Table:
    """What became of one simulated table."""

    false_verdict: bool  # better or worse where that is not so
    seeds_alone: bool  # the same if the seed test alone decided
    without_both: bool  # the same if max(p_seed, p_system) decided
    found: bool  # the row with an effect is called worse
    false_equivalence: bool
    alarm: bool  # an A/A row, judged as a comparison of its own, raises the alarm
    seeds_cover: float  # share of seed intervals that hold the truth; NaN where the truth is not known
    items_cover: float
    seed_sd: float
    item_error: float
    srcc: float


@dataclass(frozen=True)
class Outcome:
    """One line of the CSV: rates over tables; ``upper_bound`` is the upper 95 % bound of ``false_verdicts``.

    ``seeds_alone`` and ``max_of_two`` are the rates of false verdicts if only the seed test, or only the larger of
    p_seed and p_system, decided.
    """

    scenario: str
    metric: str
    systems: int
    seeds: int
    effect: float
    tables: int
    false_verdicts: float
    upper_bound: float
    seeds_alone: float
    max_of_two: float
    false_equivalence: float
    aa_alarms: float
    power: float
    seed_interval_coverage: float
    item_interval_coverage: float
    mean_srcc: float
    seed_sd: float
    item_error: float


def simulate(world: World, scale: float, table: int) -> Table:
    """Make and judge one table; the first row's error is `scale` times as large (see `error_scale`).

    Its random numbers depend on the world's name and size and on `table` only.
    """
    key = [*world.name.encode(), world.num_seeds, world.num_systems, round(world.effect * 1000), table]
    generator = np.random.default_rng(key)
    system_of, signal, labels = _corpus(world.num_systems, generator)
    shared = _error(system_of, world.num_systems, world.shared_error, generator)
    scales = [1.0, scale, *[1.0] * (NUM_ROWS - 1)]
    rows = [_predictions(world, system_of, signal, shared, one, generator) for one in scales]
    truth = np.stack([labels, labels], axis=1)
    resampling = resample(truth, [f"S{system:03}" for system in system_of], None, NUM_DRAWS, generator)
    values = [np.array([_value(world.metric, one, labels, system_of) for one in row]) for row in rows]
    draws = [resampling.seed_mean(world.metric, np.repeat(row[:, :, None], 2, axis=2)) for row in rows]
    comparisons = [
        compare(world.metric, values[row], values[0], draws[row] - draws[0], world.num_systems)
        for row in range(1, NUM_ROWS + 1)
    ]
    return _outcome_of_table(world, comparisons, float(np.mean([one.std(ddof=1) for one in values])), values[0].mean())


def _value(metric: str, predicted: Array, labels: Array, system_of: NDArray[np.int64]) -> float:
    """The metric of one seed, by the functions behind `evaluate`, which would compute all 18."""
    if ".system." in metric:
        predicted, labels = group_means(predicted, system_of), group_means(labels, system_of)
    return srcc(predicted, labels)


def _corpus(num_systems: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], Array, Array]:
    """Systems of 4 to 27 clips, what a perfect listener would hear in each clip, and the mean of five ratings."""
    sizes = np.clip(np.round(generator.gamma(5, 14.2 / 5, num_systems)), 4, 27).astype(np.int64)
    system_of = np.repeat(np.arange(num_systems), sizes)
    by_system, by_clip = generator.normal(0, 0.45, num_systems), generator.normal(0, 0.45, len(system_of))
    labels = 3.2 + by_system[system_of] + by_clip + generator.normal(0, 0.25, len(system_of))
    return system_of, by_system[system_of] + 0.45 * by_clip, np.clip(np.round(labels * 5) / 5, 1, 5)


def _error(system_of: NDArray[np.int64], num_systems: int, sd: float, generator: np.random.Generator) -> Array:
    error: Array = generator.normal(0, sd, num_systems)[system_of] + generator.normal(0, sd, len(system_of))
    return error


def _predictions(
    world: World,
    system_of: NDArray[np.int64],
    signal: Array,
    shared: Array,
    scale: float,
    generator: np.random.Generator,
) -> Array:
    """[seeds, clips]"""
    own = _error(system_of, int(system_of[-1]) + 1, world.own_error, generator)
    of_seeds = scale * (1 + generator.normal(0, world.seed_scale, (world.num_seeds, 1)))
    noise = generator.normal(0, world.seed_noise, (world.num_seeds, len(signal)))
    predictions: Array = signal + of_seeds * (shared + own) + noise
    return predictions


def error_scale(world: World) -> float:
    """By what a row's error must grow to cost `effect` of population SRCC: bisection on one very large corpus."""
    return _scale(replace(world, name="", num_seeds=3, num_systems=20_000)) if world.effect else 1.0


@lru_cache
def _scale(population: World) -> float:
    reference = _population_srcc(population, 1.0)
    low, high = 1.0, 5.0
    for _ in range(20):
        middle = (low + high) / 2
        worse = reference - _population_srcc(population, middle)
        low, high = (middle, high) if worse < population.effect else (low, middle)
    return high


def _population_srcc(population: World, scale: float) -> float:
    generator = np.random.default_rng(0)  # the same corpus for every scale
    system_of, signal, labels = _corpus(population.num_systems, generator)
    shared = _error(system_of, population.num_systems, population.shared_error, generator)
    predictions = _predictions(population, system_of, signal, shared, scale, generator)
    return float(np.mean([srcc(predicted, labels) for predicted in predictions]))


def _outcome_of_table(world: World, comparisons: list[Comparison], seed_sd: float, level: float) -> Table:
    decisions = decide(comparisons, MARGIN, higher_is_better=True)
    verdicts = [decision.verdict for decision in decisions]
    equal = slice(1, None) if world.effect else slice(None)
    false_verdict = any(verdict in ("better", "worse") for verdict in verdicts[equal])
    truths = np.array([-world.effect] + [0.0] * (NUM_ROWS - 1))
    seeds, items = ([getattr(comparison, source) for comparison in comparisons] for source in ("seeds", "systems"))
    rejected = [
        holm(np.array(p))[equal] <= ALPHA
        for p in ([c.p_seed for c in comparisons], [max(c.p_seed, c.p_system) for c in comparisons])
    ]
    alone = decide(comparisons[-1:], MARGIN, higher_is_better=True)[0].verdict
    return Table(
        false_verdict=false_verdict or (world.effect > 0 and verdicts[0] == "better"),
        seeds_alone=bool(rejected[0].any()),
        without_both=bool(rejected[1].any()),
        found=verdicts[0] == "worse",
        false_equivalence=world.effect >= MARGIN and verdicts[0] == "equivalent",
        alarm=alone not in ("inconclusive", "equivalent"),
        # On given clips the expected difference of two rows is only known when they are the same procedure.
        seeds_cover=_coverage(seeds, truths)[equal].mean() if world.own_error == 0 else np.nan,
        # Where seeds scatter as much as items, the item interval's target is the population at these seeds, not known.
        items_cover=_coverage(items, truths).mean() if world.own_error > 0.1 else np.nan,
        seed_sd=seed_sd,
        item_error=float(np.mean([comparison.system_error for comparison in comparisons])),
        srcc=float(level),
    )


def _coverage(intervals: list[Interval], truths: Array) -> Array:
    return np.array([one.low <= truth <= one.high for one, truth in zip(intervals, truths, strict=True)], dtype=float)


def summarise_tables(world: World, tables: list[Table]) -> Outcome:
    """Rates over tables; the bound is Clopper and Pearson's."""
    count, total = sum(table.false_verdict for table in tables), len(tables)
    bound = float(stats.beta.ppf(0.95, count + 1, total - count)) if count < total else 1.0

    def rate(name: str) -> float:
        return float(np.mean([getattr(table, name) for table in tables]))

    return Outcome(
        scenario=world.name,
        metric=world.metric,
        systems=world.num_systems,
        seeds=world.num_seeds,
        effect=world.effect,
        tables=total,
        false_verdicts=count / total,
        upper_bound=bound,
        seeds_alone=rate("seeds_alone"),
        max_of_two=rate("without_both"),
        false_equivalence=rate("false_equivalence") if world.effect else np.nan,
        aa_alarms=rate("alarm") if world.own_error == 0 else np.nan,
        power=rate("found") if world.effect > MARGIN else np.nan,
        seed_interval_coverage=rate("seeds_cover"),
        item_interval_coverage=rate("items_cover"),
        mean_srcc=rate("srcc"),
        seed_sd=rate("seed_sd"),
        item_error=rate("item_error"),
    )


def run(world: World, num_tables: int, pool: Executor | None = None) -> Outcome:
    """Simulate `num_tables` tables; the result does not depend on the number of workers."""
    scale = error_scale(world)
    if pool is None:
        return summarise_tables(world, _simulate_many(world, scale, range(num_tables)))
    chunks = [range(start, min(start + CHUNK, num_tables)) for start in range(0, num_tables, CHUNK)]
    futures = [pool.submit(_simulate_many, world, scale, chunk) for chunk in chunks]
    return summarise_tables(world, [table for future in futures for table in future.result()])


def _simulate_many(world: World, scale: float, tables: range) -> list[Table]:
    return [simulate(world, scale, table) for table in tables]


def _one_thread() -> None:
    threadpool_limits(1)


def outcomes(num_tables: int, num_workers: int) -> Iterator[Outcome]:
    """Every world of the plan: `num_tables` tables under each null, a share of them elsewhere."""
    with ProcessPoolExecutor(num_workers, initializer=_one_thread) as pool:
        for world, share in PLAN:
            yield run(world, max(num_tables // share, 1), pool)


def _shown(value: str | int | float) -> str:
    """Four digits; nothing where a rate has no meaning."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=5000, help="simulated tables under each null")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/calibration.csv"))
    arguments = parser.parse_args()
    start, lines = time.monotonic(), []
    for outcome in outcomes(arguments.tables, arguments.workers):
        lines.append({name: _shown(value) for name, value in asdict(outcome).items()})
        print(f"{time.monotonic() - start:6.0f} s  {lines[-1]}", file=sys.stderr, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    print(f"{arguments.out}: {len(lines)} lines, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
