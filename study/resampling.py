"""What a metric would have been on other test items: bootstrap over systems, exact and without a loop over draws.

Systems are resampled and not clips, since the clips of one system share its errors: resampling clips makes
intervals too narrow, resampling systems and then clips within them too wide. Drawing systems with replacement only
changes how often each clip counts, so every statistic below is a function of ``counts`` [draws, systems] and needs
one pass over the clips for all draws. A clip that counts three times is three tied clips: ranks are midranks and
Kendall's tau is tau-b, exactly as if the repeated clips were written out (the tests do that, with scipy).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisq_core.metrics import TARGETS, group_means

Array = NDArray[np.float64]
_ROUNDING = 1e-12  # a variance below this share of the sum of squares is rounding of a constant


@dataclass(frozen=True)
class Resampling:
    """Test items, and how often each system counts in each bootstrap draw.

    Shapes: ``counts`` [draws, systems], ``system_of`` [clips] (a column of ``counts``), ``truth`` [clips, 2],
    ``system_truth`` [systems, 2]; targets are (omq, ta).
    """

    counts: Array
    system_of: NDArray[np.int64]
    truth: Array
    system_truth: Array

    @property
    def num_systems(self) -> int:
        return len(self.system_truth)

    def seed_mean(self, metric: str, predictions: Array) -> Array:
        """`metric` on each draw, averaged over seeds: [seeds, clips, 2] -> [draws]; NaN where undefined."""
        target, level, statistic = metric.split(".")
        column = TARGETS.index(target)
        predicted = predictions[:, :, column]
        if not np.isfinite(predicted).all():
            return np.full(len(self.counts), np.nan)
        if level == "utterance":
            return _STATISTICS[statistic](predicted, self.truth[:, column], self.system_of, self.counts)
        assert level == "system", f"{metric} has no bootstrap"
        means = np.stack([group_means(values, self.system_of) for values in predicted])
        truth = self.system_truth[:, column]
        return _STATISTICS[statistic](means, truth, np.arange(self.num_systems), self.counts)


def resample(
    truth: Array,
    systems: Sequence[str],
    system_truth: Mapping[str, tuple[float, float]] | None,
    num_draws: int,
    generator: np.random.Generator,
) -> Resampling:
    """Draw systems with replacement `num_draws` times; every row of a table shares the draws.

    ``system_truth`` None means the mean label of the system's clips.
    """
    names, system_of = np.unique(np.asarray(systems), return_inverse=True)
    num_systems = len(names)
    if system_truth is None:
        of_systems = np.stack([group_means(labels, system_of) for labels in truth.T], axis=1)
    else:
        of_systems = np.array([system_truth[name] for name in names], dtype=np.float64)
    counts = generator.multinomial(num_systems, np.full(num_systems, 1 / num_systems), size=num_draws)
    return Resampling(counts.astype(np.float64), system_of.astype(np.int64), truth, of_systems)


def _members(group: NDArray[np.int64], num_groups: int) -> Array:
    members: Array = (group[:, None] == np.arange(num_groups)).astype(np.float64)
    return members


def _mse(predicted: Array, truth: Array, group: NDArray[np.int64], counts: Array) -> Array:
    members = _members(group, counts.shape[1])
    squares = ((predicted - truth) ** 2).mean(axis=0) @ members
    means: Array = (counts @ squares) / (counts @ members.sum(axis=0))
    return means


def _lcc(predicted: Array, truth: Array, group: NDArray[np.int64], counts: Array) -> Array:
    members = _members(group, counts.shape[1])
    x = predicted - predicted.mean(axis=1, keepdims=True)
    y = truth - truth.mean()
    total = (counts @ members.sum(axis=0))[:, None]

    def of_draws(values: Array) -> Array:
        sums: Array = counts @ (np.atleast_2d(values) @ members).T  # [draws, seeds]
        return sums

    sum_x, sum_y, squares_x, squares_y = of_draws(x), of_draws(y), of_draws(x * x), of_draws(y * y)
    variance_x = _no_rounding(squares_x - sum_x**2 / total, squares_x)
    variance_y = _no_rounding(squares_y - sum_y**2 / total, squares_y)
    covariance = of_draws(x * y) - sum_x * sum_y / total
    of_seeds = _ratio(covariance, variance_x * variance_y)
    of_seeds[:, np.ptp(predicted, axis=1) == 0] = np.nan
    mean: Array = of_seeds.mean(axis=1)
    return mean


def _srcc(predicted: Array, truth: Array, group: NDArray[np.int64], counts: Array) -> Array:
    weights = counts[:, group]  # [draws, items]
    of_truth = counts @ _centred_ranks(truth, group, counts.shape[1]).T
    weighted = weights * of_truth
    variance_truth = (weighted * of_truth).sum(axis=1)
    # Ranks are linear in the counts, and without ties every seed's ranks have the same variance, so that those seeds
    # are averaged before the draws are taken; a seed with ties has a variance of its own.
    tied = np.array([len(np.unique(values)) < len(values) for values in predicted])
    total = np.zeros(len(counts))
    groups_of_seeds = [predicted[~tied], *(values[None] for values in predicted[tied])]
    for seeds in groups_of_seeds:
        if len(seeds) == 0:
            continue
        ranks = np.mean([_centred_ranks(values, group, counts.shape[1]) for values in seeds], axis=0)
        covariance = np.einsum("di,di->d", counts @ ranks.T, weighted)
        total += len(seeds) * _ratio(covariance, variance_truth * _rank_variance(seeds[0], weights))
    return total / len(predicted)


def _ktau(predicted: Array, truth: Array, group: NDArray[np.int64], counts: Array) -> Array:
    members = _members(group, counts.shape[1])

    def of_draws(pairs: Array) -> Array:
        sums: Array = np.einsum("da,da->d", counts @ (members.T @ pairs @ members), counts)
        return sums

    order_truth = np.sign(truth[:, None] - truth[None])
    untied_truth = of_draws(np.abs(order_truth))
    total = np.zeros(len(counts))
    for values in predicted:
        order = np.sign(values[:, None] - values[None])
        total += _ratio(of_draws(order * order_truth), of_draws(np.abs(order)) * untied_truth)
    return total / len(predicted)


def _centred_ranks(values: Array, group: NDArray[np.int64], num_groups: int) -> Array:
    """[items, groups] matrix R with ``counts @ R.T`` = midrank minus mean rank of each item in each draw.

    Its entry is how many items of the group lie below (ties count half), less half the size of the group.
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    cumulative = np.zeros((len(values) + 1, num_groups))
    cumulative[np.arange(1, len(values) + 1), group[order]] = 1
    np.cumsum(cumulative, axis=0, out=cumulative)
    below = cumulative[np.searchsorted(ascending, values, "left")]
    up_to = cumulative[np.searchsorted(ascending, values, "right")]
    centred: Array = (below + up_to - cumulative[-1]) / 2
    return centred


def _rank_variance(values: Array, weights: Array) -> Array:
    """Sum of squared centred midranks in each draw: (N^3 - sum over ties t^3) / 12, whole numbers until the end."""
    distinct, place = np.unique(values, return_inverse=True)
    ties = weights if len(distinct) == len(values) else weights @ _members(place, len(distinct))
    variance: Array = (weights.sum(axis=1) ** 3 - np.einsum("di,di,di->d", ties, ties, ties)) / 12
    return variance


def _no_rounding(variance: Array, squares: Array) -> Array:
    return np.where(variance > _ROUNDING * squares, variance, 0.0)


def _ratio(covariance: Array, product_of_variances: Array) -> Array:
    """Covariance over the root of the variances; NaN where one of them is 0."""
    root = np.sqrt(product_of_variances)
    return np.divide(covariance, root, out=np.full_like(root, np.nan), where=root > 0)


_STATISTICS: dict[str, Callable[[Array, Array, NDArray[np.int64], Array], Array]] = {
    "mse": _mse,
    "lcc": _lcc,
    "srcc": _srcc,
    "ktau": _ktau,
}
