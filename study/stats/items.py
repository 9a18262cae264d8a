"""The error of a statistic over other items: they come in groups (systems), and perhaps in second groups (prompts).

Items of one group share its errors, and so do items of one second group that is crossed with the first. The variance is
that over groups plus that over second groups minus that over their cells, which both hold, and at least each of the
two. Groups of unequal size count as fewer: the degrees of freedom are those of the effective number of groups.

Sources: Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 2011 (crossed groups); Bell and McCaffrey, Surv. Methodol. 2002
(each group's sum over 1 - its share, which for a mean is the jackknife); Satterthwaite, Biom. Bull. 1946.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from study.stats.influence import Array, Groups

MIN_GROUPS = 5  # fewer systems say nothing about other systems


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


@dataclass(frozen=True)
class Items:
    """The group of each item, and its second group where there are at least five of those."""

    group: Groups
    second: Groups | None

    @classmethod
    def of(cls, groups: Sequence[str], second_groups: Sequence[str] | None) -> "Items":
        """Groups by name, as they stand beside the items."""
        second = None if second_groups is None else _numbered(np.asarray(second_groups, dtype=str))
        if second is not None and second.max(initial=0) + 1 < MIN_GROUPS:
            second = None
        return cls(_numbered(np.asarray(groups, dtype=str)), second)

    @cached_property
    def cells(self) -> Groups:
        """The cell of both groups that each item is in."""
        assert self.second is not None
        return _numbered(self.group * (self.second.max() + 1) + self.second)

    @cached_property
    def num_groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max(initial=-1)) + 1

    def error(self, metric: str, moved: Array) -> Error:
        """The error of a metric, or of a difference of two, from its influences (see `influence`).

        Metrics of group means are taken as means over groups, whose items' second groups differ.
        """
        if self.num_groups < MIN_GROUPS or not np.isfinite(moved).all():
            return UNKNOWN
        level = metric.split(".")[-2]
        if level == "system":
            return _one_way(moved, np.arange(len(moved)))
        if level == "within_system":  # groups that are too small for it have no part in it
            counted = np.isin(self.group, self.group[moved != 0]) | ~moved.any()
            if not counted.all():
                part = Items(
                    *(None if codes is None else _numbered(codes[counted]) for codes in (self.group, self.second))
                )
                return part.error("utterance.srcc", moved[counted] * counted.mean())
        if self.second is None:
            return _one_way(moved, self.group)
        first, other, cells = (_one_way(moved, codes) for codes in (self.group, self.second, self.cells))
        added = max(other.value**2 - cells.value**2, other.value**2 - first.value**2, 0.0)
        return first + Error(float(np.sqrt(added)), other.freedom)


def _numbered(values: np.ndarray) -> Groups:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _one_way(moved: Array, group: Groups) -> Error:
    """Sums of influences over groups, each divided by 1 - the group's share of the items."""
    share = np.bincount(group) / len(group)
    if len(share) < 2:
        return UNKNOWN
    sums = np.bincount(group, weights=moved) / len(group) / (1 - share)
    variance = (1 - 1 / len(share)) * float(sums @ sums)
    return Error(float(np.sqrt(variance)), float((share @ share) ** 2 / np.sum(share**4)) - 1)
