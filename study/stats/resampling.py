"""What a metric would have been on other test systems: a bootstrap over systems, exact, without a loop over draws.

Systems are resampled and not clips, since the clips of one system share its errors: resampling clips makes
intervals too narrow, resampling systems and then clips within them too wide. Drawing systems with replacement only
changes how often each clip counts, so every statistic below is a function of ``counts`` [draws, systems] and needs
one pass over the clips for all draws. A clip that counts three times is three tied clips: ranks are midranks and
Kendall's tau is tau-b, exactly as if the repeated clips were written out (the tests do that, with scipy).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whisq_core.metrics import TARGETS, group_means

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
_ROUNDING = 1e-12  # a variance below this share of the sum of squares is rounding of a constant


@dataclass(frozen=True)
class LevelDraws:
    """The truth of one target at one level, and how often each group of points counts in each draw.

    A point is a clip and its group the system, or a point is a system and a group of its own. Shapes: ``truth``
    [points], ``group`` [points] (columns of ``counts``), ``counts`` [draws, groups].
    """

    truth: Array
    group: Groups
    counts: Array

    @cached_property
    def members(self) -> Array:
        """[points, groups], 1 where the item is in the group."""
        return _one_hot(self.group, self.counts.shape[1])

    @cached_property
    def weights(self) -> Array:
        """[draws, points]: how often each item counts."""
        weights: Array = self.counts[:, self.group]
        return weights

    @cached_property
    def total(self) -> Array:
        """[draws]: how many points a draw has."""
        total: Array = self.weights.sum(axis=1)
        return total

    @cached_property
    def truth_ranks(self) -> tuple[Array, Array]:
        """Centred midranks of the truth times weights [draws, points], and their variance (times total) [draws]."""
        ranks = self.counts @ _centred_ranks(self.truth, self).T
        weighted = self.weights * ranks
        return weighted, np.einsum("di,di->d", weighted, ranks)

    @cached_property
    def truth_order(self) -> tuple[Array, Array]:
        """Signs of the differences of the truth [points, points], and how many of them are not 0 [draws]."""
        order = _order(self.truth)
        return order, self.sums_over_pairs(np.abs(order))

    @cached_property
    def pairs_without_ties(self) -> Array:
        """Ordered pairs of different points [draws]."""
        pairs: Array = self.total**2 - np.einsum("di,di->d", self.weights, self.weights)
        return pairs

    @cached_property
    def variance_without_ties(self) -> Array:
        """Variance (times total) of midranks [draws] where only repetitions of an item tie."""
        return _rank_variance(self.total, self.weights)

    def sums(self, values: Array) -> Array:
        """Sums over points in each draw: [seeds, points] -> [draws, seeds]."""
        sums: Array = self.counts @ (values @ self.members).T
        return sums

    def sums_over_pairs(self, values: Array) -> Array:
        """Sums over ordered pairs of points in each draw: [points, points] -> [draws]."""
        sums: Array = np.einsum("da,da->d", self.counts @ (self.members.T @ values @ self.members), self.counts)
        return sums


@dataclass(frozen=True)
class Resampling:
    """The bootstrap draws of one set of clips: ``levels`` by (target, level), ``system_of`` [clips]."""

    levels: Mapping[tuple[str, str], LevelDraws]
    system_of: Groups
    num_systems: int

    def seed_mean(self, metric: str, predictions: Array) -> Array:
        """`metric` on each draw, averaged over seeds.

        Parameters
        ----------
        metric
            One of the 16 of Table II, as ``"ta.utterance.srcc"``.
        predictions
            [seeds, clips, 2] with columns (OMQ, TA).

        Returns
        -------
        array
            [draws]; NaN where the metric is undefined in a draw, everywhere if a prediction is not finite.
        """
        target, level, statistic = metric.split(".")
        of_level = self.levels[target, level]
        predicted = predictions[:, :, TARGETS.index(target)]
        if not np.isfinite(predicted).all():
            return np.full(len(of_level.counts), np.nan)
        if level == "system":
            predicted = np.stack([group_means(values, self.system_of) for values in predicted])
        return _STATISTICS[statistic](predicted, of_level)


def resample(
    truth: Array,
    systems: Sequence[str],
    system_truth: Mapping[str, tuple[float, float]] | None,
    num_draws: int,
    generator: np.random.Generator,
) -> Resampling:
    """Draw systems with replacement `num_draws` times; every row of a table shares the draws.

    Parameters
    ----------
    truth
        Labels [clips, 2] with columns (OMQ, TA), on the scale of the ratings.
    systems
        The system of each clip.
    system_truth
        True (OMQ, TA) of each system; None means the mean label of its clips.
    num_draws
        Size of the bootstrap.
    generator
        Where the draws come from.
    """
    names, system_of = np.unique(np.asarray(systems), return_inverse=True)
    num_systems = len(names)
    draws = generator.multinomial(num_systems, np.full(num_systems, 1 / num_systems), size=num_draws)
    counts = draws.astype(np.float64)
    levels = {}
    for column, target in enumerate(TARGETS):
        labels = truth[:, column]
        if system_truth is None:
            of_systems = group_means(labels, system_of)
        else:
            of_systems = np.array([system_truth[str(name)][column] for name in names], dtype=np.float64)
        levels[target, "utterance"] = LevelDraws(labels, system_of, counts)
        levels[target, "system"] = LevelDraws(of_systems, np.arange(num_systems), counts)
    return Resampling(levels, system_of, num_systems)


def _mse(predicted: Array, level: LevelDraws) -> Array:
    squares = ((predicted - level.truth) ** 2).mean(axis=0, keepdims=True)
    return level.sums(squares)[:, 0] / level.total


def _lcc(predicted: Array, level: LevelDraws) -> Array:
    x = predicted - predicted.mean(axis=1, keepdims=True)
    y = (level.truth - level.truth.mean())[None]
    sum_x, sum_y, squares_x, squares_y = (level.sums(values) for values in (x, y, x * x, y * y))
    total = level.total[:, None]
    variance_x = _no_rounding(squares_x - sum_x**2 / total, squares_x)
    variance_y = _no_rounding(squares_y - sum_y**2 / total, squares_y)
    of_seeds = _ratio(level.sums(x * y) - sum_x * sum_y / total, variance_x * variance_y)
    of_seeds[:, np.ptp(predicted, axis=1) == 0] = np.nan
    mean: Array = of_seeds.mean(axis=1)
    return mean


def _srcc(predicted: Array, level: LevelDraws) -> Array:
    weighted_truth, variance_truth = level.truth_ranks
    # Ranks are linear in the counts, and without ties every seed's ranks have the same variance, so that those seeds
    # are averaged before the draws are taken; a seed with ties has a variance of its own.
    tied = _with_ties(predicted)
    total = np.zeros(len(level.counts))
    if not tied.all():
        ranks = np.sum([_centred_ranks(values, level) for values in predicted[~tied]], axis=0)
        covariance = np.einsum("di,di->d", level.counts @ ranks.T, weighted_truth)
        total += _ratio(covariance, variance_truth * level.variance_without_ties)
    for values in predicted[tied]:
        ties = level.weights @ _one_hot(np.unique(values, return_inverse=True)[1])
        covariance = np.einsum("di,di->d", level.counts @ _centred_ranks(values, level).T, weighted_truth)
        total += _ratio(covariance, variance_truth * _rank_variance(level.total, ties))
    return total / len(predicted)


def _ktau(predicted: Array, level: LevelDraws) -> Array:
    order_truth, untied_truth = level.truth_order
    # Concordance is linear in the pairs, and without ties every seed has the same untied pairs: those seeds are added
    # up before the draws are taken, as for SRCC.
    tied = _with_ties(predicted)
    total = np.zeros(len(level.counts))
    if not tied.all():
        orders = np.sum([_order(values) for values in predicted[~tied]], axis=0)
        total += _ratio(level.sums_over_pairs(orders * order_truth), level.pairs_without_ties * untied_truth)
    for values in predicted[tied]:
        order = _order(values)
        total += _ratio(level.sums_over_pairs(order * order_truth), level.sums_over_pairs(np.abs(order)) * untied_truth)
    return total / len(predicted)


def _order(values: Array) -> Array:
    """[points, points]: 1 where the first is larger, -1 where the second is, 0 for ties."""
    order: Array = np.sign(values[:, None] - values)
    return order


def _with_ties(predicted: Array) -> NDArray[np.bool_]:
    """Which seeds [seeds] predict the same for two points."""
    tied: NDArray[np.bool_] = (np.diff(np.sort(predicted, axis=1), axis=1) == 0).any(axis=1)
    return tied


def _centred_ranks(values: Array, level: LevelDraws) -> Array:
    """[points, groups] matrix R with ``counts @ R.T`` = midrank minus mean rank of each item in each draw.

    Its entry is how many points of the group lie below (ties count half), less half the size of the group.
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    cumulative = np.zeros((len(values) + 1, level.counts.shape[1]))
    np.cumsum(level.members[order], axis=0, out=cumulative[1:])
    below = cumulative[np.searchsorted(ascending, values, "left")]
    up_to = cumulative[np.searchsorted(ascending, values, "right")]
    centred: Array = (below + up_to - cumulative[-1]) / 2
    return centred


def _rank_variance(total: Array, ties: Array) -> Array:
    """Sum of squared centred midranks [draws] from group sizes [draws, ties]: whole numbers until the division."""
    variance: Array = (total**3 - np.einsum("dt,dt,dt->d", ties, ties, ties)) / 12
    return variance


def _one_hot(group: Groups, num_groups: int | None = None) -> Array:
    members: Array = (group[:, None] == np.arange(num_groups or group.max() + 1)).astype(np.float64)
    return members


def _no_rounding(variance: Array, squares: Array) -> Array:
    return np.where(variance > _ROUNDING * squares, variance, 0.0)


def _ratio(covariance: Array, product_of_variances: Array) -> Array:
    """Covariance over the root of the variances; NaN where one of them is 0."""
    root = np.sqrt(product_of_variances)
    return np.divide(covariance, root, out=np.full_like(root, np.nan), where=root > 0)


_STATISTICS: dict[str, Callable[[Array, LevelDraws], Array]] = {
    "mse": _mse,
    "lcc": _lcc,
    "srcc": _srcc,
    "ktau": _ktau,
}
