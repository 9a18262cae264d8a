"""From comparisons to verdicts, and what a design can decide before its first run.

A difference is *better* or *worse* when its largest p (seeds, test systems, both at once), adjusted by Holm over all
declared rows, is at most .05. When the seeds alone pass (Holm over their own p values) it holds for *these systems
only*. When both 90 % intervals lie inside the margin the rows are *equivalent*. All else is *inconclusive*, and the
reason then says what limits it and how much more of that would settle it if the difference stayed what it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.stats import student
from study.stats.uncertainty import (
    ALPHA,
    EQUIVALENCE_LEVEL,
    MIN_SYSTEMS,
    Comparison,
    holm,
    seeds_needed,
    smallest_p,
)

Verdict = Literal["better", "worse", "these systems only", "equivalent", "inconclusive", "undefined"]

MANY = 100_000  # beyond this a number of systems is no advice
TYPICAL_SEED_SD = 0.01  # of an utterance SRCC near .6
TYPICAL_SYSTEM_ERROR = 0.33  # times 1 / sqrt(systems): of a difference of two such SRCC (results/calibration.csv)


@dataclass(frozen=True)
class Decision:
    """The verdict of one declared row; ``p_holm`` is NaN where it is undefined.

    ``reason`` is a short text: what the verdict rests on, or what limits it and how much more of that would settle it.
    """

    verdict: Verdict
    p_holm: float
    reason: str


def decide(comparisons: Sequence[Comparison], margin: float, higher_is_better: bool) -> list[Decision]:
    """The verdicts of all declared rows of one table, on its primary metric.

    Parameters
    ----------
    comparisons
        One for each declared row: Holm's correction counts them all.
    margin
        Half the width of the band within which rows count as equivalent, in the metric's unit.
    higher_is_better
        Which sign of a difference is a gain.
    """
    adjusted = holm([_testable(one, one.p) for one in comparisons])
    seeds = holm([_testable(one, one.p_seed) for one in comparisons])
    systems = holm([_testable(one, one.p_system) for one in comparisons])
    return [
        _decide(comparison, float(p), float(p_seed), float(p_system), len(comparisons), margin, higher_is_better)
        for comparison, p, p_seed, p_system in zip(comparisons, adjusted, seeds, systems, strict=True)
    ]


def _testable(comparison: Comparison, p: float) -> float:
    """An untestable p (one seed, too few systems) of a defined difference proves nothing: 1."""
    return p if math.isnan(comparison.mean) or not math.isnan(p) else 1.0


def _decide(
    comparison: Comparison,
    p: float,
    p_seed: float,
    p_system: float,
    num_comparisons: int,
    margin: float,
    higher_is_better: bool,
) -> Decision:
    if math.isnan(comparison.mean):
        return Decision("undefined", math.nan, _undefined_reason(comparison))
    equivalent = comparison.seeds_90.inside(margin) and comparison.systems_90.inside(margin)
    inside = f"inside ±{margin:g} by seeds and by test systems"
    if p <= ALPHA:
        verdict: Verdict = "better" if (comparison.mean > 0) == higher_is_better else "worse"
        reason = f"real, yet {inside}" if equivalent else "beyond the noise of seeds and test systems"
        return Decision(verdict, p, reason)
    if equivalent and p_seed > ALPHA:
        return Decision("equivalent", p, inside)
    reason = _what_limits(comparison, p_seed, p_system, num_comparisons, margin)
    if p_seed <= ALPHA:
        return Decision("these systems only", p, inside if equivalent else reason)
    return Decision("inconclusive", p, reason)


def _undefined_reason(comparison: Comparison) -> str:
    if comparison.n == 0:
        return "no seed is done in both rows"
    return f"{comparison.metric} is undefined in at least one seed"


def _what_limits(comparison: Comparison, p_seed: float, p_system: float, num_comparisons: int, margin: float) -> str:
    if comparison.num_systems < MIN_SYSTEMS:
        return f"{comparison.num_systems} test systems are too few, at least {MIN_SYSTEMS} are needed"
    if math.isnan(comparison.system_error):
        return "undefined in too many resamples of the test systems"
    if comparison.n < 2:
        return f"one seed has no spread, at least {max(seeds_needed(num_comparisons), 2)} are needed"
    systems, aim = _systems_needed(comparison, num_comparisons, margin)
    if p_system > ALPHA:
        more_seeds = " (and more seeds)" if p_seed > ALPHA and not aim else ""
        return f"no number of seeds settles this; {systems} would{aim}{more_seeds}"
    num_seeds = _seeds_needed(comparison, num_comparisons)
    if num_seeds is None:
        return f"limited by seeds and test systems together; {systems} would settle this{aim}"
    return f"about {num_seeds:,} seeds would settle this"


def _systems_needed(comparison: Comparison, num_comparisons: int, margin: float) -> tuple[str, str]:
    """Systems after which their test, or equivalence, would pass (the error shrinks with their root), and which."""
    freedom = comparison.num_systems - 1
    distance = abs(comparison.mean)
    different = student.quantile(freedom, 1 - ALPHA / num_comparisons / 2) * comparison.system_error
    same = student.quantile(freedom, (1 + EQUIVALENCE_LEVEL) / 2) * comparison.system_error
    aims = [(different / distance if distance > 0 else math.inf, "")]
    if distance < margin and comparison.seeds_90.inside(margin):
        aims.append((same / (margin - distance), f" (equivalence within ±{margin:g})"))
    ratio, aim = min(aims)
    number = comparison.num_systems * ratio**2
    if number > MANY:
        return f"more than {MANY:,} test systems", aim
    return f"about {max(math.ceil(number), comparison.num_systems + 1):,} test systems", aim


def _seeds_needed(comparison: Comparison, num_comparisons: int) -> int | None:
    """Seeds after which the difference would pass given these systems; None when no number of them would.

    The sign-flip test is taken as its close relative, Student's t, with the least p that flips can reach.
    """
    level = ALPHA / num_comparisons
    distance, sd = abs(comparison.mean), comparison.seeds.sd
    counts = np.arange(max(comparison.n + 1, seeds_needed(num_comparisons)), 10_001)
    seed_error = sd / np.sqrt(counts)
    both = np.hypot(seed_error, comparison.system_error)
    passes = (-student.quantile(counts - 1, level / 2) * seed_error <= distance) & (
        -student.quantile(comparison.num_systems - 1, level / 2) * both <= distance
    )
    return int(counts[np.argmax(passes)]) if passes.any() else None


def design(num_comparisons: int, num_seeds: int, num_systems: int) -> tuple[str, ...]:
    """What a table can decide whatever comes out of it, in sentences.

    Parameters
    ----------
    num_comparisons, num_seeds, num_systems
        The declared rows, the seeds of each, and the systems whose clips are scored.
    """
    needed = seeds_needed(num_comparisons)
    bound = ALPHA / num_comparisons
    rows = f"{num_comparisons} comparison{'s need' if num_comparisons > 1 else ' needs'}"
    first = (
        f"{rows} at least {needed} seeds (the smallest p of {needed} sign flips, {smallest_p(needed):.2g}, is within "
        f".05/{num_comparisons} = {bound:.2g}); this table has {num_seeds}."
    )
    if num_seeds < needed:
        second = "No verdict 'better' or 'worse' can come out; 'equivalent' still can."
        return first, second
    by_seeds = -student.quantile(num_seeds - 1, bound / 2) * TYPICAL_SEED_SD * math.sqrt(2 / num_seeds)
    second = f"If seeds scatter an SRCC by {TYPICAL_SEED_SD:g}, they resolve differences above about {by_seeds:.2g}."
    if num_systems < MIN_SYSTEMS:
        third = f"{num_systems} systems are too few for verdicts beyond them: at least {MIN_SYSTEMS} are needed."
    else:
        by_systems = -student.quantile(num_systems - 1, bound / 2) * TYPICAL_SYSTEM_ERROR / math.sqrt(num_systems)
        third = (
            f"{num_systems} systems resolve an SRCC difference between rows with unrelated errors above about "
            f"{by_systems:.2g}, between rows with mostly shared errors less; more seeds do not change that."
        )
    return first, second, third
