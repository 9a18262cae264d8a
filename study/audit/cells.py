"""Published correlations over systems: can they occur, and what do so few systems leave open?"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from study.audit.attainability import Attainability, attainability, rank_statistic
from whisq_core.metrics import METRICS

# Variance of Fisher's z: numerator, and what is taken from n. Source: Fieller, Hartley & Pearson (1957) for ranks.
_FISHER = {"lcc": (1.0, 3), "srcc": (1.06, 3), "ktau": (0.437, 4)}
_SYSTEM_COLUMNS = tuple(name for name in METRICS if name.split(".")[1] == "system" and not name.endswith("mse"))


@dataclass(frozen=True)
class AuditedCell:
    """A published correlation over systems.

    `attainability` is None for LCC, which any value can be. `low` and `high` are the 95 % interval that `num_systems`
    systems alone leave open (NaN where it is undefined).
    """

    row: str
    label: str
    metric: str
    printed: str
    num_systems: int
    attainability: Attainability | None
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`rounded`, `truncated` or `not attainable`; empty for LCC."""
        return self.attainability.verdict if self.attainability else ""

    def line(self) -> dict[str, Any]:
        """All of it as one line of a table; what is undefined is None."""
        grid = self.attainability
        return {
            "row": self.row,
            "label": self.label,
            "metric": self.metric,
            "printed": self.printed,
            "systems": self.num_systems,
            "verdict": self.verdict,
            "nearest_below": grid.below if grid else None,
            "nearest_above": grid.above if grid else None,
            "tied_pairs": grid.tied_pairs if grid else None,
            "low": None if math.isnan(self.low) else self.low,
            "high": None if math.isnan(self.high) else self.high,
        }


def audited_cells(
    row: str, label: str, values: Mapping[str, str], num_systems: int, ties: int = 0
) -> Iterator[AuditedCell]:
    """The system-level correlations of one published row; `ties` pairs of tied systems are accepted."""
    for metric in _SYSTEM_COLUMNS:
        if metric not in values:
            continue
        printed, ranked = values[metric], rank_statistic(metric)
        found = attainability(ranked, printed, num_systems, ties) if ranked else None
        low, high = sampling_interval(ranked or "lcc", float(printed), num_systems)
        yield AuditedCell(row, label, metric, printed, num_systems, found, low, high)


def sampling_interval(statistic: str, value: float, num_systems: int) -> tuple[float, float]:
    """The 95 % interval of a correlation over so many independent systems, by Fisher's z; NaN where undefined."""
    numerator, taken = _FISHER[statistic]
    if abs(value) >= 1 or num_systems <= taken:
        return math.nan, math.nan
    half = NormalDist().inv_cdf(0.975) * math.sqrt(numerator / (num_systems - taken))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
