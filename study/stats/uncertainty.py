"""How sure a difference between two rows is: arrays in, frozen dataclasses out.

Two sources of uncertainty are kept apart, since more of one does not cure the other:

* *seeds*: train again on the same data. Rows with common seeds are paired by them: Student's t (at five seeds its
  coverage is .95 where a percentile bootstrap has .84) and the exact sign-flip test. Rows without a common seed are
  independent samples: Welch's t, never paired by the order in which their seeds stand.
* *test systems*: score on other systems of the same kind, and on other prompts where these are known:
  `study.stats.items` on the influences of the items, the seeds averaged.

Verdicts use the combined error of both. NaN is never replaced: one undefined seed makes a mean undefined.

Sources: ITU-T P.1401 (2020); Bouthillier et al., MLSys 2021; Dror et al., ACL 2018; Agarwal et al., NeurIPS 2021;
Holm, Scand. J. Stat. 1979; Schuirmann, J. Pharmacokinet. Biopharm. 1987 (equivalence by two one-sided tests).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.stats import student
from study.stats.influence import Array
from study.stats.items import UNKNOWN, Error

ALPHA = 0.05  # of the family of declared comparisons
LEVEL = 0.95
MAX_EXACT_SEEDS = 20  # 2**19 sums; beyond that random flips
NUM_RANDOM_FLIPS = 100_000
RANDOM_FLIP_SEED = 20_250_401


@dataclass(frozen=True)
class Interval:
    """Mean with its interval, at 95 % unless asked otherwise; sd is that of the values, NaN where there are none."""

    mean: float
    sd: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A row minus the reference on one metric, in the metric's own unit and sign; NaN where undefined.

    ``relative`` is the difference over the reference's absolute mean, where its seeds tell that from 0. ``n`` counts
    the paired seeds, or the fewer of the two rows' where they share none (``paired`` false). ``by_seeds`` and
    ``by_systems`` are the standard errors of the two sources, ``beyond_seeds`` what new systems add to that of seeds:
    both hold the noise that a seed brings to single items, which counts once.
    """

    metric: str
    mean: float
    relative: float
    n: int
    paired: bool
    num_systems: int
    by_seeds: Error
    by_systems: Error
    beyond_seeds: Error
    p_seed: float

    @property
    def p_system(self) -> float:
        """Whether the difference would survive new systems."""
        return _t_test(self.mean, self.by_systems)

    @property
    def p_both(self) -> float:
        """Whether it would survive new seeds *and* new systems at once."""
        return _t_test(self.mean, self.error)

    @property
    def p(self) -> float:
        """The largest of the three: a difference must survive every one of them."""
        return float(np.max([self.p_seed, self.p_system, self.p_both]))  # np.max keeps NaN wherever it stands

    @property
    def error(self) -> Error:
        """The combined error of seeds and test systems."""
        return self.by_seeds + self.beyond_seeds

    @property
    def seeds(self) -> Interval:
        """95 %, other seeds on these systems."""
        return self.interval(LEVEL, self.by_seeds)

    @property
    def systems(self) -> Interval:
        """95 %, other systems for these runs."""
        return self.interval(LEVEL, self.by_systems)

    def interval(self, level: float = LEVEL, error: Error | None = None) -> Interval:
        """Of the combined error unless another is named."""
        error = error or self.error
        half = float(student.quantile(error.freedom, (1 + level) / 2) * error.value) if error.freedom > 0 else np.nan
        return Interval(self.mean, np.nan, self.n, self.mean - half, self.mean + half)

    def p_equivalent(self, margin: float) -> float:
        """Of two one-sided tests that the difference lies within +-margin, on the combined error.

        Each is taken at half the level, with the degrees of freedom of the source that has fewer: a difference that
        comes out small has too small an error too, so that tests at the whole level are passed too often.
        """
        error = self.error
        distance = margin - abs(self.mean)
        if np.isnan(error.value) or np.isnan(distance):
            return np.nan
        if error.value == 0:
            return 0.0 if distance > 0 else 1.0
        freedom = min(self.by_seeds.freedom, self.by_systems.freedom)
        return min(1.0, float(2 * student.upper_p(freedom, distance / error.value)))


def summarise(values: Sequence[float] | Array, level: float = LEVEL) -> Interval:
    """Mean, standard deviation and Student's t interval over seeds.

    A single seed has no interval, and one NaN makes all NaN.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 0:
        return Interval(np.nan, np.nan, 0, np.nan, np.nan)
    mean = float(array.mean())
    sd = float(array.std(ddof=1)) if n > 1 else np.nan
    half = float(student.quantile(n - 1, (1 + level) / 2) * sd / np.sqrt(n)) if n > 1 else np.nan
    return Interval(mean, sd, n, mean - half, mean + half)


def sign_flip_p(differences: Array) -> float:
    """Two-sided paired permutation test of mean 0: how many of the 2^n sign flips give a mean as far from 0.

    Exact up to 20 seeds (sums that differ by rounding only count as equal); above, 100,000 random flips from a fixed
    generator, the observed one counted among them. One seed gives 1; NaN gives NaN.
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
    """Holm's adjusted p values (Scand. J. Stat. 1979); NaN stays NaN and still counts as a declared comparison."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)  # NaN last
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare(
    metric: str, row: Array, reference: Array, by_systems: Error, num_systems: int, *, seed_noise: float = 0.0,
    paired: bool = True,
) -> Comparison:  # fmt: skip
    """Compare a row with the reference; a single seed has no error over seeds, fewer than five systems none over them.

    Parameters
    ----------
    metric
        As ``"ta.utterance.srcc"``.
    row, reference
        The metric of each seed: [seeds], of the same seeds in the same order if `paired`.
    by_systems
        The error of the difference over test systems, seeds averaged.
    num_systems
        How many systems that is.
    seed_noise
        How much of that error's variance is noise of these seeds, which the error over seeds holds too.
    paired
        False for rows that share no seed.
    """
    if not len(row) or not len(reference):
        nan = np.nan
        return Comparison(metric, nan, nan, 0, paired, num_systems, UNKNOWN, UNKNOWN, UNKNOWN, nan)
    mean, base = float(row.mean() - reference.mean()), abs(float(reference.mean()))
    if paired:
        by_seeds, p_seed = _error_over_seeds(row - reference), sign_flip_p(row - reference)
    else:
        by_seeds = _error_over_seeds(row) + _error_over_seeds(reference)
        p_seed = _t_test(mean, by_seeds)
    variance = by_systems.value**2
    beyond = Error(float(np.sqrt(max(variance - min(seed_noise, by_seeds.value**2), 0.0))), by_systems.freedom)
    around = summarise(reference)  # a reference that may as well be 0 is no unit
    relative = np.nan if base == 0 or around.low <= 0 <= around.high else mean / base
    n = min(len(row), len(reference))
    return Comparison(metric, mean, relative, n, paired, num_systems, by_seeds, by_systems, beyond, p_seed)


def _error_over_seeds(values: Array) -> Error:
    n = len(values)
    return Error(float(values.std(ddof=1) / np.sqrt(n)), n - 1) if n > 1 else UNKNOWN


def _t_test(mean: float, error: Error) -> float:
    if np.isnan(mean) or np.isnan(error.value):
        return np.nan
    if error.value == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * student.upper_p(error.freedom, abs(mean) / error.value))
