"""Simulated tables judged by the functions that judge yours, and what is counted of them; see `calibration.py`."""

from dataclasses import dataclass, replace

import numpy as np
from calibration_worlds import (
    NUM_ROWS,
    U_SRCC,
    Array,
    Corpus,
    World,
    error_of,
    make_corpus,
    make_row,
    population,
)
from scipy import stats

from study.judgement import words
from study.stats import ALPHA, Comparison, compare, holm, influence
from whisq_core.metrics import higher_is_better


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


def simulate(world: World, table: int) -> dict[str, Counts]:
    """Make one table and judge it on each metric; its random numbers depend on the world and on `table` only."""
    generator = np.random.default_rng(
        [*world.name.encode(), world.num_seeds, world.num_systems, round(world.effect * 1000), table]
    )
    corpus = make_corpus(world, world.num_systems, generator)
    shared = error_of(world, corpus, world.shared_error, generator)
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
