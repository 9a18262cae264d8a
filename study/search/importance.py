"""Which searched settings mattered: fANOVA with its spread over forests, beside a random column as noise floor.

Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014. Optuna's
own evaluator gives the same shares, but takes ten minutes for 20 forests on 1,000 trials, and integrates logarithmic
parameters over their plain range (of 1e-5..1e-1 all but a thousandth lies above 1e-4).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.dashboard import MIN_TRIALS
from study.search.study import best_first

NUM_FORESTS = 20
_NUM_TREES = 32
_BEATS_NOISE = 0.95  # of the forests


@dataclass(frozen=True)
class Importance:
    """The share of the objective's variance that one parameter explains: mean and spread over forests.

    `beats_noise` is the share of the forests in which it explains more than the random column of that forest.
    """

    name: str
    mean: float
    sd: float
    beats_noise: float

    @property
    def is_noise(self) -> bool:
        """Whether it cannot be told from a column of random numbers."""
        return self.beats_noise < _BEATS_NOISE


@dataclass(frozen=True)
class Importances:
    """Parameters, most important first, and the random column's own share; `search` is the study they come from."""

    parameters: tuple[Importance, ...]
    noise_mean: float
    noise_sd: float
    num_trials: int
    search: str


def importances(study: optuna.Study, num_forests: int = NUM_FORESTS) -> Importances | None:
    """fANOVA over the complete trials of `study`; None where there are too few, or all have the same value.

    Each forest has a seed and a random column of its own. Logarithmic parameters count by their logarithm.
    """
    trials = sorted(best_first(study), key=lambda trial: trial.number)
    values = np.array([trial.value for trial in trials], dtype=np.float64)
    if len(trials) < MIN_TRIALS or np.ptp(values) == 0:
        return None
    ranges = trials[-1].distributions
    columns = np.array([[_coordinate(trial.params[name], where) for name, where in ranges.items()] for trial in trials])
    bounds = np.array([_bounds(where) for where in ranges.values()] + [(0.0, 1.0)])
    shares = np.empty((num_forests, len(bounds)))
    for seed in range(num_forests):
        random_column = np.random.default_rng(seed).uniform(size=(len(trials), 1))
        shares[seed] = variance_shares(np.hstack([columns, random_column]), values, bounds, seed)
    noise = shares[:, -1]
    found = [_summary(name, shares[:, index], noise) for index, name in enumerate(ranges)]
    found.sort(key=lambda importance: -importance.mean)
    return Importances(tuple(found), float(noise.mean()), float(noise.std(ddof=1)), len(trials), study.study_name)


def _summary(name: str, shares: np.ndarray, noise: np.ndarray) -> Importance:
    return Importance(name, float(shares.mean()), statistics.stdev(shares.tolist()), float((shares > noise).mean()))


def _coordinate(value: Any, where: BaseDistribution) -> float:
    if isinstance(where, CategoricalDistribution):
        return float(where.choices.index(value))
    return float(np.log10(value) if _is_log(where) else value)


def _bounds(where: BaseDistribution) -> tuple[float, float]:
    """The range of a coordinate; whole numbers and choices are one unit wide each."""
    if isinstance(where, CategoricalDistribution):
        return -0.5, len(where.choices) - 0.5
    assert isinstance(where, FloatDistribution | IntDistribution)
    margin = 0.5 if isinstance(where, IntDistribution) else 0.0
    low, high = where.low - margin, where.high + margin
    return (float(np.log10(low)), float(np.log10(high))) if where.log else (low, high)


def _is_log(where: BaseDistribution) -> bool:
    return isinstance(where, FloatDistribution | IntDistribution) and where.log


def variance_shares(
    columns: np.ndarray, values: np.ndarray, bounds: np.ndarray, seed: int, num_trees: int = _NUM_TREES
) -> np.ndarray:
    """The share of a forest's variance over the box `bounds` [columns, 2] that each column alone explains.

    `columns` is [trials, columns] and `values` [trials]; trees without any variance are left out.
    """
    from sklearn.ensemble import RandomForestRegressor  # a second to import: only where importance is asked for

    forest = RandomForestRegressor(n_estimators=num_trees, max_depth=64, random_state=seed).fit(columns, values)
    shares = [_tree_shares(estimator.tree_, bounds) for estimator in forest.estimators_]
    return np.asarray(np.mean([share for share in shares if share is not None], axis=0))


def _tree_shares(tree: Any, bounds: np.ndarray) -> np.ndarray | None:
    low, high = _leaf_boxes(tree, bounds)
    leaf_values = tree.value[tree.feature < 0].reshape(-1)
    fractions = (high - low) / (bounds[:, 1] - bounds[:, 0])
    volumes = fractions.prod(axis=1)
    mean = leaf_values @ volumes
    total = ((leaf_values - mean) ** 2) @ volumes
    if total <= 0:
        return None
    variances = [
        _marginal_variance(low[:, index], high[:, index], leaf_values * volumes / fractions[:, index], mean)
        for index in range(len(bounds))
    ]
    return np.asarray(np.array(variances) / total)


def _leaf_boxes(tree: Any, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners [leaves, columns] of the boxes into which a tree cuts `bounds`."""
    low = np.tile(bounds[:, 0], (tree.node_count, 1))
    high = np.tile(bounds[:, 1], (tree.node_count, 1))
    level = np.array([0])
    while len(level := level[tree.feature[level] >= 0]):
        left, right = tree.children_left[level], tree.children_right[level]
        for child in (left, right):
            low[child], high[child] = low[level], high[level]
        high[left, tree.feature[level]] = tree.threshold[level]
        low[right, tree.feature[level]] = tree.threshold[level]
        level = np.concatenate([left, right])
    leaves = tree.feature < 0
    return low[leaves], high[leaves]


def _marginal_variance(low: np.ndarray, high: np.ndarray, heights: np.ndarray, mean: float) -> float:
    """Variance over one column of the mean over all others: steps that begin at `low` and end at `high`."""
    cuts, where = np.unique(np.concatenate([low, high]), return_inverse=True)
    steps = np.bincount(where, weights=np.concatenate([heights, -heights]))
    marginal = np.cumsum(steps)[:-1]
    widths: Sequence[float] = np.diff(cuts) / (cuts[-1] - cuts[0])
    return float(((marginal - mean) ** 2) @ widths)
