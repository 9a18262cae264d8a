"""From comparisons to verdicts.

A difference is *better* or *worse* when its largest p (seeds, test systems, both at once), adjusted by Holm over all
declared rows, is at most .05. Rows are *equivalent* when two one-sided tests on the combined error, adjusted by Holm as
well, say that the difference lies inside the margin. When the seeds alone pass (Holm over their own p values) a
difference holds for *these systems only*; when there is a single run of each row and the systems pass, for *these runs
only*. All else is *inconclusive*, and the reason says what limits it and how much more of that would settle it, at 80 %
power, if the difference stayed what it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.stats import (
    ALPHA,
    MANY,
    MIN_GROUPS,
    Array,
    Comparison,
    Interval,
    holm,
    more_seeds,
    more_systems,
    seeds_needed,
)

Verdict = Literal["better", "worse", "equivalent", "these systems only", "these runs only", "inconclusive", "undefined"]


@dataclass(frozen=True)
class Decision:
    """The verdict of one declared row; NaN where undefined.

    ``interval`` is that of the combined error at ``level``, which Holm's step gives the row: it excludes 0 where p_both
    passes, and for an equivalent row it lies inside the margin. ``p_equivalent`` is
    adjusted by Holm as ``p_holm`` is. ``reason`` says what the verdict rests on, or what limits it.
    """

    verdict: Verdict
    p_holm: float
    p_equivalent: float
    interval: Interval
    level: float
    reason: str


def decide(
    comparisons: Sequence[Comparison], margin: float, higher_is_better: bool, noun: str = "test systems"
) -> list[Decision]:
    """The verdicts of all declared rows of one table, on its primary metric.

    Parameters
    ----------
    comparisons
        One for each declared row: Holm's correction counts them all.
    margin
        Half the width of the band within which rows count as equivalent, in the metric's unit.
    higher_is_better
        Which sign of a difference is a gain.
    noun
        What the groups of items are.
    """
    return [case.decision(higher_is_better) for case in _cases(comparisons, margin, noun)]


def words(comparisons: Sequence[Comparison], margin: float, higher_is_better: bool) -> list[Verdict]:
    """The words of the verdicts that `decide` gives, without what they rest on."""
    return [case.word(higher_is_better) for case in _cases(comparisons, margin, "")]


def _cases(comparisons: Sequence[Comparison], margin: float, noun: str) -> "list[_Case]":
    """Each row with its p values adjusted by Holm over all rows."""
    both = [_testable(one, one.p) for one in comparisons]
    same = [_testable(one, one.p_equivalent(margin)) for one in comparisons]
    seeds = [_testable(one, one.p_seed) for one in comparisons]
    systems = [_testable(one, one.p_system) for one in comparisons]
    columns = [
        *map(holm, (both, same, seeds, systems)),
        1 - ALPHA / _holm_steps(both),
        1 - ALPHA / _holm_steps(same),
    ]
    lines = np.stack(columns, axis=1).tolist() if comparisons else []
    return [
        _Case(one, p, p_same, p_seed, p_system, level, same_level, len(lines), margin, noun)
        for one, (p, p_same, p_seed, p_system, level, same_level) in zip(comparisons, lines, strict=True)
    ]


def _testable(comparison: Comparison, p: float) -> float:
    """An untestable p (one seed, too few systems) of a defined difference proves nothing: 1."""
    return p if math.isnan(comparison.mean) or not math.isnan(p) else 1.0


def _holm_steps(p_values: Sequence[float]) -> Array:
    """By what Holm divides alpha for each row: rows after the first that fails are judged at its step."""
    p = np.asarray(p_values, dtype=np.float64)
    order, count = np.argsort(p), len(p)
    passes = (count - np.arange(count)) * p[order] <= ALPHA
    first_failure = count - 1 if passes.all() else int(np.argmin(passes))
    steps = np.empty(count)
    steps[order] = count - np.minimum(np.arange(count), first_failure)
    return steps


@dataclass(frozen=True)
class _Case:
    """One declared row with its p values, each adjusted by Holm."""

    found: Comparison
    p: float
    p_same: float
    p_seed: float
    p_system: float
    level: float
    same_level: float
    num_comparisons: int
    margin: float
    noun: str

    def word(self, higher_is_better: bool) -> Verdict:
        if math.isnan(self.found.mean):
            return "undefined"
        if self.p <= ALPHA:
            return "better" if (self.found.mean > 0) == higher_is_better else "worse"
        if self.p_same <= ALPHA:
            return "equivalent"
        if self.p_seed <= ALPHA:
            return "these systems only"
        return "these runs only" if self.found.n == 1 and self.p_system <= ALPHA else "inconclusive"

    def decision(self, higher_is_better: bool) -> Decision:
        word = self.word(higher_is_better)
        inside = f"inside ±{self.margin:g} by seeds and {self.noun}"
        match word:
            case "undefined":
                reason = self._undefined_reason()
            case "better" | "worse":
                reason = f"real, yet {inside}" if self.p_same <= ALPHA else f"beyond the noise of seeds and {self.noun}"
            case "equivalent":
                reason = inside
            case "these runs only":
                reason = "a single run of each row: the noise of seeds is not known"
            case _:
                reason = self._what_limits()
        level = self.same_level if word == "equivalent" else self.level
        p, p_same = (math.nan, math.nan) if word == "undefined" else (self.p, self.p_same)
        return Decision(word, p, p_same, self.found.interval(level), level, reason)

    def _undefined_reason(self) -> str:
        if self.found.n == 0:
            return "no seed is done in both rows"
        return f"{self.found.metric} is undefined in at least one seed"

    def _what_limits(self) -> str:
        found, level = self.found, ALPHA / self.num_comparisons
        if found.num_systems < MIN_GROUPS:
            return f"{found.num_systems} {self.noun} are too few, at least {MIN_GROUPS} are needed"
        if math.isnan(found.by_systems.value):
            return f"the error over {self.noun} is undefined"
        if found.n < 2:
            return f"one seed has no spread, at least {max(seeds_needed(self.num_comparisons), 2)} are needed"
        seeds, aim = more_seeds(found, level, self.margin, seeds_needed(self.num_comparisons) if found.paired else 2)
        if seeds < math.inf:
            return f"about {seeds:,} seeds would settle this (80 % power{aim})"
        systems, aim = more_systems(found, level, self.margin)
        number = f"more than {MANY:,}" if systems == math.inf else f"about {systems:,}"
        return f"no number of seeds settles this; {number} {self.noun} would (80 % power{aim})"
