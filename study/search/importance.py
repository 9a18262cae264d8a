"""Which searched settings mattered: fANOVA with its spread over forests, beside a random column as noise floor.

Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014. Optuna's
own evaluator takes ten minutes for 20 forests on 1,000 trials, and integrates logarithmic parameters over their plain
range (of 1e-5..1e-1 all but a thousandth lies above 1e-4).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.dashboard import MIN_TRIALS
from study.search.study import best_first

NUM_FORESTS = 20
_NUM_TREES = 32
_NUM_POINTS = 1024  # of a forest's surface, a power of two: an error of about .01 in a share
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
    noise, sds = shares[:, -1], shares.std(axis=0, ddof=1)
    found = [
        Importance(name, float(own.mean()), float(sd), float((own > noise).mean()))
        for name, own, sd in zip(ranges, shares.T, sds, strict=False)
    ]
    found.sort(key=lambda importance: -importance.mean)
    return Importances(tuple(found), float(noise.mean()), float(sds[-1]), len(trials), study.study_name)


def _coordinate(value: Any, where: BaseDistribution) -> float:
    if isinstance(where, CategoricalDistribution):
        return float(where.choices.index(value))
    return float(np.log10(value) if getattr(where, "log", False) else value)


def _bounds(where: BaseDistribution) -> tuple[float, float]:
    """The range of a coordinate; whole numbers and choices are one unit wide each."""
    if isinstance(where, CategoricalDistribution):
        return -0.5, len(where.choices) - 0.5
    assert isinstance(where, FloatDistribution | IntDistribution)
    margin = 0.5 if isinstance(where, IntDistribution) else 0.0
    low, high = where.low - margin, where.high + margin
    return (float(np.log10(low)), float(np.log10(high))) if where.log else (low, high)


def variance_shares(columns: np.ndarray, values: np.ndarray, bounds: np.ndarray, seed: int) -> np.ndarray:
    """The share of a forest's variance over the box `bounds` [columns, 2] that each column alone explains.

    `columns` is [trials, columns] and `values` [trials]. The shares are Sobol's first-order indices.
    """
    from scipy.stats import sobol_indices, uniform  # a second to import: only where importance is asked for
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=_NUM_TREES, max_depth=64, random_state=seed).fit(columns, values)
    box = [uniform(low, high - low) for low, high in bounds]
    found = sobol_indices(func=lambda points: forest.predict(points.T)[None], n=_NUM_POINTS, dists=box, rng=seed)
    return np.asarray(found.first_order).reshape(len(box))
