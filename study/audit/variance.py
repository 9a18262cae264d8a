"""What errors and correlations say together: the labels' variance, rows worse than a constant, where a gain lies.

For any prediction ``MSE = bias^2 + (sd_prediction - r sd_label)^2 + (1 - r^2) Var``, so that ``MSE / (1 - r^2)`` of
every row bounds the variance of the labels that all rows share, and a constant (their mean) has just that variance as
its MSE. Of a gain in MSE, ``(r^2 - r_other^2) Var`` is correlation; the rest is bias and scale. All of it is for
single runs: of means over runs, mean r^2 is not printed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from study.audit.attainability import printed_range
from study.audit.table import TableLine


@dataclass(frozen=True)
class LabelVariance:
    """The variance of the labels of one column is at most `bound`, says row `row`; `worse` rows have a larger MSE."""

    column: str
    bound: float
    row: str
    worse: tuple[str, ...]


@dataclass(frozen=True)
class Gain:
    """How much smaller the MSE of the first row, `of`, is than that of `row`, and what of it correlation can give.

    `correlation` is the largest share that the labels' variance allows; what is left is bias and scale at least.
    """

    column: str
    of: str
    row: str
    gain: float
    correlation: float


def label_variances(lines: Sequence[TableLine]) -> list[LabelVariance]:
    """One bound for each column that has an MSE and an LCC in two rows or more."""
    found = []
    for column, pairs in _pairs(lines).items():
        if len(pairs) > 1:
            bound, row = min((_bound(mse, lcc), line.label) for line, mse, lcc in pairs)
            worse = [line.label for line, mse, _ in pairs if printed_range(mse)[0] > bound]
            found.append(LabelVariance(column, bound, row, tuple(worse)))
    return found


def gains(lines: Sequence[TableLine], variances: Sequence[LabelVariance]) -> Iterator[Gain]:
    """The first line against every other one that has a larger MSE."""
    pairs = _pairs(lines)
    for known in variances:
        (first, mse, lcc), *others = pairs[known.column]
        for line, other_mse, other_lcc in others if first is lines[0] else ():
            if (gain := float(other_mse) - float(mse)) > 0:
                most = max(0.0, (float(lcc) ** 2 - float(other_lcc) ** 2) * known.bound)
                yield Gain(known.column, first.label, line.label, gain, min(1.0, most / gain))


def _pairs(lines: Sequence[TableLine]) -> dict[str, list[tuple[TableLine, str, str]]]:
    """For what has both, such as `ta.system`: each line with its MSE and LCC as printed, in the order of the table."""
    found: dict[str, list[tuple[TableLine, str, str]]] = {}
    for column in dict.fromkeys(metric.rpartition(".")[0] for line in lines for metric in line.values):
        for line in lines:
            mse, lcc = (line.values.get(f"{column}.{name}") for name in ("mse", "lcc"))
            if mse is not None and lcc is not None and abs(float(lcc)) <= 1:
                found.setdefault(column, []).append((line, mse, lcc))
    return found


def _bound(mse: str, lcc: str) -> float:
    """The largest variance that the printed digits leave open."""
    largest = min(1.0, max(map(abs, printed_range(lcc))))
    return printed_range(mse)[1] / (1 - largest**2) if largest < 1 else float("inf")
