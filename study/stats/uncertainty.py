"""How sure a difference between two rows is: arrays in, frozen dataclasses out.

Two sources of uncertainty are kept apart, since more of one does not cure the other:

* *seeds*: train again on the same data. Student's t interval (at five seeds its coverage is .95 where a percentile
  bootstrap has .84) and the exact paired sign-flip test.
* *test systems*: score on other systems of the same kind. Bootstrap over systems with the same draws for both rows and
  the seeds averaged; Student's t interval on the bootstrap's standard error (with 29 systems the percentile interval
  is too short in the tails that Holm's correction asks for: in trials 6 % of tables held a false verdict, with
  Student's t 2 %). Intervals of system-level rank correlations are conservative (coverage .99; see
  results/calibration.csv).

NaN is never replaced: one undefined seed makes a mean undefined.

Sources: ITU-T P.1401 (2020); Bouthillier et al., MLSys 2021; Dror et al., ACL 2018; Agarwal et al., NeurIPS 2021;
Holm, Scand. J. Stat. 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.stats import student
from study.stats.resampling import Array

ALPHA = 0.05  # of the family of declared comparisons
LEVEL = 0.95
EQUIVALENCE_LEVEL = 0.90  # two one-sided tests at .05
MIN_SYSTEMS = 5  # fewer systems say nothing about other systems
MAX_UNDEFINED_DRAWS = 0.05  # share of bootstrap draws in which the metric may be undefined
MAX_EXACT_SEEDS = 20  # 2**19 sums; beyond that random flips
NUM_RANDOM_FLIPS = 100_000
RANDOM_FLIP_SEED = 20_250_401


@dataclass(frozen=True)
class Interval:
    """Mean with its interval, at 95 % unless asked otherwise; sd is that of the values, NaN for one over systems."""

    mean: float
    sd: float
    n: int
    low: float
    high: float

    def inside(self, margin: float) -> bool:
        """Whether the whole interval lies within +-margin; an undefined one does not."""
        return bool(-margin <= self.low and self.high <= margin)


@dataclass(frozen=True)
class Comparison:
    """A row minus the reference on one metric, in the metric's own unit and sign; NaN where undefined.

    ``relative`` is the difference over the reference's absolute mean. ``n`` counts the paired seeds; ``seeds`` and
    ``systems`` are 95 % intervals, the others 90 %; ``seed_error`` and ``system_error`` are standard errors. ``p_both``
    asks whether the difference would survive new seeds *and* new systems at once: it only matters when both errors are
    of one size, where max(p_seed, p_system) alone lets 6 % or more of tables of 6 equal rows hold a false verdict
    (results/calibration.csv).
    """

    metric: str
    mean: float
    relative: float
    n: int
    num_systems: int
    seeds: Interval
    systems: Interval
    seeds_90: Interval
    systems_90: Interval
    seed_error: float
    system_error: float
    p_seed: float
    p_system: float
    p_both: float

    @property
    def p(self) -> float:
        """The largest of the three: a difference must survive every one of them."""
        return float(np.max([self.p_seed, self.p_system, self.p_both]))  # np.max keeps NaN wherever it stands


def summarise(values: Sequence[float] | Array, level: float = LEVEL) -> Interval:
    """Mean, standard deviation and Student's t interval over seeds.

    Parameters
    ----------
    values
        [seeds], one value of a metric for each seed; a single one has no interval, and one NaN makes all NaN.
    level
        Coverage of the interval.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 0:
        return Interval(np.nan, np.nan, 0, np.nan, np.nan)
    mean = float(array.mean())
    sd = float(array.std(ddof=1)) if n > 1 else np.nan
    return _student(mean, sd, n, sd / np.sqrt(n), n - 1, level)


def _student(mean: float, sd: float, n: int, error: float, freedom: int, level: float) -> Interval:
    half = float(student.quantile(freedom, (1 + level) / 2) * error) if freedom > 0 else np.nan
    return Interval(mean, sd, n, mean - half, mean + half)


def sign_flip_p(differences: Array) -> float:
    """Two-sided paired permutation test of mean 0: how many of the 2^n sign flips give a mean as far from 0.

    Exact up to 20 seeds (sums that differ by rounding only count as equal); above, 100,000 random flips from a fixed
    generator, the observed one counted among them.

    Parameters
    ----------
    differences
        [seeds], row minus reference at the same seed. One seed gives 1; NaN gives NaN.
    """
    n = len(differences)
    if n == 0 or np.isnan(differences).any():
        return np.nan
    if n <= MAX_EXACT_SEEDS:
        sums = np.asarray(differences[:1])  # the first sign stays: flipping all of them changes no absolute sum
        for value in differences[1:]:
            sums = np.concatenate([sums + value, sums - value])
    else:
        generator = np.random.default_rng(RANDOM_FLIP_SEED)
        sums = np.full(NUM_RANDOM_FLIPS + 1, differences.sum())
        signs = generator.integers(0, 2, size=(NUM_RANDOM_FLIPS, n), dtype=np.int8) * 2 - 1
        sums[1:] = signs @ differences
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - rounding))


def smallest_p(num_seeds: int) -> float:
    """The smallest two-sided p of an exact sign-flip test over paired seeds."""
    return float(2.0 * 0.5**num_seeds)


def seeds_needed(num_comparisons: int) -> int:
    """The fewest seeds with which a sign-flip test of all 2^n flips can pass Holm's first step at .05."""
    num_seeds = 1
    while smallest_p(num_seeds) > ALPHA / num_comparisons:
        num_seeds += 1
    return num_seeds


def holm(p_values: Sequence[float] | Array) -> Array:
    """Holm's adjusted p values (Scand. J. Stat. 1979).

    Parameters
    ----------
    p_values
        [comparisons]. NaN stays NaN and still counts as a comparison that was declared.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)  # NaN last
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def system_error(draws: Array, num_systems: int) -> float:
    """Standard error from bootstrap draws over systems; NaN when the systems or the defined draws are too few.

    A bootstrap of n systems has the variance of the plug-in estimate: n / (n - 1) corrects it.
    """
    defined = draws[~np.isnan(draws)]
    if num_systems < MIN_SYSTEMS or len(draws) - len(defined) > MAX_UNDEFINED_DRAWS * len(draws):
        return np.nan
    if np.ptp(defined) == 0:
        return 0.0
    return float(defined.std(ddof=1) * np.sqrt(num_systems / (num_systems - 1)))


def compare(metric: str, row: Array, reference: Array, draws: Array, num_systems: int) -> Comparison:
    """Compare a row with the reference.

    Parameters
    ----------
    metric
        Its name, as ``"ta.utterance.srcc"``.
    row, reference
        [seeds], the metric of each seed, paired by place.
    draws
        [draws], the bootstrap of (row minus reference), seeds averaged.
    num_systems
        The systems that the draws were taken from.

    Returns
    -------
    Comparison
        NaN where undefined: a single seed has no interval over seeds, fewer than five systems none over systems.
    """
    differences = row - reference
    seeds = summarise(differences)
    seed_error = seeds.sd / np.sqrt(seeds.n) if seeds.n else np.nan
    error = system_error(draws, num_systems)
    freedom = num_systems - 1
    both = float(np.hypot(seed_error, error))
    base = abs(float(reference.mean())) if seeds.n else np.nan
    return Comparison(
        metric=metric,
        mean=seeds.mean,
        relative=seeds.mean / base if base > 0 else np.nan,
        n=seeds.n,
        num_systems=num_systems,
        seeds=seeds,
        systems=_student(seeds.mean, np.nan, num_systems, error, freedom, LEVEL),
        seeds_90=summarise(differences, EQUIVALENCE_LEVEL),
        systems_90=_student(seeds.mean, np.nan, num_systems, error, freedom, EQUIVALENCE_LEVEL),
        seed_error=float(seed_error),
        system_error=error,
        p_seed=sign_flip_p(differences),
        p_system=_t_test(seeds.mean, error, freedom),
        p_both=_t_test(seeds.mean, both, _satterthwaite(seed_error, seeds.n - 1, error, freedom)),
    )


def _satterthwaite(seed_error: float, seed_freedom: int, system_error: float, system_freedom: int) -> float:
    """Degrees of freedom of the sum of two independent variances."""
    parts = np.array([seed_error, system_error]) ** 4 / np.maximum([seed_freedom, system_freedom], 1)
    return float((seed_error**2 + system_error**2) ** 2 / parts.sum()) if parts.sum() > 0 else np.inf


def _t_test(mean: float, error: float, freedom: float) -> float:
    if np.isnan(mean) or np.isnan(error):
        return np.nan
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return student.two_sided_p(freedom, mean / error)
