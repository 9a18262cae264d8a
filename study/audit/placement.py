"""Published cells against our intervals: inside, outside, or not to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from study.audit.attainability import attainability, printed_unit, rank_statistic
from study.published.paper import NUM_SYSTEMS, PublishedRow

Placement = Literal["inside", "outside", "not attainable", "not comparable", "no interval"]


@dataclass(frozen=True)
class PlacedCell:
    """One published cell and our interval for the same row and metric; `reason` says why it is not compared."""

    row: str
    published: str
    metric: str
    printed: str
    low: float
    high: float
    placement: Placement
    reason: str


def place(printed: str, low: float, high: float, attainable: bool = True, comparable: bool = True) -> Placement:
    """Where a printed value lies: `inside` when a number that prints so lies in [low, high].

    What is not attainable is not judged against any interval; nor is anything when our data are not those of the paper.
    An undefined interval (NaN: fewer than two seeds) judges nothing.
    """
    if not attainable:
        return "not attainable"
    if not comparable:
        return "not comparable"
    if not low <= high:
        return "no interval"
    value, unit = float(printed), printed_unit(printed)
    ahead, behind = (unit, unit / 2) if value >= 0 else (unit / 2, unit)  # rounded, or cut towards zero
    return "inside" if value + ahead >= low and value - behind <= high else "outside"


def place_row(
    row: str,
    published: PublishedRow,
    intervals: Mapping[str, tuple[float, float]],
    not_comparable: str = "",
    num_systems: int = NUM_SYSTEMS,
) -> tuple[PlacedCell, ...]:
    """Every cell of a published row against our (low, high) per metric; `not_comparable` is the reason, if any."""
    placed = []
    for metric, printed in published.values.items():
        low, high = intervals.get(metric, (float("nan"), float("nan")))
        attainable = is_attainable(metric, printed, num_systems)
        placement = place(printed, low, high, attainable, not not_comparable)
        reason = not_comparable if placement == "not comparable" else ""
        placed.append(PlacedCell(row, published.id, metric, printed, low, high, placement, reason))
    return tuple(placed)


def is_attainable(metric: str, printed: str, num_systems: int, ties: int = 0) -> bool:
    """Whether a printed cell can occur; only rank correlations at system level can be impossible."""
    statistic = rank_statistic(metric)
    return statistic is None or attainability(statistic, printed, num_systems, ties).verdict != "not attainable"


def why_not_comparable(simulated: bool, split: str, num_systems: int) -> str:
    """Why our numbers are not those of the paper's experiment; empty when they may be compared."""
    if simulated:
        return "other data: our corpus is simulated"
    if split != "dev":
        return f"other data: ours are scored on '{split}', the published ones on dev"
    if num_systems != NUM_SYSTEMS:
        return f"other data: our {split} split has {num_systems} systems, the published one {NUM_SYSTEMS}"
    return ""
