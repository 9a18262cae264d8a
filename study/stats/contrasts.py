"""Weighted sums of rows whose weights cancel, such as an interaction: what two parts do together beyond each alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from study.stats.influence import Array
from study.stats.items import UNKNOWN, Items
from study.stats.uncertainty import Comparison, compare


def contrast(
    weights: Mapping[str, float],
    metric: str,
    seeds: Mapping[str, Sequence[int]],
    values: Mapping[str, Mapping[str, Array]],
    moved: Callable[[str, str], Array],
    items: Items,
) -> Comparison:
    """The rows with positive weights against those with negative ones, at the seeds that all of them have done.

    `values` are row -> metric -> [seeds], `moved` the influences (metric, row) -> [seeds, items].
    """
    common = sorted(set.intersection(*(set(seeds.get(row, ())) for row in weights)))
    if not common:
        return compare(metric, np.array([]), np.array([]), UNKNOWN, items.num_groups)
    places = {row: [list(seeds[row]).index(seed) for seed in common] for row in weights}
    for_it, against = np.zeros(len(common)), np.zeros(len(common))
    for row, weight in weights.items():
        side = for_it if weight > 0 else against
        side += abs(weight) * values[row][metric][places[row]]
    influences = sum(weight * moved(metric, row)[places[row]] for row, weight in weights.items())
    error, noise = items.error(metric, np.asarray(influences))
    return compare(metric, for_it, against, error, items.num_groups, seed_noise=noise)
