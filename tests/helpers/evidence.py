"""Small tables of predictions whose truth is known, as `Evidence` and as comparisons."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from study.judgement import Evidence
from study.stats import Comparison, Error, compare
from study.stats.influence import Array

METRIC = "ta.utterance.srcc"


def evidence(
    *,
    errors: dict[str, float],
    num_seeds: int = 10,
    num_systems: int = 12,
    clips_per_system: int = 8,
    seed: int = 0,
) -> Evidence:
    """Rows that predict the truth with an error of their own of the given sd; `whisq` is the reference.

    Every other row is declared; errors by seed have sd .05. The caller replaces what it wants to be different.
    """
    generator = np.random.default_rng(seed)
    systems = np.repeat(np.arange(num_systems), clips_per_system)
    latent = generator.normal(0, 0.6, num_systems)[systems] + generator.normal(0, 0.5, len(systems))
    truth = np.clip(np.round((3 + latent[:, None] + generator.normal(0, 0.2, (len(systems), 2))) * 5) / 5, 1, 5)
    shape = (num_seeds, len(systems), 2)
    predictions = {
        row: 3 + latent[None, :, None] + generator.normal(0, sd, (1, *shape[1:])) + generator.normal(0, 0.05, shape)
        for row, sd in errors.items()
    }
    return Evidence(
        predictions=predictions,
        seeds={row: tuple(range(num_seeds)) for row in errors},
        truth=truth,
        groups=tuple(f"S{system:03}" for system in systems),
        reference="whisq",
        compared=tuple(row for row in errors if row != "whisq"),
        metric=METRIC,
        margin=0.01,
    )


def comparison(
    mean: float,
    *,
    seed_sd: float = 0.01,
    system_error: float = 0.03,
    num_seeds: int = 10,
    num_systems: int = 29,
    metric: str = METRIC,
) -> Comparison:
    """A comparison of exactly this mean and sd over seeds, and of this error over systems."""
    differences = mean + seed_sd * _standard(num_seeds)
    by_systems = Error(system_error, num_systems - 1) if num_systems >= 5 else Error(np.nan, np.nan)
    return compare(metric, 0.5 + differences, np.full(num_seeds, 0.5), by_systems, num_systems)


def _standard(size: int) -> Array:
    """Values of mean 0 and sd 1, in no particular order; a single one is 0."""
    values = np.random.default_rng(size).normal(size=size)
    values -= values.mean()
    return values / values.std(ddof=1) if size > 1 else values


def closed_bonferroni(p: Sequence[float]) -> list[float]:
    """Adjusted p values by the definition that Holm's steps are short for: of all Bonferroni tests of a row and others.

    Source: Marcus, Peritz and Gabriel, Biometrika 1976 (closed testing).
    """
    places = range(len(p))
    families = [family for size in range(1, len(p) + 1) for family in combinations(places, size)]
    of_family = {family: min(1.0, len(family) * min(p[place] for place in family)) for family in families}
    return [max(found for family, found in of_family.items() if place in family) for place in places]


def t_power(effect: float, size: int) -> float:
    """The power of a two-sided paired t test at .05 against a difference of `effect` standard deviations."""
    bound, centre = stats.t.ppf(0.975, size - 1), effect * np.sqrt(size)
    return float(stats.nct.sf(bound, size - 1, centre) + stats.nct.cdf(-bound, size - 1, centre))
