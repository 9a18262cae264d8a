"""How another panel of raters would do in place of a model. A model may do better: it has no noise of its own.

The ratings of each item are split into halves at random, many times; how one half scores the other is stepped up to
the size of the whole panel by Spearman's and Brown's formula. The error is that over other systems, of the mean over
splits. The squared error between two panels is twice the variance of a panel's mean.

A panel's noise also moves the differences of rows, the less the more alike their predictions are. Items of other
systems come with ratings of their own, so that the error over systems holds this noise already: it is a number to read,
and added to no interval.

Sources: Spearman and Brown, both Br. J. Psychol. 1910; rank correlations of a normal distribution: Kendall 1970.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from study.stats import student
from study.stats.influence import Array, Groups, influence, values_alone
from study.stats.items import Error, Items
from study.stats.uncertainty import LEVEL, Interval
from whisq_core.metrics import parsed

NUM_SPLITS = 50
SEED = 20_250_401
MIN_RATINGS = 2  # of an item, to be split


def panel_scores(
    ratings: Sequence[Array], items: Items, targets: Sequence[str], metrics: Sequence[str]
) -> Mapping[str, Interval]:
    """Another panel's score on each metric, with its 95 % interval over other systems.

    Parameters
    ----------
    ratings
        One array [raters, targets] for each item, of two raters at least.
    items
        The groups of the items.
    targets, metrics
        As the evidence of a table names them; a mean of predictions and a plug-in's metric have no such score.

    Returns
    -------
    Mapping
        Metric -> interval; NaN where it is undefined.
    """
    sizes = np.array([len(of_item) for of_item in ratings])
    longer = float(np.mean(sizes) / np.mean(sizes // 2))  # how many times a half the whole panel is
    halves = halves_of(ratings)
    noise = np.stack([2 * of_item.var(axis=0, ddof=1) / len(of_item) for of_item in ratings])
    found = {}
    for metric in metrics:
        target, level, statistic = parsed(metric)
        at = list(targets).index(target)
        if statistic == "mse":
            found[metric] = _squared(noise[:, at], level, metric, items)
        elif statistic in _AS_NORMAL:
            found[metric] = _correlation(halves[..., at], metric, items, longer)
    return found


def moved_by_raters(
    metric: str, rows: Mapping[str, Array], reference: str, truth: Array, ratings: Sequence[Array], member: Groups
) -> dict[str, float]:
    """The standard deviation that other panels of as many raters, of the same items, give each row's difference.

    The labels are moved both ways by what two halves of a panel differ, shrunk to what two whole panels differ. Ratings
    of an item are taken as independent of those of other items.

    Parameters
    ----------
    metric, member
        As `influence` takes them.
    rows, reference
        Row -> predictions [items], seeds averaged; and the row that the others are compared with.
    truth, ratings
        [items], the labels, and an array [raters] for each item, of two raters at least.
    """
    one, two = halves_of([of_item[:, None] for of_item in ratings])[..., 0]
    sizes = np.array([len(of_item) for of_item in ratings])
    noise = (one - two) * np.sqrt(sizes // 2 / sizes) / 2
    labels = np.concatenate([truth + noise, truth - noise])

    def between_panels(row: str) -> Array:
        values = values_alone(metric, rows[row][None], labels, member)
        return np.subtract(*np.split(values, 2))

    base = between_panels(reference)
    return {row: float(np.sqrt(np.mean((between_panels(row) - base) ** 2) / 2)) for row in rows if row != reference}


def halves_of(ratings: Sequence[Array]) -> Array:
    """The means [2, splits, items, targets] of two disjoint halves of each item's ratings; an odd one is left out."""
    halves = np.empty((2, NUM_SPLITS, len(ratings), ratings[0].shape[1]))
    sizes = np.array([len(of_item) for of_item in ratings])
    for split in range(NUM_SPLITS):
        generator = np.random.default_rng((SEED, split))
        for size in np.unique(sizes):  # all items of one size at once
            here, half = np.flatnonzero(sizes == size), size // 2
            order = generator.permuted(np.tile(np.arange(size), (len(here), 1)), axis=1)
            shuffled = np.take_along_axis(np.stack([ratings[int(at)] for at in here]), order[..., None], axis=1)
            halves[:, split, here] = [shuffled[:, :half].mean(axis=1), shuffled[:, half : 2 * half].mean(axis=1)]
    return halves


def _correlation(halves: Array, metric: str, items: Items, longer: float) -> Interval:
    values, moved = influence(metric, halves[0], halves[1], items.groups.codes)
    half = float(values.mean())
    error = items.error(metric, moved.mean(axis=0, keepdims=True)).error
    whole, slope = _stepped_up(half, longer, parsed(metric).statistic)
    found = _interval(whole, Error(error.value * slope, error.freedom))
    return Interval(whole, np.nan, 0, max(found.low, -1.0), min(found.high, 1.0))


def _stepped_up(value: float, longer: float, statistic: str) -> tuple[float, float]:
    """The correlation of panels so many times as large, and how much it moves with that of the halves.

    The formula is of Pearson's r; rank correlations go through the r of a normal distribution that has them.
    """
    to_r, from_r = _AS_NORMAL[statistic]

    def step(value: float) -> float:
        r = to_r(value)
        return float(from_r(np.clip(longer * r / (1 + (longer - 1) * r), -1, 1)))

    small = 1e-5
    return step(value), (step(value + small) - step(value - small)) / (2 * small)


_AS_NORMAL: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "lcc": (lambda value: value, lambda r: r),
    "srcc": (lambda value: 2 * np.sin(np.pi * value / 6), lambda r: 6 / np.pi * np.arcsin(r / 2)),
    "ktau": (lambda value: np.sin(np.pi * value / 2), lambda r: 2 / np.pi * np.arcsin(r)),
}


def _squared(noise: Array, level: str, metric: str, items: Items) -> Interval:
    if level == "system":  # the variance of a mean of so many items
        counts = np.bincount(items.groups.codes)
        noise = np.bincount(items.groups.codes, weights=noise) / counts**2
    return _interval(float(noise.mean()), items.error(metric, (noise - noise.mean())[None]).error)


def _interval(mean: float, error: Error) -> Interval:
    half = float(student.quantile(error.freedom, (1 + LEVEL) / 2) * error.value) if error.freedom > 0 else np.nan
    return Interval(mean, np.nan, 0, mean - half, mean + half)
