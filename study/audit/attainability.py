"""Which rank correlations can occur at all between two rankings of n systems.

With n untied systems, Spearman's coefficient is ``1 - 6 S / (n (n^2 - 1))`` with S the sum of squared rank
differences, always even; Kendall's is ``k / P`` with P = n (n - 1) / 2 pairs and k = concordant - discordant, which
has the parity of P. For n >= 4 every value of both grids does occur; at n = 29 their steps are 1/2030 and 1/203. Ties
make other grids, and the mean of k runs lies on a grid that is k times as fine. A printed cell is attainable when a
grid value rounds, or is cut towards zero, to the printed digits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Literal

RankMetric = Literal["srcc", "ktau"]
Verdict = Literal["rounded", "truncated", "not attainable"]
Groups = tuple[int, ...]  # sizes of the groups of tied systems in one ranking

MIN_SYSTEMS = 4  # with three systems the Spearman grid has a hole
MAX_SYSTEMS = 999_999
MAX_TIES = 3  # with more, the grids are so dense that nearly every cell lies on them
MAX_RUNS = 10  # of those that are tried where the number of runs is not known
_TOLERANCE = 1e-12  # far above float64's rounding, far below any grid's step


@dataclass(frozen=True)
class Attainability:
    """Whether a printed rank correlation can occur.

    `below` and `above` are the untied grid values on either side of it. `ties` are the fewest ties with which it could
    occur, as (groups in one ranking, groups in the other); None where `MAX_TIES` do not help. `chance` is the share of
    all strings of as many digits that pass the same check: 1 where a pass says nothing.
    """

    verdict: Verdict
    below: float
    above: float
    ties: tuple[Groups, Groups] | None
    chance: float


@dataclass(frozen=True)
class _Grid:
    """The values ``(top - step * i) / denominator`` for i = 0, 1, ... down to ``-top / denominator``."""

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
        return self.value(first) >= max(low, -self.top / self.denominator - _TOLERANCE)


def attainability(metric: RankMetric, printed: str, num_systems: int, ties: int = 0, runs: int = 1) -> Attainability:
    """Judge one printed cell.

    Parameters
    ----------
    printed
        As it is printed, between -1 and 1: its digits count.
    ties
        How many ties are accepted before it counts as not attainable, 0 to 3: two systems with one value are one tie,
        three with one value are two, as are two pairs.
    runs
        The cell is the mean of so many, which share their ties.
    """
    assert num_systems >= MIN_SYSTEMS, f"an audit needs at least {MIN_SYSTEMS} systems"
    assert 0 <= ties <= MAX_TIES, f"at most {MAX_TIES} ties are accepted"
    grids, intervals = _grids(metric, num_systems, runs), _intervals(printed)
    untied = grids[(), ()]
    position = untied.index(float(printed))
    below, above = (min(1.0, max(-1.0, untied.value(index))) for index in (math.ceil(position), math.floor(position)))
    unit = max(printed_unit(printed), _TOLERANCE)
    accepted = [grid for groups, grid in grids.items() if _num_ties(groups) <= ties]
    chance = min(1.0, sum(1.5 * unit * grid.denominator / grid.step for grid in accepted))
    readings = [
        (_num_ties(groups), place, groups, verdict)
        for groups, grid in grids.items()
        for place, (verdict, where) in enumerate(intervals.items())
        if grid.has_value_in(*where)
    ]
    if not readings:
        return Attainability("not attainable", below, above, None, chance)
    number, _, groups, verdict = min(readings)
    return Attainability(verdict if number <= ties else "not attainable", below, above, groups, chance)


def fits(metric: RankMetric, printed: str, num_systems: int, groups: Groups, runs: int = 1) -> bool:
    """Whether a cell can occur when just these groups of systems are tied in the true ranking."""
    grid = _grid(metric, num_systems, (), groups, runs)
    return any(grid.has_value_in(*where) for where in _intervals(printed).values())


def true_ties(num_systems: int) -> list[Groups]:
    """The groups that may be tied in the true ranking, the fewest ties first; the first are none."""
    return [second for first, second in _patterns(num_systems, MAX_TIES) if not first]


def fewest_runs(metric: RankMetric, printed: str, num_systems: int) -> int | None:
    """The smallest number of runs whose mean can print so, up to `MAX_RUNS`."""
    tried = ((runs, attainability(metric, printed, num_systems, runs=runs)) for runs in range(1, MAX_RUNS + 1))
    return next((runs for runs, found in tried if found.verdict != "not attainable"), None)


def described(ties: tuple[Groups, Groups]) -> str:
    """Ties in words: "a tied pair", "a tied pair and 3 tied together, some in each ranking"."""
    words = ["a tied pair" if size == 2 else f"{size} tied together" for size in sorted(sum(ties, ()))]
    pairs = words.count("a tied pair")
    words = [f"{pairs} tied pairs", *words[pairs:]] if pairs > 1 else words
    return " and ".join(words) + (", some in each ranking" if all(ties) else "")


def _num_ties(ties: tuple[Groups, Groups]) -> int:
    return sum(size - 1 for size in sum(ties, ()))


def _patterns(num_systems: int, most: int) -> Iterator[tuple[Groups, Groups]]:
    """Groups of tied systems in one ranking and in the other, with up to `most` ties, the fewest first."""

    def groups(number: int, largest: int, room: int = num_systems) -> Iterator[Groups]:
        if not number:
            yield ()
        for ties in range(min(number, largest, room - 1, num_systems - 2), 0, -1):  # a constant has no correlation
            yield from ((ties + 1, *rest) for rest in groups(number - ties, ties, room - ties - 1))

    for number in range(most + 1):
        for here in range(number // 2 + 1):
            for first in groups(here, here):
                yield from ((first, second) for second in groups(number - here, number))


@cache
def _grids(metric: RankMetric, num_systems: int, runs: int) -> dict[tuple[Groups, Groups], _Grid]:
    return {groups: _grid(metric, num_systems, *groups, runs) for groups in _patterns(num_systems, MAX_TIES)}


def _grid(metric: RankMetric, num_systems: int, first: Groups, second: Groups, runs: int) -> _Grid:
    """The grid with these groups of tied systems.

    Source: tau-b's denominator, and Spearman's coefficient as Pearson's of mid-ranks: a group of t takes
    (t^3 - t) / 12 from the sum of squared ranks, and mid-ranks of even groups are half-integers. With ties in one
    ranking all of Kendall's values do occur, and all of Spearman's but a few beside its ends; with ties in both, which
    may or may not fall on the same systems, the grid is that of all cases together.
    """
    both = bool(first and second)
    if metric == "ktau":
        pairs = num_systems * (num_systems - 1) // 2
        tied, more = (sum(size * (size - 1) // 2 for size in groups) for groups in (first, second))
        return _Grid(pairs - max(tied, more), (1 if both else 2) / runs, math.sqrt((pairs - tied) * (pairs - more)))
    lost, more_lost = (sum(size**3 - size for size in groups) / 12 for groups in (first, second))
    squares = (num_systems**3 - num_systems) / 12
    has_halves = [any(size % 2 == 0 for size in groups) for groups in (first, second)]
    step = (2, 1, 0.5)[sum(has_halves)]
    denominator = 2 * math.sqrt((squares - lost) * (squares - more_lost))
    return _Grid(2 * squares - lost - more_lost - abs(lost - more_lost), step / runs, denominator)


def printed_range(printed: str) -> tuple[float, float]:
    """The numbers that print as `printed`, rounded or cut towards zero, from the smallest to the largest."""
    intervals = _intervals(printed).values()
    return min(low for low, _ in intervals), max(high for _, high in intervals)


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
