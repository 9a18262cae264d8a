"""One published cell: can it occur, what is a pass worth, and what do so few systems leave open?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from study.audit.attainability import MIN_SYSTEMS, Attainability, RankMetric, attainability, described, fewest_runs
from study.audit.table import TableLine, rank_statistic, statistic_of

MAX_SCAN = 60  # systems; with more, few cells of four digits are left that cannot occur
_CHANCE = 0.05  # numbers of systems that random digits would fit, expected over a scan

_NOT_AUDITED = {
    "mse": "errors have no grid; they bound the variance of the labels",
    "lcc": "every value between -1 and 1 can occur",
    "utterance": "ratings of clips tie, and how is not printed",
    "systems": "how many systems is not said: give --systems N",
}


@dataclass(frozen=True)
class AuditedCell:
    """A published number; a line of every format has these fields, None where there is nothing to say.

    `verdict` is `rounded`, `truncated`, `not attainable`, `not attainable by one run` (where the table does not say how
    many runs are behind it), `out of range` or `not audited`; `reason` says why not, or what would explain the number.
    `nearest_below`, `nearest_above` and `chance` are those of `Attainability`; `low` and `high` the 95 % interval of a
    correlation that so few systems alone leave open.
    """

    row: str
    label: str
    metric: str
    printed: str
    systems: int | None
    runs: int | None
    verdict: str
    reason: str
    nearest_below: float | None = None
    nearest_above: float | None = None
    chance: float | None = None
    low: float | None = None
    high: float | None = None


def audited_cells(line: TableLine) -> Iterator[AuditedCell]:
    """Every printed number of one line."""
    for metric, printed in line.values.items():
        level, statistic = statistic_of(metric)
        numbers: dict[str, float | None] = {}
        verdict, reason = "not audited", _NOT_AUDITED.get(statistic, _NOT_AUDITED.get(level, _NOT_AUDITED["systems"]))
        if float(printed) < 0 if statistic == "mse" else abs(float(printed)) > 1:
            verdict, reason = "out of range", "an error is at least 0, a correlation lies between -1 and 1"
        elif level == "system" and statistic != "mse" and line.num_systems:
            ends = sampling_interval(statistic, float(printed), line.num_systems)
            numbers = dict(zip(("low", "high"), (None if math.isnan(end) else end for end in ends), strict=True))
            if ranked := rank_statistic(metric):
                grid = attainability(ranked, printed, line.num_systems, line.ties, line.runs or 1)
                numbers |= {"nearest_below": grid.below, "nearest_above": grid.above, "chance": grid.chance}
                verdict, reason = grid.verdict, ""
                if verdict == "not attainable":
                    verdict, reason = _explained(ranked, printed, line, grid)
        yield AuditedCell(line.id, line.label, metric, printed, line.num_systems, line.runs, verdict, reason, **numbers)


def _explained(statistic: RankMetric, printed: str, line: TableLine, grid: Attainability) -> tuple[str, str]:
    """The verdict on a cell that cannot occur, and what would allow it."""
    assert line.num_systems is not None
    found = [described(grid.ties)] if grid.ties else []
    if line.runs is None and (runs := fewest_runs(statistic, printed, line.num_systems)):
        found.append(f"a mean of {runs} runs")
    verdict = "not attainable" if line.runs else "not attainable by one run"
    return verdict, f"{' or '.join(found)} would allow it" if found else "few ties or runs do not allow it either"


@dataclass(frozen=True)
class Fitting:
    """The numbers of systems from 4 to `up_to` with which every rank correlation of a row can occur.

    Beyond `up_to` the scan would find numbers that random digits fit, more than one in twenty times; None: at once.
    """

    row: str
    numbers: tuple[int, ...]
    up_to: int | None


def fitting_systems(line: TableLine) -> Fitting | None:
    """Scan the number of systems, up to `MAX_SCAN`; None for a line without rank correlations over systems."""
    ranked = [(name, printed) for metric, printed in line.values.items() if (name := rank_statistic(metric))]
    if not ranked:
        return None
    numbers, up_to, expected = list[int](), None, 0.0
    for systems in range(MIN_SYSTEMS, MAX_SCAN + 1):
        found = [attainability(name, printed, systems, line.ties, line.runs or 1) for name, printed in ranked]
        expected += math.prod(cell.chance for cell in found)
        if expected > _CHANCE:
            break
        up_to = systems
        if all(cell.verdict != "not attainable" for cell in found):
            numbers.append(systems)
    return Fitting(line.label, tuple(numbers), up_to)


def sampling_interval(statistic: str, value: float, num_systems: int) -> tuple[float, float]:
    """The 95 % interval of a correlation over so many independent systems; NaN where it is undefined.

    Source: Fisher's z with the variances of Bonett and Wright, "Sample size requirements for estimating Pearson,
    Kendall and Spearman correlations", Psychometrika 65 (2000).
    """
    numerator = {"lcc": 1.0, "srcc": 1 + value**2 / 2, "ktau": 0.437}[statistic]
    taken = 4 if statistic == "ktau" else 3
    if abs(value) >= 1 or num_systems <= taken:
        return math.nan, math.nan
    half = NormalDist().inv_cdf(0.975) * math.sqrt(numerator / (num_systems - taken))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
