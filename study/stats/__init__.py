"""Statistics of arrays: influences, errors over groups of items, comparisons of two rows, power, panels of raters.

Pure: it knows neither rows nor declarations, files nor settings. `study.judgement` makes verdicts of these.
"""

from study.stats.contrasts import contrast
from study.stats.influence import Array, influence
from study.stats.items import MIN_GROUPS, UNKNOWN, Error, Items
from study.stats.panel import MIN_RATINGS, moved_by_raters, panel_scores
from study.stats.power import MANY, design, more_seeds, more_systems, power_curve
from study.stats.uncertainty import (
    ALPHA,
    LEVEL,
    Comparison,
    Interval,
    compare,
    holm,
    seeds_needed,
    smallest_p,
    summarise,
)

__all__ = [
    "ALPHA",
    "LEVEL",
    "MANY",
    "MIN_GROUPS",
    "MIN_RATINGS",
    "UNKNOWN",
    "Array",
    "Comparison",
    "Error",
    "Interval",
    "Items",
    "compare",
    "contrast",
    "design",
    "holm",
    "influence",
    "more_seeds",
    "more_systems",
    "moved_by_raters",
    "panel_scores",
    "power_curve",
    "seeds_needed",
    "smallest_p",
    "summarise",
]
