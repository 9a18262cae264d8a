"""How much each item moves a statistic: influence functions, of which every standard error here is a sum.

The influence of an item is the derivative of the statistic by the item's weight, times the number of items: a mean's is
the item minus the mean. Sums over the items of a group say what the statistic owes to that group, so one pass over the
items gives the error over systems, over prompts and over both. Ties are midranks and tau-b, as in `whisq_core.metrics`;
the tests compare each function with what scipy's statistics change by when an item counts a little more. Of a plug-in's
statistic nothing is known but its values: its influences are those of the jackknife.

Source: Hampel, J. Am. Stat. Assoc. 1974; for Spearman's rho Croux and Dehon, Stat. Methods Appl. 2010.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from whisq_core.metrics import MEAN, WITHIN, group_means, parsed, statistic
from whisq_core.plugins import is_plugin

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
Moved = tuple[Array, Array]  # the statistic [seeds], and the influences on it [seeds, points]
_MIN_WITHIN = 3  # as `whisq_core.metrics.within_group_srcc`
_VALUES_AT_ONCE = 64  # of the truth, in a table with all of the predictions


def influence(
    metric: str, predicted: Array, truth: Array | None, member: Groups, group_truth: Array | None = None
) -> Moved:
    """A metric of each seed, and how much each item moves it.

    Parameters
    ----------
    metric
        As ``"ta.utterance.srcc"``; its target is that of the other arguments.
    predicted, truth
        [seeds, items] and [items]; a mean needs no truth. Either may be [seeds, items], and the other [1, items].
    member
        The group of each item, numbered from 0.
    group_truth
        [groups], true scores of the groups; None means the mean truth of their items.

    Returns
    -------
    values, influences
        [seeds], equal to those of `whisq_core.metrics` but for rounding, and [seeds, items], or [seeds, groups] of a
        metric of group means, whose sums are 0; NaN where the metric is undefined.
    """
    _, level, name = parsed(metric)
    if name == MEAN:
        return _mean(predicted)
    assert truth is not None, f"{metric} needs the truth"
    predicted, truth = _at_level(level, predicted, np.atleast_2d(truth), member, group_truth)
    compute = _STATISTICS.get(name) or partial(_jackknifed, name)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        values, moved = _within(predicted, truth, member) if level == WITHIN else compute(predicted, truth)
    undefined = ~np.isfinite(predicted).all(axis=1) | ~np.isfinite(moved).all(axis=1)
    values[undefined], moved[undefined] = np.nan, np.nan
    return values, moved


def values_alone(metric: str, predicted: Array, truth: Array, member: Groups) -> Array:
    """The values that `influence` gives; of a plug-in's metric without the many calls that its influences take."""
    _, level, name = parsed(metric)
    if not is_plugin(name):
        return influence(metric, predicted, truth, member)[0]
    return _each(name, *_at_level(level, predicted, truth, member, None))


def _at_level(level: str, predicted: Array, truth: Array, member: Groups, group_truth: Array | None) -> Moved:
    """Predictions and truth of the items, or of their groups: means, or the group's own truth."""
    if level != "system":
        return predicted, truth
    of_groups = np.stack([group_means(one, member) for one in truth]) if group_truth is None else group_truth[None]
    return np.stack([group_means(one, member) for one in predicted]), of_groups


def _each(name: str, predicted: Array, truth: Array) -> Array:
    """A statistic of each line, NaN where a prediction is not finite."""
    sides, compute = zip(*np.broadcast_arrays(predicted, truth), strict=True), statistic(name).compute
    return np.array([compute(x, y) if np.isfinite(x).all() else np.nan for x, y in sides])


def _jackknifed(name: str, predicted: Array, truth: Array) -> Moved:
    """Any statistic, and how far each item takes it from its mean over all ways to leave one item out."""
    count = predicted.shape[1]
    if count < 2:
        return _each(name, predicted, truth), np.full(predicted.shape, np.nan)
    without = [_each(name, np.delete(predicted, at, axis=1), np.delete(truth, at, axis=1)) for at in range(count)]
    moved = np.stack(without, axis=1)
    return _each(name, predicted, truth), (count - 1) * (moved.mean(axis=1, keepdims=True) - moved)


def _mean(values: Array) -> Moved:
    mean = values.mean(axis=1)
    return mean, values - mean[:, None]


def _mse(predicted: Array, truth: Array) -> Moved:
    return _mean((predicted - truth) ** 2)


def _lcc(predicted: Array, truth: Array) -> Moved:
    x, y = predicted - predicted.mean(axis=1, keepdims=True), truth - truth.mean(axis=1, keepdims=True)
    x[np.ptp(predicted, axis=1) == 0], y[np.ptp(truth, axis=1) == 0] = 0.0, 0.0  # a constant's rounding is no spread
    return _ratio(x * y, x * x, y * y, degree=1)


def _srcc(predicted: Array, truth: Array) -> Moved:
    """Pearson's r of distribution functions at the items (midranks), which each item moves too."""
    of_predicted, of_truth = _Order(predicted), _Order(truth)
    x, y = of_predicted.centred, of_truth.centred
    of_xy = x * y + of_predicted.mean_above(y) + of_truth.mean_above(x)
    of_xx, of_yy = x * x + 2 * of_predicted.centred_above, y * y + 2 * of_truth.centred_above
    return _ratio(of_xy, of_xx, of_yy, degree=3)


def _ktau(predicted: Array, truth: Array) -> Moved:
    """Concordance and untied pairs of each item with all others."""
    sides = zip(*np.broadcast_arrays(predicted, truth), strict=True)
    of_xy, of_xx, of_yy = np.stack([_pairs(*both) for both in sides], axis=1) * 2 / predicted.shape[1]
    return _ratio(of_xy, of_xx, of_yy, degree=2)


def _pairs(x: Array, y: Array) -> Groups:
    """[3, items]: each item's concordant pairs less its discordant ones, its pairs untied in x, and those in y.

    Counted in a table of the values of both sides, which is small where labels have few values.
    """
    (of_x, x_counts), (of_y, y_counts) = (
        np.unique(side, return_inverse=True, return_counts=True)[1:] for side in (x, y)
    )
    x_below, y_below = (np.concatenate([[0], np.cumsum(counts)]) for counts in (x_counts, y_counts))
    concordant, below = np.empty(len(x), np.int64), np.zeros(len(x_below), np.int64)
    for start in range(0, len(y_counts), _VALUES_AT_ONCE):
        width = min(_VALUES_AT_ONCE, len(y_counts) - start)
        here = np.flatnonzero((of_y >= start) & (of_y < start + width))
        u, v = of_x[here], of_y[here] - start
        table = np.zeros((len(x_below), width + 1), np.int64)
        table[1:, 1:] = np.bincount(u * width + v, minlength=len(x_counts) * width).reshape(-1, width)
        table = table.cumsum(axis=0).cumsum(axis=1) + below[:, None]  # items below a value of x and one of y
        of_table = table[u, v] + table[u + 1, v] + table[u, v + 1] + table[u + 1, v + 1]
        of_sides = x_below[u] + x_below[u + 1] + y_below[v + start] + y_below[v + start + 1]
        concordant[here], below = of_table - of_sides + len(x), table[:, -1]
    return np.stack([concordant, len(x) - x_counts[of_x], len(x) - y_counts[of_y]])


def _ratio(of_xy: Array, of_xx: Array, of_yy: Array, degree: int) -> Moved:
    """xy / sqrt(xx yy) of means over `degree` items at once, from what each item moves them by, and itself."""
    xy, xx, yy = (side.mean(axis=1, keepdims=True) / degree for side in (of_xy, of_xx, of_yy))
    root = np.sqrt(xx * yy)
    moved = (of_xy - xy * (of_xx / xx + of_yy / yy) / 2) / root
    return (xy / root)[:, 0], moved


def _within(predicted: Array, truth: Array, member: Groups) -> Moved:
    """The mean SRCC inside groups, weighted by their items; groups that are left out have no influence."""
    shape = np.broadcast_shapes(predicted.shape, truth.shape)
    moved, of_items = np.zeros(shape), np.full(shape, np.nan)
    for group in np.unique(member):
        inside = np.flatnonzero(member == group)
        if len(inside) >= _MIN_WITHIN:
            values, of_group = _srcc(predicted[:, inside], truth[:, inside])
            defined = np.isfinite(values)
            moved[np.ix_(defined, inside)] = of_group[defined]
            of_items[:, inside] = np.where(defined, values, np.nan)[:, None]
    counted = np.isfinite(of_items)
    values = np.where(counted, of_items, 0).sum(axis=1) / counted.sum(axis=1)
    moved += np.where(counted, of_items - values[:, None], 0)
    return values, moved / counted.mean(axis=1, keepdims=True)


class _Order:
    """Where each value [seeds, points] stands among those of its seed."""

    def __init__(self, values: Array) -> None:
        self._order = np.argsort(values, axis=1)
        ascending = np.take_along_axis(values, self._order, axis=1)
        size, place = values.shape[1], np.broadcast_to(np.arange(values.shape[1]), values.shape)
        new = np.ones(values.shape, dtype=bool)
        new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
        if new.all():
            self._below = self._to_points(place)
            self._up_to = self._below + 1
        else:
            last = np.roll(new, -1, axis=1)  # the first is new, and so what stands before it is the last of its ties
            end = np.minimum.accumulate(np.where(last, place, size)[:, ::-1], axis=1)[:, ::-1] + 1
            self._below = self._to_points(np.maximum.accumulate(np.where(new, place, 0), axis=1))
            self._up_to = self._to_points(end)
        self.centred: Array = (self._below + self._up_to) / (2 * size) - 0.5
        """The distribution function at each value, less 1/2: midranks in (-1/2, 1/2)."""

    def _to_points(self, sorted_values: Groups) -> Groups:
        """From the order of values back to that of points."""
        of_points = np.empty_like(self._order)
        np.put_along_axis(of_points, self._order, sorted_values, axis=1)
        return of_points

    @property
    def centred_above(self) -> Array:
        """`mean_above(centred)`: sums of ranks up to the ends of ties are those of untied ones, whatever the ties."""
        size = self.centred.shape[1]
        up_to, below = (place * (place / size - 1) for place in (self._up_to, self._below))
        above: Array = -(up_to + below) / (4 * size)
        return above

    def mean_above(self, weights: Array) -> Array:
        """For each point the mean of `weights` over the points above it, ties counting half."""
        ascending = _taken(weights, self._order)
        sums = np.zeros((len(ascending), ascending.shape[1] + 1))
        np.cumsum(ascending, axis=1, out=sums[:, 1:])
        below, up_to = (_taken(sums, place) for place in (self._below, self._up_to))
        above: Array = (sums[:, -1:] - (below + up_to) / 2) / ascending.shape[1]
        return above


def _taken(values: Array, places: Groups) -> Array:
    """Each seed's values at its own places [seeds, points], or at those that all share [1, points]."""
    return values[:, places[0]] if len(places) == 1 else np.take_along_axis(values, places, axis=1)


_STATISTICS: dict[str, Callable[[Array, Array], Moved]] = {"mse": _mse, "lcc": _lcc, "srcc": _srcc, "ktau": _ktau}
