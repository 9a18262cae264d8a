"""From comparisons to verdicts, and what a design can decide before its first run.

A difference is *better* or *worse* when its largest p (seeds, items, both at once), adjusted by Holm over all declared
rows, is at most .05. When the seeds alone pass (Holm over their own p values) it is real *on these clips only*. When
both 90 % intervals lie inside the margin the rows are *equivalent*. All else is *undecided*, and then the text says
what limits it and how much more of that would settle it if the difference stayed what it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit  # quantiles of Student's t, without the second that scipy.stats takes to import

from study.config import seeds_needed, smallest_p
from study.stats.uncertainty import EQUIVALENCE_LEVEL, MIN_SYSTEMS, Comparison, holm

Verdict = Literal["better", "worse", "on these clips only", "equivalent", "undecided", "undefined"]
Source = Literal["seeds", "items", "seeds and items"]

ALPHA = 0.05
MANY = 100_000  # beyond this a number of seeds or systems is no advice


@dataclass(frozen=True)
class Decision:
    """The verdict of one declared row.

    ``p_holm`` is NaN where the verdict is undefined. ``num_seeds`` and ``num_systems`` are what would settle an
    undecided row (or one on these clips only), None where nothing would or nothing needs to.
    """

    verdict: Verdict
    p_holm: float
    reason: str
    limited_by: Source | None = None
    num_seeds: int | None = None
    num_systems: int | None = None


def decide(comparisons: Sequence[Comparison], margin: float, higher_is_better: bool) -> list[Decision]:
    """The verdicts of all declared rows of one table, on its primary metric."""
    adjusted = holm([_testable(item, item.p) for item in comparisons])
    seeds = holm([_testable(item, item.p_seed) for item in comparisons])
    items = holm([_testable(item, item.p_item) for item in comparisons])
    return [
        _decide(comparison, float(p), float(p_seed), float(p_item), len(comparisons), margin, higher_is_better)
        for comparison, p, p_seed, p_item in zip(comparisons, adjusted, seeds, items, strict=True)
    ]


def _testable(comparison: Comparison, p: float) -> float:
    """An untestable p (one seed, too few systems) of a defined difference proves nothing: 1."""
    return p if math.isnan(comparison.mean) or not math.isnan(p) else 1.0


def _decide(
    comparison: Comparison,
    p: float,
    p_seed: float,
    p_item: float,
    num_comparisons: int,
    margin: float,
    higher_is_better: bool,
) -> Decision:
    if math.isnan(comparison.mean):
        return Decision("undefined", math.nan, _undefined_reason(comparison))
    equivalent = comparison.seeds_90.inside(margin) and comparison.items_90.inside(margin)
    inside = f"inside ±{margin:g} by seeds and by items"
    if p <= ALPHA:
        verdict: Verdict = "better" if (comparison.mean > 0) == higher_is_better else "worse"
        return Decision(verdict, p, f"real, yet {inside}" if equivalent else "beyond the noise of seeds and items")
    if equivalent and p_seed > ALPHA:
        return Decision("equivalent", p, inside)
    reason, limited_by, num_seeds, num_systems = _what_limits(comparison, p_seed, p_item, num_comparisons, margin)
    if p_seed <= ALPHA:
        text = inside if equivalent else reason
        return Decision("on these clips only", p, text, limited_by, num_seeds, num_systems)
    return Decision("undecided", p, reason, limited_by, num_seeds, num_systems)


def _undefined_reason(comparison: Comparison) -> str:
    if comparison.n == 0:
        return "no seed is done in both rows"
    return f"{comparison.metric} is undefined in at least one seed"


def _what_limits(
    comparison: Comparison, p_seed: float, p_item: float, num_comparisons: int, margin: float
) -> tuple[str, Source, int | None, int | None]:
    if math.isnan(comparison.item_error):
        if comparison.num_systems < MIN_SYSTEMS:
            return f"items: {comparison.num_systems} systems are too few, at least {MIN_SYSTEMS}", "items", None, None
        return "items: undefined in too many resamples of the systems", "items", None, None
    if comparison.n < 2:
        needed = max(seeds_needed(num_comparisons), 2)
        return f"seeds: one seed has no spread, at least {needed} are needed", "seeds", needed, None
    if p_item > ALPHA:
        num_systems, aim = _systems_needed(comparison, num_comparisons, margin)
        also = " (and more seeds)" if p_seed > ALPHA and aim == "" else ""
        text = f"items: no number of seeds settles this; {_about(num_systems, 'systems')} would{aim}{also}"
        return text, "seeds and items" if also else "items", None, num_systems
    num_seeds = _seeds_needed(comparison, num_comparisons)
    if num_seeds is None:
        num_systems, aim = _systems_needed(comparison, num_comparisons, margin)
        text = f"seeds and items together; {_about(num_systems, 'systems')} would settle this{aim}"
        return text, "seeds and items", None, num_systems
    return f"seeds: {_about(num_seeds, 'seeds')} would settle this", "seeds", num_seeds, None


def _about(number: int | None, noun: str) -> str:
    return f"more than {MANY:,} {noun}" if number is None else f"about {number:,} {noun}"


def _systems_needed(comparison: Comparison, num_comparisons: int, margin: float) -> tuple[int | None, str]:
    """Systems after which the item test, or equivalence, would pass: the error shrinks with their root."""
    freedom = comparison.num_systems - 1
    distance = abs(comparison.mean)
    different = stdtrit(freedom, 1 - ALPHA / num_comparisons / 2) * comparison.item_error
    same = stdtrit(freedom, (1 + EQUIVALENCE_LEVEL) / 2) * comparison.item_error
    aims = [(different / distance if distance > 0 else math.inf, "")]
    if distance < margin and comparison.seeds_90.inside(margin):
        aims.append((same / (margin - distance), f" (equivalence within ±{margin:g})"))
    ratio, aim = min(aims)
    number = comparison.num_systems * ratio**2
    return (None if number > MANY else max(math.ceil(number), comparison.num_systems + 1)), aim


def _seeds_needed(comparison: Comparison, num_comparisons: int) -> int | None:
    """Seeds after which the difference would pass given these systems; None when no number of them would.

    The sign-flip test is taken as its close relative, Student's t, with the least p that flips can reach.
    """
    level = ALPHA / num_comparisons
    distance, sd = abs(comparison.mean), comparison.seeds.sd
    counts = np.arange(max(comparison.n + 1, seeds_needed(num_comparisons)), 10_001)
    seed_error = sd / np.sqrt(counts)
    both = np.hypot(seed_error, comparison.item_error)
    passes = (-stdtrit(counts - 1, level / 2) * seed_error <= distance) & (
        -stdtrit(comparison.num_systems - 1, level / 2) * both <= distance
    )
    return int(counts[np.argmax(passes)]) if passes.any() else None


@dataclass(frozen=True)
class Design:
    """What a table can decide before it is run; ``sentences`` say it."""

    num_comparisons: int
    num_seeds: int
    min_seeds: int
    smallest_p: float
    sentences: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether any verdict better or worse can come out."""
        return self.num_seeds >= self.min_seeds


TYPICAL_SEED_SD = 0.01  # of an utterance SRCC near .6
TYPICAL_ITEM_ERROR = 0.33  # times 1 / sqrt(systems): of a difference of two such SRCC (results/calibration.csv)


def design(num_comparisons: int, num_seeds: int, num_systems: int) -> Design:
    """What `num_comparisons` declared rows on `num_seeds` seeds and the scored systems can decide."""
    needed = seeds_needed(num_comparisons)
    bound = ALPHA / num_comparisons
    rows = f"{num_comparisons} comparison{'s need' if num_comparisons > 1 else ' needs'}"
    first = (
        f"{rows} at least {needed} seeds (the smallest p of {needed} sign flips, {smallest_p(needed):.2g}, is within "
        f".05/{num_comparisons} = {bound:.2g}); this table has {num_seeds}."
    )
    if num_seeds < needed:
        second = "No verdict 'better' or 'worse' can come out; 'equivalent' still can."
        return Design(num_comparisons, num_seeds, needed, smallest_p(num_seeds), (first, second))
    seeds = -stdtrit(num_seeds - 1, bound / 2) * TYPICAL_SEED_SD * math.sqrt(2 / num_seeds)
    second = f"If seeds scatter an SRCC by {TYPICAL_SEED_SD:g}, they resolve differences above about {seeds:.2g}."
    if num_systems < MIN_SYSTEMS:
        third = f"{num_systems} systems are too few for verdicts beyond these clips: at least {MIN_SYSTEMS} are needed."
    else:
        items = -stdtrit(num_systems - 1, bound / 2) * TYPICAL_ITEM_ERROR / math.sqrt(num_systems)
        third = (
            f"{num_systems} systems resolve an SRCC difference between rows with unrelated errors above about "
            f"{items:.2g}, between rows with mostly shared errors less; more seeds do not change that."
        )
    return Design(num_comparisons, num_seeds, needed, smallest_p(num_seeds), (first, second, third))
