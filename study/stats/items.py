"""The error of a statistic over other items: they come in groups (systems), and perhaps in second groups (prompts).

Items of one group share its errors, and so do items of one second group that is crossed with the first. The variance is
that over groups plus that over second groups minus that over their cells, which both hold, and at least each of the
two. Groups of unequal size count as fewer: the degrees of freedom are those of the effective number of groups.

Sources: Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 2011 (crossed groups); Bell and McCaffrey, Surv. Methodol.
2002 (each group's sum over 1 - its share, which for a mean is the jackknife); Satterthwaite, Biom. Bull. 1946.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from study.stats.influence import Array, Groups
from whisq_core.metrics import WITHIN, parsed

MIN_GROUPS = 5  # fewer systems say nothing about other systems


Names = Sequence[str] | np.ndarray


@dataclass(frozen=True)
class Error:
    """A standard error and its degrees of freedom; NaN where unknown."""

    value: float
    freedom: float

    def __add__(self, other: "Error") -> "Error":
        """That of the sum of two independent quantities; degrees of freedom as Satterthwaite's."""
        ours, theirs = self.value**2, other.value**2
        parts = ours**2 / max(self.freedom, 1) + theirs**2 / max(other.freedom, 1)
        return Error(math.sqrt(ours + theirs), (ours + theirs) ** 2 / parts if parts > 0 else math.inf)


UNKNOWN = Error(np.nan, np.nan)


class ItemError(NamedTuple):
    """The error over groups at the seeds that were run, and how much of its variance is noise of these seeds."""

    error: Error
    seed_noise: float


class Grouping:
    """Items in groups: `codes` [items], numbered from 0."""

    def __init__(self, names: Names) -> None:
        self.codes: Groups = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
        sizes = np.bincount(self.codes)
        share = sizes / len(self.codes)
        self.num_groups = len(share)
        self._order, self._starts = np.argsort(self.codes, kind="stable"), np.cumsum(sizes) - sizes
        self._weight = np.sqrt(1 - 1 / len(share)) / (len(self.codes) * np.maximum(1 - share, 1e-9))
        self.freedom = float((share @ share) ** 2 / np.sum(share**4)) - 1

    def variance(self, moved: Array) -> Array:
        """From the sums of influences [..., items] over groups, each divided by 1 - the group's share of the items."""
        sums = np.add.reduceat(moved[..., self._order], self._starts, axis=-1) * self._weight
        variance: Array = np.einsum("...g,...g->...", sums, sums)
        return variance


@dataclass(frozen=True)
class Items:
    """The groups of the items, and their second groups where there are at least five of those."""

    groups: Grouping
    second: Grouping | None

    @classmethod
    def of(cls, groups: Names, second_groups: Names | None) -> "Items":
        """Groups by name, as they stand beside the items."""
        second = None if second_groups is None else Grouping(second_groups)
        return cls(Grouping(groups), second if second is not None and second.num_groups >= MIN_GROUPS else None)

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return self.groups.num_groups

    @cached_property
    def _cells(self) -> Grouping:
        assert self.second is not None
        return Grouping(self.groups.codes * self.second.num_groups + self.second.codes)

    @cached_property
    def _means(self) -> Grouping:
        return Grouping(np.arange(self.num_groups))

    def error(self, metric: str, moved: Array) -> ItemError:
        """The error of a metric, or of a difference of two, from its influences (see `influence`), seeds averaged.

        Metrics of group means are taken as means over groups, whose items' second groups differ. `moved` is
        [seeds, items]: how its seeds scatter says how much of the error is that of seeds, which new seeds bring too.
        """
        if self.num_groups < MIN_GROUPS or not np.isfinite(moved).all():
            return ItemError(UNKNOWN, 0.0)
        level = parsed(metric).level
        if level == WITHIN:  # groups that are too small for it have no part in it
            counted = np.isin(self.groups.codes, self.groups.codes[(moved != 0).any(axis=0)]) | ~moved.any()
            if not counted.all():
                second = None if self.second is None else self.second.codes[counted]
                part = Items.of(self.groups.codes[counted], second)
                return part.error("items.utterance.srcc", moved[:, counted] * counted.mean())
        num_seeds, mean = len(moved), moved.mean(axis=0)
        variances, freedom = self._variances(np.vstack([mean, moved - mean]), level)
        noise = float(variances[1:].sum() / (num_seeds * (num_seeds - 1))) if num_seeds > 1 else 0.0
        return ItemError(Error(math.sqrt(variances[0]), freedom), max(noise, 0.0))

    def _variances(self, moved: Array, level: str) -> tuple[Array, float]:
        """Of each line, and the degrees of freedom of the first, whose variance is at least that over either group."""
        if level == "system" or self.second is None:
            grouping = self._means if level == "system" else self.groups
            return grouping.variance(moved), grouping.freedom
        first, other, cells = (one.variance(moved) for one in (self.groups, self.second, self._cells))
        added = other - cells
        added[0] = max(added[0], other[0] - first[0], 0.0)
        both = Error(math.sqrt(first[0]), self.groups.freedom) + Error(math.sqrt(added[0]), self.second.freedom)
        return first + added, both.freedom
