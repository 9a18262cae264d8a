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
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from study.stats import ALPHA, Comparison, Items, compare, holm, influence, words
from whisq_core.metrics import group_means, higher_is_better, lcc, mse, srcc

Array = NDArray[np.float64]
Groups = NDArray[np.int64]

PROCEDURE = 3
"""Raise when the same predictions get other verdicts: counts of an older procedure are left aside."""
NUM_ROWS = 6
NUM_CORPORA = 300  # over which an effect is defined
CHUNK = 100  # tables whose counts are kept at once
U_SRCC, U_MSE = "ta.utterance.srcc", "ta.utterance.mse"


@dataclass(frozen=True)
class World:
    """How tables are made: sds of errors, by system and, again, by clip, and how seeds move them.

    ``prompt_share`` of the own errors' variance lies in prompts. ``tail`` are the degrees of freedom of the Student's t
    that own errors follow; ``step`` is what predictions are rounded to. ``seed_scale`` is the relative sd, over seeds,
    of a row's whole error; ``seed_noise`` the sd of what a seed adds to each clip. ``fold_error`` is the sd, by fold
    and system, of what one training set adds. ``effect`` is by how much the population U-SRCC of the first
    ``num_worse`` rows lies below that of the others; ``margin`` is in that unit, in other metrics that of these errors.
    """

    name: str
    shared_error: float = 0.0
    own_error: float = 0.35
    seed_scale: float = 0.03
    seed_noise: float = 0.08
    prompt_share: float = 0.0
    tail: float = 0.0
    step: float = 0.0
    fold_error: float = 0.0
    num_seeds: int = 10
    num_systems: int = 29
    clips_per_system: float = 14.2
    effect: float = 0.0
    num_worse: int = 1
    margin: float = 0.01
    metrics: tuple[str, ...] = (U_SRCC, U_MSE)


SAME = World("same procedure", shared_error=0.35, own_error=0.0)
EQUAL = World("equal in the population")
BOTH = World("both of one size", shared_error=0.35, own_error=0.05, seed_scale=0.10)
SHARED = World("mostly shared errors", shared_error=0.33, own_error=0.12)
NULLS = (
    SAME,
    EQUAL,
    replace(EQUAL, name="equal, prompts 40 %", prompt_share=0.4),
    replace(EQUAL, name="equal, prompts 80 %", prompt_share=0.8),
    replace(EQUAL, name="equal, tied predictions", step=0.25, prompt_share=0.2),
    replace(EQUAL, name="equal, heavy tails", tail=5.0, prompt_share=0.2),
    replace(EQUAL, name="equal, heaviest tails", tail=3.0, prompt_share=0.2),
    BOTH,
    replace(EQUAL, name="equal, system level", metrics=("ta.system.srcc", "ta.system.lcc"), prompt_share=0.2),
    replace(EQUAL, name="equal, cross-validated", fold_error=0.1, clips_per_system=80.5, prompt_share=0.2),
)
EQUIVALENCE = (
    replace(SAME, name="same procedure, wider margin", margin=0.02),
    replace(SAME, name="at the margin, same errors", effect=0.01, num_worse=NUM_ROWS),
    replace(BOTH, name="at the margin, both of one size", effect=0.06, num_worse=NUM_ROWS, margin=0.06),
    replace(SHARED, name="at the margin, own errors", effect=0.10, num_worse=NUM_ROWS, margin=0.10),
)
OWN = World("power, own errors", own_error=0.25, prompt_share=0.2)
ALIKE = replace(SHARED, name="power, mostly shared errors", prompt_share=0.2)
POWER = (
    *(replace(OWN, effect=effect) for effect in (0.05, 0.10, 0.15)),
    *(replace(OWN, effect=effect, num_systems=60) for effect in (0.05, 0.10)),
    replace(OWN, effect=0.10, num_seeds=20),
    replace(OWN, name="power, cross-validated", effect=0.05, clips_per_system=80.5, fold_error=0.1),
    replace(OWN, name="power, system level", effect=0.10, metrics=("ta.system.srcc", "ta.system.lcc")),
    *(replace(ALIKE, effect=effect) for effect in (0.05, 0.10)),
)
PLAN = sorted(  # the large corpora last
    (*((world, 1) for world in (*NULLS, *EQUIVALENCE)), *((world, 10) for world in POWER)),
    key=lambda planned: planned[0].clips_per_system,
)


@dataclass
class Counts:
    """Sums over tables of one world and metric; the names are those of the CSV."""

    tables: int = 0
    false_verdicts: int = 0  # tables with a better or worse where that is not so
    seeds_alone: int = 0  # the same if the seed test alone decided
    one_way: int = 0  # the same with errors over systems alone
    found: int = 0  # the row with an effect is called worse
    found_one_way: int = 0
    false_equivalence: int = 0  # tables with an 'equivalent' where a row lies at the margin or beyond
    two_intervals: int = 0  # the same by two 90 % intervals without correction
    equivalent: float = 0  # share of equal rows that are called equivalent
    aa_alarms: int = 0  # the last row, judged as a comparison of its own, differs
    covered: float = 0  # share of combined 95 % intervals that hold the truth, where it is known
    value: float = 0
    seed_error: float = 0
    system_error: float = 0

    def __iadd__(self, other: "Counts") -> "Counts":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass(frozen=True)
class Corpus:
    """The system and prompt of each clip, what a perfect listener would hear in it, and the mean of five ratings."""

    crossed: Items
    one_way: Items
    system: Groups
    prompt: Groups
    fold: Groups
    signal: Array
    labels: Array


def make_corpus(world: World, num_systems: int, generator: np.random.Generator) -> Corpus:
    """Systems of 4 to 27 clips (times as many as there are more of them), each with prompts of its own choice."""
    scale = world.clips_per_system / 14.2
    sizes = np.clip(np.round(generator.gamma(5, 14.2 / 5, num_systems)), 4, 27) * scale
    system = np.repeat(np.arange(num_systems), sizes.astype(np.int64))
    prompt = np.concatenate([generator.choice(round(128 * scale), size, replace=False) for size in sizes.astype(int)])
    by_system, by_clip = generator.normal(0, 0.45, num_systems), generator.normal(0, 0.45, len(system))
    labels = 3.2 + by_system[system] + by_clip + generator.normal(0, 0.25, len(system))
    return Corpus(
        crossed=Items.of(system, prompt),
        one_way=Items.of(system, None),
        system=system,
        prompt=prompt,
        fold=generator.permutation(len(system)) % 5,
        signal=3.2 + by_system[system] + 0.45 * by_clip,
        labels=np.clip(np.round(labels * 5) / 5, 1, 5),
    )


def _error(world: World, corpus: Corpus, sd: float, generator: np.random.Generator) -> Array:
    """By system, by clip and by prompt, of the same variance whatever the share of prompts."""

    def drawn(size: int, variance: float) -> Array:
        if world.tail:
            scaled = generator.standard_t(world.tail, size) / np.sqrt(world.tail / (world.tail - 2))
            return np.asarray(scaled * np.sqrt(variance))
        return generator.normal(0, np.sqrt(variance), size)

    rest = sd**2 * (1 - world.prompt_share)
    error = drawn(int(corpus.system[-1]) + 1, rest)[corpus.system] + drawn(len(corpus.system), rest)
    if world.prompt_share:
        error += drawn(int(corpus.prompt.max()) + 1, 2 * sd**2 * world.prompt_share)[corpus.prompt]
    return error


def make_row(world: World, corpus: Corpus, shared: Array, scale: float, generator: np.random.Generator) -> Array:
    """Predictions [seeds, clips] of one row whose error is `scale` times as large as that of others."""
    error = shared + _error(world, corpus, world.own_error, generator)
    if world.fold_error:
        of_training_sets = generator.normal(0, world.fold_error, (5, int(corpus.system[-1]) + 1))
        error = error + of_training_sets[corpus.fold, corpus.system]
    of_seeds = scale * (1 + generator.normal(0, world.seed_scale, (world.num_seeds, 1)))
    predictions = corpus.signal + of_seeds * error
    predictions += generator.normal(0, world.seed_noise, predictions.shape)
    return np.round(predictions / world.step) * world.step if world.step else predictions


@lru_cache
def population(world: World) -> tuple[float, dict[str, float]]:
    """By what a row's error must grow to cost `effect` of U-SRCC, and the margin in the unit of each metric.

    Bisection on the mean over corpora of the world's own size, the same for every scale.
    """
    if not world.effect:
        return 1.0, dict.fromkeys(world.metrics, world.margin)
    sample = []
    for number in range(NUM_CORPORA):
        generator = np.random.default_rng([0, number])
        corpus = make_corpus(world, world.num_systems, generator)
        sample.append((corpus, _error(world, corpus, world.shared_error, generator)))

    def worse(metric: str, scale: float) -> float:
        """By how much a metric is lower at this scale, errors and seeds being the same."""
        values = np.zeros(2)
        for number, (corpus, shared) in enumerate(sample):
            for side, size in enumerate((1.0, scale)):
                generator = np.random.default_rng([1, number])
                row = make_row(replace(world, num_seeds=1), corpus, shared, size, generator)
                values[side] += _value(metric, row[0], corpus) / NUM_CORPORA
        return float(values[0] - values[1])

    low, high = 1.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if worse(U_SRCC, middle) < world.effect else (low, middle)
    return high, {name: abs(worse(name, high)) for name in world.metrics}


def _value(metric: str, predicted: Array, corpus: Corpus) -> float:
    labels = corpus.labels
    if ".system." in metric:
        predicted, labels = group_means(predicted, corpus.system), group_means(labels, corpus.system)
    return {"srcc": srcc, "lcc": lcc, "mse": mse}[metric.rpartition(".")[2]](predicted, labels)


def simulate(world: World, table: int) -> dict[str, Counts]:
    """Make one table and judge it on each metric; its random numbers depend on the world and on `table` only."""
    generator = np.random.default_rng(
        [*world.name.encode(), world.num_seeds, world.num_systems, round(world.effect * 1000), table]
    )
    corpus = make_corpus(world, world.num_systems, generator)
    shared = _error(world, corpus, world.shared_error, generator)
    scale, margins = population(world)
    scales = [1.0] + [scale if row < world.num_worse else 1.0 for row in range(NUM_ROWS)]
    rows = [make_row(world, corpus, shared, one, generator) for one in scales]
    return {metric: _judged(world, metric, margins[metric], corpus, rows) for metric in world.metrics}


def _judged(world: World, metric: str, margin: float, corpus: Corpus, rows: list[Array]) -> Counts:
    values, moved = influence(metric, np.concatenate(rows), corpus.labels, corpus.system)
    values, moved = values.reshape(len(rows), -1), moved.reshape(len(rows), len(rows[0]), -1)
    now, before = [], []
    for row in range(1, NUM_ROWS + 1):
        difference = moved[row] - moved[0]
        error, noise = corpus.crossed.error(metric, difference)
        now.append(compare(metric, values[row], values[0], error, world.num_systems, seed_noise=noise))
        one_way = corpus.one_way.error(metric, difference.mean(axis=0, keepdims=True)).error
        before.append(replace(now[-1], by_systems=one_way, beyond_seeds=one_way))
    return _counted(world, metric, margin, now, before, float(values[0].mean()))


def _counted(
    world: World, metric: str, margin: float, now: list[Comparison], before: list[Comparison], value: float
) -> Counts:
    up = higher_is_better(metric)
    verdicts, old = words(now, margin, up), words(before, margin, up)
    worse = slice(0, world.num_worse if world.effect else 0)
    equal = slice(worse.stop, None)
    different = ("better", "worse")
    seeds = holm([one.p_seed for one in now])[equal] <= ALPHA
    two_intervals = [
        max(
            abs(end)
            for interval in (one.interval(0.9, one.by_seeds), one.interval(0.9, one.by_systems))
            for end in (interval.low, interval.high)
        )
        <= margin
        for one in before[worse]
    ]
    effects = [-margin if up else margin] * worse.stop + [0.0] * (NUM_ROWS - worse.stop)
    intervals = [one.interval() for one in now]
    inside = [one.low <= truth <= one.high for one, truth in zip(intervals, effects, strict=True)]
    known = not world.effect or world.margin == world.effect or metric == U_SRCC
    return Counts(
        tables=1,
        false_verdicts=int(any(word in different for word in verdicts[equal]) or "better" in verdicts[worse]),
        seeds_alone=int(seeds.any()),
        one_way=int(any(word in different for word in old[equal]) or "better" in old[worse]),
        found=int(bool(world.effect) and verdicts[0] == "worse"),
        found_one_way=int(bool(world.effect) and old[0] == "worse"),
        false_equivalence=int("equivalent" in verdicts[worse]),
        two_intervals=int(any(two_intervals)),
        equivalent=float(np.mean([word == "equivalent" for word in verdicts[equal]])) if verdicts[equal] else 0.0,
        aa_alarms=int(words(now[-1:], margin, up)[0] not in ("inconclusive", "equivalent")),
        covered=float(np.mean(inside if known else inside[equal])),
        value=value,
        seed_error=float(np.mean([one.by_seeds.value for one in now])),
        system_error=float(np.mean([one.by_systems.value for one in now])),
    )


def line_of(world: World, metric: str, counts: Counts) -> dict[str, str]:
    """One line of the CSV: rates over tables, empty where a rate has no meaning; bounds are Clopper and Pearson's."""
    total, worse, power = counts.tables, bool(world.effect), bool(world.effect) and world.num_worse == 1
    rates = {name: value / total for name, value in vars(counts).items() if name != "tables"}
    shown: dict[str, str | int | float | None] = {
        "scenario": world.name,
        "metric": metric,
        "systems": world.num_systems,
        "seeds": world.num_seeds,
        "effect": world.effect,
        "margin": population(world)[1][metric],
        "tables": total,
        "false_verdicts": rates["false_verdicts"],
        "false_verdicts_bound": upper_bound(counts.false_verdicts, total),
        "one_way": rates["one_way"],
        "seeds_alone": rates["seeds_alone"] if world.num_worse < NUM_ROWS else None,
        "power": rates["found"] if power else None,
        "power_one_way": rates["found_one_way"] if power else None,
        "false_equivalence": rates["false_equivalence"] if worse else None,
        "false_equivalence_bound": upper_bound(counts.false_equivalence, total) if worse else None,
        "two_intervals": rates["two_intervals"] if worse else None,
        "equivalent": rates["equivalent"] if not worse else None,
        "aa_alarms": rates["aa_alarms"] if not world.own_error and not worse else None,
        "coverage": rates["covered"],
        "mean_value": rates["value"],
        "seed_error": rates["seed_error"],
        "system_error": rates["system_error"],
    }
    return {name: _shown(value) for name, value in shown.items()}


def upper_bound(count: int, total: int) -> float:
    """The upper 95 % bound of a rate."""
    return float(stats.beta.ppf(0.95, count + 1, total - count)) if count < total else 1.0


def _shown(value: str | int | float | None) -> str:
    """Four digits; nothing where a rate has no meaning."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def simulate_many(world: World, tables: range) -> dict[str, Counts]:
    """The counts of some tables, by metric."""
    sums = {metric: Counts() for metric in world.metrics}
    for table in tables:
        for metric, counts in simulate(world, table).items():
            sums[metric] += counts
    return sums


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
