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
    for column in _columns(lines):
        pairs = [(line, *_pair(line, column)) for line in lines if _has(line, column)]
        if len(pairs) > 1:
            bound, row = min((_bound(mse, lcc), line.label) for line, mse, lcc in pairs)
            worse = [line.label for line, mse, _ in pairs if printed_range(mse)[0] > bound]
            found.append(LabelVariance(column, bound, row, tuple(worse)))
    return found


def gains(lines: Sequence[TableLine], variances: Sequence[LabelVariance]) -> Iterator[Gain]:
    """The first line against every other one that has a larger MSE."""
    for known in variances:
        if not _has(lines[0], known.column):
            continue
        mse, lcc = map(float, _pair(lines[0], known.column))
        for line in lines[1:]:
            if _has(line, known.column):
                other_mse, other_lcc = map(float, _pair(line, known.column))
                if (gain := other_mse - mse) > 0:
                    most = max(0.0, (lcc**2 - other_lcc**2) * known.bound)
                    yield Gain(known.column, lines[0].label, line.label, gain, min(1.0, most / gain))


def _columns(lines: Sequence[TableLine]) -> list[str]:
    """What has an MSE and an LCC, such as `ta.system`, in the order of the table."""
    names = dict.fromkeys(metric.rpartition(".")[0] for line in lines for metric in line.values)
    return [name for name in names if any(_has(line, name) for line in lines)]


def _has(line: TableLine, column: str) -> bool:
    names = (f"{column}.mse", f"{column}.lcc")
    return all(name in line.values for name in names) and abs(float(line.values[names[1]])) <= 1


def _pair(line: TableLine, column: str) -> tuple[str, str]:
    return line.values[f"{column}.mse"], line.values[f"{column}.lcc"]


def _bound(mse: str, lcc: str) -> float:
    """The largest variance that the printed digits leave open."""
    largest = min(1.0, max(map(abs, printed_range(lcc))))
    return printed_range(mse)[1] / (1 - largest**2) if largest < 1 else float("inf")
