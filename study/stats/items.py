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

import numpy as np

from study.stats.influence import Array, Groups

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


class Grouping:
    """Items in groups: `codes` [items], numbered from 0."""

    def __init__(self, names: Names) -> None:
        self.codes: Groups = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
        share = np.bincount(self.codes) / len(self.codes)
        self.num_groups = len(share)
        self._weight = 1 / (len(self.codes) * np.maximum(1 - share, 1e-9)) * np.sqrt(1 - 1 / len(share))
        self._freedom = float((share @ share) ** 2 / np.sum(share**4)) - 1

    def error(self, moved: Array) -> Error:
        """From the sums of influences over groups, each divided by 1 - the group's share of the items."""
        if self.num_groups < 2:
            return UNKNOWN
        sums = np.bincount(self.codes, weights=moved) * self._weight
        return Error(math.sqrt(sums @ sums), self._freedom)


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

    def error(self, metric: str, moved: Array) -> Error:
        """The error of a metric, or of a difference of two, from its influences (see `influence`).

        Metrics of group means are taken as means over groups, whose items' second groups differ.
        """
        if self.num_groups < MIN_GROUPS or not np.isfinite(moved).all():
            return UNKNOWN
        level = metric.split(".")[-2]
        if level == "system":
            return self._means.error(moved)
        if level == "within_system":  # groups that are too small for it have no part in it
            counted = np.isin(self.groups.codes, self.groups.codes[moved != 0]) | ~moved.any()
            if not counted.all():
                second = None if self.second is None else self.second.codes[counted]
                part = Items.of(self.groups.codes[counted], second)
                return part.error("utterance.srcc", moved[counted] * counted.mean())
        first = self.groups.error(moved)
        if self.second is None:
            return first
        other, cells = self.second.error(moved), self._cells.error(moved)
        added = max(other.value**2 - cells.value**2, other.value**2 - first.value**2, 0.0)
        return first + Error(math.sqrt(added), other.freedom)
