"""Published cells against our intervals: inside, outside, or not to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from study.audit.attainability import attainability, printed_range
from study.audit.table import rank_statistic
from study.published import NUM_SYSTEMS, PublishedRow

Placement = Literal["inside", "outside", "not attainable", "not comparable", "no interval"]


@dataclass(frozen=True)
class PlacedCell:
    """One published cell and our interval for the same metric; `reason` says why it is not compared."""

    metric: str
    printed: str
    low: float
    high: float
    placement: Placement
    reason: str


def place_row(
    published: PublishedRow, intervals: Mapping[str, tuple[float, float]], not_comparable: str = ""
) -> tuple[PlacedCell, ...]:
    """Every cell of a published row against our own interval for its metric.

    Parameters
    ----------
    intervals
        Our (low, high) per metric; NaN or nothing where there is none (fewer than two seeds).
    not_comparable
        Why our numbers are not those of the paper's experiment, as `why_not_comparable` says it; empty if they are.
    """
    placed = []
    for metric, printed in published.values.items():
        low, high = intervals.get(metric, (float("nan"), float("nan")))
        ranked = rank_statistic(metric)  # only rank correlations over systems can be impossible
        if ranked and attainability(ranked, printed, NUM_SYSTEMS).verdict == "not attainable":
            placement: Placement = "not attainable"
        else:
            placement = "not comparable" if not_comparable else place(printed, low, high)
        reason = not_comparable if placement == "not comparable" else ""
        placed.append(PlacedCell(metric, printed, low, high, placement, reason))
    return tuple(placed)


def place(printed: str, low: float, high: float) -> Placement:
    """Where a printed value lies: `inside` when a number that prints so, rounded or cut, lies in [low, high]."""
    if not low <= high:
        return "no interval"
    smallest, largest = printed_range(printed)
    return "inside" if largest >= low and smallest <= high else "outside"


def why_not_comparable(simulated: bool, split: str, num_systems: int) -> str:
    """Why our numbers are not those of the paper's experiment; empty when they may be compared."""
    if simulated:
        return "other data: our corpus is simulated"
    if split != "dev":
        return f"other data: ours are scored on '{split}', the published ones on dev"
    if num_systems != NUM_SYSTEMS:
        return f"other data: our {split} split has {num_systems} systems, the published one {NUM_SYSTEMS}"
    return ""
