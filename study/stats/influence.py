"""How much each item moves a statistic: influence functions, of which every standard error here is a sum.

The influence of an item is the derivative of the statistic by the item's weight, times the number of items: a mean's is
the item minus the mean. Sums over the items of a group say what the statistic owes to that group, so one pass over the
items gives the error over systems, over prompts and over both. Ties are midranks and tau-b, as in `whisq_core.metrics`;
the tests compare each function with what scipy's statistics change by when an item counts a little more.

Source: Hampel, J. Am. Stat. Assoc. 1974; for Spearman's rho Croux and Dehon, Stat. Methods Appl. 2010.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from whisq_core.metrics import group_means, ranks

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
_MIN_WITHIN = 3  # as `whisq_core.metrics.within_group_srcc`
_PAIRS_AT_ONCE = 512  # items of which all pairs are counted


def influence(metric: str, predicted: Array, truth: Array | None, member: Groups, group_truth: Array | None) -> Array:
    """The influences on `metric` of one seed's predictions.

    Parameters
    ----------
    metric
        As ``"ta.utterance.srcc"``; its target is that of the other arguments.
    predicted, truth
        [items]; a mean needs no truth.
    member
        The group of each item, numbered from 0.
    group_truth
        [groups], true scores of the groups; None means the mean truth of their items.

    Returns
    -------
    array
        [items] with sum 0, or [groups] for a metric of group means; NaN where the metric is undefined.
    """
    _, level, statistic = metric.rsplit(".", 2)
    if statistic == "mean":
        centred: Array = predicted - predicted.mean()
        return centred
    assert truth is not None, f"{metric} needs the truth"
    if level == "within_system":
        return _within(predicted, truth, member)
    if level == "system":
        predicted, truth = group_means(predicted, member), group_means(truth, member)
        truth = truth if group_truth is None else group_truth
    if not np.isfinite(predicted).all():
        return np.full(len(predicted), np.nan)
    return _STATISTICS[statistic](predicted, truth)


def _mse(predicted: Array, truth: Array) -> Array:
    squares = (predicted - truth) ** 2
    centred: Array = squares - squares.mean()
    return centred


def _lcc(predicted: Array, truth: Array) -> Array:
    x, y = predicted - predicted.mean(), truth - truth.mean()
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return np.full(len(x), np.nan)
    x, y = x / x.std(), y / y.std()
    moved: Array = x * y - (x * y).mean() * (x * x + y * y) / 2
    return moved


def _srcc(predicted: Array, truth: Array) -> Array:
    """Pearson's r of distribution functions at the items (midranks), which each item moves too."""
    x, y = _centred_ranks(predicted), _centred_ranks(truth)
    of_xy = x * y + _mean_above(predicted, y) + _mean_above(truth, x)
    of_xx, of_yy = x * x + 2 * _mean_above(predicted, x), y * y + 2 * _mean_above(truth, y)
    return _ratio((x * y).mean(), (x * x).mean(), (y * y).mean(), of_xy, of_xx, of_yy, degree=3)


def _ktau(predicted: Array, truth: Array) -> Array:
    """Concordance and untied pairs of each item with all others."""
    sums = np.empty((3, len(truth)))
    for start in range(0, len(truth), _PAIRS_AT_ONCE):  # all pairs of many items would not fit into memory
        part = slice(start, start + _PAIRS_AT_ONCE)
        sides = (values[part, None] - values for values in (predicted, truth))
        x, y = ((differences > 0).astype(np.int8) - (differences < 0) for differences in sides)
        sums[:, part] = [pairs.sum(axis=1, dtype=np.int64) for pairs in (x * y, np.abs(x), np.abs(y))]
    of_xy, of_xx, of_yy = 2 * (sums / len(truth))
    return _ratio(of_xy.mean() / 2, of_xx.mean() / 2, of_yy.mean() / 2, of_xy, of_xx, of_yy, degree=2)


def _ratio(xy: float, xx: float, yy: float, of_xy: Array, of_xx: Array, of_yy: Array, degree: int) -> Array:
    """Of xy / sqrt(xx yy), from the derivatives of its three means over `degree` items at once."""
    if not xx or not yy:
        return np.full(len(of_xy), np.nan)
    relative = ((of_xx - degree * xx) / xx + (of_yy - degree * yy) / yy) / 2
    moved: Array = (of_xy - degree * xy - xy * relative) / np.sqrt(xx * yy)
    return moved


def _within(predicted: Array, truth: Array, member: Groups) -> Array:
    """Of the mean SRCC inside groups, weighted by their items; groups that are left out have no influence."""
    moved, of_groups = np.zeros(len(predicted)), np.zeros(len(predicted))
    if not np.isfinite(predicted).all():
        return np.full(len(predicted), np.nan)
    counted = np.zeros(len(predicted), dtype=bool)
    for group in np.unique(member):
        inside = np.flatnonzero(member == group)
        x, y = _centred_ranks(predicted[inside]), _centred_ranks(truth[inside])
        if len(inside) >= _MIN_WITHIN and x.any() and y.any():
            moved[inside] = _srcc(predicted[inside], truth[inside])
            of_groups[inside], counted[inside] = (x @ y) / np.sqrt((x @ x) * (y @ y)), True
    if not counted.any():
        return np.full(len(predicted), np.nan)
    moved[counted] += of_groups[counted] - of_groups[counted].mean()
    moved *= len(predicted) / counted.sum()
    return moved


def _centred_ranks(values: Array) -> Array:
    """The distribution function at each item, less 1/2: midranks in (-1/2, 1/2)."""
    centred: Array = (ranks(values) - (len(values) + 1) / 2) / len(values)
    return centred


def _mean_above(values: Array, weights: Array) -> Array:
    """For each item the mean of `weights` over the items above it, ties counting half."""
    order = np.argsort(values, kind="stable")
    ascending, sums = values[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    below, up_to = sums[np.searchsorted(ascending, values, "left")], sums[np.searchsorted(ascending, values, "right")]
    above: Array = (sums[-1] - (below + up_to) / 2) / len(values)
    return above


_STATISTICS: dict[str, Callable[[Array, Array], Array]] = {"mse": _mse, "lcc": _lcc, "srcc": _srcc, "ktau": _ktau}
