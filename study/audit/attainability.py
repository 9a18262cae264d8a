"""Which rank correlations can occur at all between two rankings of n systems.

With n untied systems, Spearman's coefficient is ``1 - 6 S / (n (n^2 - 1))`` with S the sum of squared rank
differences, always even; Kendall's is ``k / P`` with P = n (n - 1) / 2 pairs and k = concordant - discordant, which
has the parity of P. For n >= 4 every value of both grids does occur; at n = 29 their steps are 1/2030 and 1/203. A
printed cell is attainable when a grid value rounds, or is cut towards zero, to the printed digits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

RankMetric = Literal["srcc", "ktau"]
Verdict = Literal["rounded", "truncated", "not attainable"]

MIN_SYSTEMS = 4  # with three systems the Spearman grid has a hole
MAX_SYSTEMS = 999_999
MAX_TIED_PAIRS = 3  # with more, the grids are so dense that nearly every cell lies on them
_TOLERANCE = 1e-12  # far above float64's rounding, far below any grid's step


@dataclass(frozen=True)
class Attainability:
    """Whether a printed rank correlation can occur, and the untied grid values on either side of it.

    `tied_pairs` is the smallest number of pairs of tied systems (in the truth, the prediction or both) with which the
    printed value passes the same check: 0 where none is needed, None where `MAX_TIED_PAIRS` do not help. Without ties
    the check is exact; with ties it is a bound, a necessary condition.
    """

    verdict: Verdict
    below: float
    above: float
    tied_pairs: int | None


@dataclass(frozen=True)
class _Grid:
    """The values ``(top - step * i) / denominator`` for i = 0, 1, ... down to -1."""

    top: float
    step: float
    denominator: float

    def value(self, index: int) -> float:
        return (self.top - self.step * index) / self.denominator

    def index(self, value: float) -> float:
        return (self.top - value * self.denominator) / self.step

    def has_value_in(self, low: float, high: float) -> bool:
        """Whether a value of the grid lies in [low, high]."""
        first = max(0, math.ceil(self.index(high)))
        return self.value(first) >= max(low, -1.0 - _TOLERANCE)


def rank_statistic(metric: str) -> RankMetric | None:
    """Which rank correlation over systems a metric such as `ta.system.srcc` is; None for every other metric."""
    _, level, statistic = metric.split(".")
    if level != "system":
        return None
    return "srcc" if statistic == "srcc" else "ktau" if statistic == "ktau" else None


def attainability(metric: RankMetric, printed: str, num_systems: int, ties: int = 0) -> Attainability:
    """Judge one printed cell; up to `ties` pairs of tied systems are accepted before it counts as not attainable."""
    assert num_systems >= MIN_SYSTEMS, f"an audit needs at least {MIN_SYSTEMS} systems"
    assert 0 <= ties <= MAX_TIED_PAIRS, f"at most {MAX_TIED_PAIRS} tied pairs are told apart"
    untied = _grid(metric, num_systems, 0, 0)
    position = untied.index(float(printed))
    below, above = (min(1.0, max(-1.0, untied.value(index))) for index in (math.ceil(position), math.floor(position)))
    tied_pairs, verdict = next(_readings(metric, printed, num_systems), (None, "not attainable"))
    if tied_pairs is None or tied_pairs > ties:
        verdict = "not attainable"
    return Attainability(verdict, below, above, tied_pairs)


def _readings(metric: RankMetric, printed: str, num_systems: int) -> Iterator[tuple[int | None, Verdict]]:
    """The ways in which the cell can occur, from the fewest tied pairs on."""
    for tied_pairs in range(MAX_TIED_PAIRS + 1):
        grids = [
            _grid(metric, num_systems, on_one_side, tied_pairs - on_one_side)
            for on_one_side in range(tied_pairs // 2 + 1)
        ]
        for verdict, (low, high) in _intervals(printed).items():
            if any(grid.has_value_in(low, high) for grid in grids):
                yield tied_pairs, verdict


def _grid(metric: RankMetric, num_systems: int, ties: int, more_ties: int) -> _Grid:
    """The grid with `ties` disjoint tied pairs in one ranking and `more_ties` in the other.

    Source: tau-b's denominator, and Spearman's coefficient as Pearson's of mid-ranks, each pair of which takes 1/2 from
    the sum of squared ranks. Ties in both rankings may or may not fall on the same systems: then only a bound is known.
    """
    both = ties > 0 and more_ties > 0
    if metric == "ktau":
        pairs = num_systems * (num_systems - 1) // 2
        denominator = math.sqrt((pairs - ties) * (pairs - more_ties))
        return _Grid(top=pairs - max(ties, more_ties), step=1 if both else 2, denominator=denominator)
    squares = (num_systems**3 - num_systems) / 12
    denominator = 2 * math.sqrt((squares - ties / 2) * (squares - more_ties / 2))
    if both:
        return _Grid(top=2 * squares - (ties + more_ties) / 2, step=0.5, denominator=denominator)
    tied = ties + more_ties
    return _Grid(top=2 * squares - tied, step=1 if tied else 2, denominator=denominator)


def _intervals(printed: str) -> dict[Verdict, tuple[float, float]]:
    """The numbers that print as `printed`, when rounded and when cut towards zero."""
    value, unit = float(printed), printed_unit(printed)
    rounded = (value - unit / 2 - _TOLERANCE, value + unit / 2 + _TOLERANCE)
    ahead = value + unit - _TOLERANCE if value >= 0 else value + _TOLERANCE
    behind = value - unit + _TOLERANCE if value <= 0 else value - _TOLERANCE
    return {"rounded": rounded, "truncated": (behind, ahead)}


def printed_unit(printed: str) -> float:
    """One unit of the last printed digit: 0.0001 for "0.8813"."""
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int), "a printed number is finite"
    return 10.0**exponent
