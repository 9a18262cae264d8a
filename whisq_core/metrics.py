"""The 16 numbers of Table II, pure and in float64: MSE, LCC, SRCC and KTAU of OMQ and TA, by utterance and by system.

A metric is named ``TARGET.LEVEL.STATISTIC``, such as ``ta.system.srcc``; the statistic may be an installed package's
(`whisq_core.plugins`).

Conventions (the official scorer's formulas; values equal SciPy's, without its import and p-values):

* LCC is Pearson's r, SRCC Pearson's r of average ranks, KTAU Kendall's tau-b. Predictions are not clipped to [1, 5].
* System level: predicted = mean over the system's clips; true = mean of the same clips' labels, or a given table.
  Means are rounded to 12 decimals, so that systems with equal means tie whatever the order of summation; a naive
  mean ranks them by rounding noise.
* A correlation is NaN where it is undefined: fewer than two points, a constant side. One prediction that is not
  finite makes every number of its target NaN. MSE is then NaN too.
* Within-system SRCC: the mean over systems of the SRCC inside the system, weighted by its clips; systems with fewer
  than three clips, or where truth or prediction is constant, are left out; NaN when none is left. Predicting each
  clip's system perfectly earns nothing here.
"""

import math
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from whisq_core import plugins
from whisq_core.errors import did_you_mean

Values = Float64[np.ndarray, " points"]

TARGETS = ("omq", "ta")  # the columns of predictions and labels
LEVELS = ("utterance", "system")
WITHIN = "within_system"  # a level of its own, of the SRCC alone
_NAME = re.compile(rf"(.+)\.({'|'.join((*LEVELS, WITHIN))})\.(.+)", re.DOTALL)
_MEAN_DECIMALS = 12
_MIN_WITHIN = 3  # clips a system needs for a rank correlation inside it


@dataclass(frozen=True)
class Statistic:
    """One number of two samples, the predicted and the true."""

    compute: Callable[[Values, Values], float]
    higher_is_better: bool


def mse(predicted: Values, truth: Values) -> float:
    """Mean of squared differences."""
    return float(np.mean((predicted - truth) ** 2))


def lcc(predicted: Values, truth: Values) -> float:
    """Pearson's r in [-1, 1]; NaN if a side is constant."""
    if _is_constant(predicted) or _is_constant(truth):
        return math.nan
    x, y = _direction(predicted), _direction(truth)
    return float(np.clip(x @ y, -1.0, 1.0))


def srcc(predicted: Values, truth: Values) -> float:
    """Spearman's rho with average ranks; exactly 1 for the same ranking; NaN if a side is constant."""
    return _rank_correlation(ranks(predicted), ranks(truth))


def ktau(predicted: Values, truth: Values) -> float:
    """Kendall's tau-b: ties on either side shrink the denominator; NaN if a side is constant."""
    x, y = (np.unique(side, return_inverse=True)[1] for side in (predicted, truth))
    all_pairs = len(x) * (len(x) - 1) // 2
    differ_x, differ_y, tied_in_both = all_pairs - _ties(x), all_pairs - _ties(y), _ties(x * len(x) + y)
    if not differ_x or not differ_y:
        return math.nan
    concordant = 0
    smaller_x: list[int] = []  # codes of y, sorted, of the points before
    for value in y[np.lexsort((-y, x))].tolist():  # of equal x the largest y first, so that they count no pair
        position = bisect_left(smaller_x, value)
        concordant += position
        smaller_x.insert(position, value)
    ordered_by_both = differ_x + differ_y - all_pairs + tied_in_both
    return (2 * concordant - ordered_by_both) / math.sqrt(differ_x * differ_y)


STATISTICS: dict[str, Statistic] = {
    "mse": Statistic(mse, higher_is_better=False),
    "lcc": Statistic(lcc, higher_is_better=True),
    "srcc": Statistic(srcc, higher_is_better=True),
    "ktau": Statistic(ktau, higher_is_better=True),
}
MEAN = "mean"  # of the predictions themselves: accuracies and scores of a table without labels
METRICS: tuple[str, ...] = tuple(f"{t}.{level}.{name}" for t in TARGETS for level in LEVELS for name in STATISTICS)
EXTRA: tuple[str, ...] = tuple(f"{target}.{WITHIN}.srcc" for target in TARGETS)


class Metric(NamedTuple):
    """The parts of a metric's name."""

    target: str
    level: str
    statistic: str


@cache
def parsed(name: str) -> Metric:
    """The parts of a name that is one; the names of targets and of plug-ins may have dots."""
    found = _NAME.fullmatch(name)
    assert found, f"'{name}' names no metric"
    return Metric(*found.groups())


def metrics_of(target: str) -> tuple[str, ...]:
    """The names of everything `evaluate` says about one target: those like `METRICS`, then that like `EXTRA`."""
    names = tuple(f"{target}.{level}.{name}" for level in LEVELS for name in STATISTICS)
    return (*names, f"{target}.{WITHIN}.srcc")


def known_metrics(targets: Sequence[str] = TARGETS) -> tuple[str, ...]:
    """Every metric that can be named: ours, then those of installed packages."""
    own = (name for target in targets for name in metrics_of(target))
    others = (f"{of}.{level}.{name}" for of in targets for level in LEVELS for name in plugins.installed("metric"))
    return (*own, *others)


def unknown_metric(name: str, known: Iterable[str] | None = None) -> str:
    """What to say of a name that is none of the `known` metrics, by default of all."""
    metrics = {each: parsed(each) for each in (known_metrics() if known is None else known)}
    _, before, last = ("", "", *name.split("."))[-3:]
    ours = {"", *LEVELS, WITHIN, *(each.target for each in metrics.values())}
    if before in ours or (last in STATISTICS and name.count(".") < 3):  # the level may be misspelt
        more = f" {plugins.listed('metric')}" if plugins.installed("metric") else ""
        return f"unknown metric '{name}'. {did_you_mean(name, metrics)}{more}"
    foreign = [each for each, parts in metrics.items() if plugins.is_plugin(parts.statistic)]
    near = f" {did_you_mean(name, foreign)}" if foreign else ""
    return f"unknown metric '{name}'.{near} {plugins.listed('metric')} Install its package."


def statistic(name: str) -> Statistic:
    """One of `STATISTICS`, or that of an installed package.

    Raises
    ------
    InputError
        When it is not installed or brings something else; from ``compute`` when it raises or returns no number.
    """
    if name in STATISTICS:
        return STATISTICS[name]
    plugin = plugins.find("metric", name)
    function = plugin.load()
    with plugin.blamed():
        higher = getattr(function, "higher_is_better", None)
    if not callable(function) or isinstance(function, type):
        raise plugin.error(f"is {_kind(function)} instead of a function of two arrays")
    if not isinstance(higher, bool | np.bool_):
        raise plugin.error("has no attribute higher_is_better, which is True or False")
    return Statistic(partial(_foreign, plugin, function), bool(higher))


def _foreign(plugin: plugins.Plugin, function: Callable[..., Any], predicted: Values, truth: Values) -> float:
    with plugin.blamed(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of undefined numbers, such as a correlation with a constant
        value = function(predicted.copy(), truth.copy())
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
    raise plugin.error(f"returns {_kind(value)} instead of a number")


def _kind(found: object) -> str:
    shape = getattr(found, "shape", None)
    return f"{'a class' if isinstance(found, type) else type(found).__name__}{f' of shape {shape}' if shape else ''}"


def brought(names: Iterable[str]) -> dict[str, str]:
    """The statistics of these metrics that plug-ins brought, and the distribution of each, as ``name==version``."""
    found = (parsed(name).statistic for name in names)
    return {each: plugins.find("metric", each).distribution for each in found if plugins.is_plugin(each)}


def higher_is_better(name: str) -> bool:
    """The direction of a metric such as `ta.system.srcc`, of any target; a mean's is that of scores."""
    found = parsed(name).statistic
    return found == MEAN or statistic(found).higher_is_better


def title(name: str) -> str:
    """How a metric is shown: `ta.system.srcc` as "TA S-SRCC", `ta.within_system.srcc` as "TA within-system SRCC"."""
    target, level, found = parsed(name)
    shown = target.upper() if target in TARGETS else target
    if found == MEAN:
        return f"{shown} mean"
    prefix = {"utterance": "U-", "system": "S-", WITHIN: "within-system "}[level]
    return f"{shown} {prefix}{found if plugins.is_plugin(found) else found.upper()}"


def evaluate(
    predicted: Float64[np.ndarray, "clips targets"],
    truth: Float64[np.ndarray, "clips targets"],
    systems: Sequence[str],
    system_truth: Mapping[str, tuple[float, ...]] | None = None,
    targets: Sequence[str] = TARGETS,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """The metrics of these `names`; by default `metrics_of` each target, for (OMQ, TA) `METRICS` and `EXTRA`.

    Columns are the targets. `system_truth` is the csv convention's table. Systems are compared by name, so the order of
    the clips is free. `truth` must be finite, and `system_truth` must hold every system.
    """
    assert predicted.shape == truth.shape == (len(systems), len(targets)), (predicted.shape, truth.shape, len(systems))
    assert len(systems), "no clips to evaluate"
    assert np.isfinite(truth).all(), "every evaluated clip has labels"
    if names is None:
        names = METRICS + EXTRA if tuple(targets) == TARGETS else [name for of in targets for name in metrics_of(of)]
    groups, member = np.unique(np.asarray(systems, dtype=str), return_inverse=True)
    values: dict[str, float] = {}
    for column, target in enumerate(targets):
        x, y = predicted[:, column].astype(np.float64), truth[:, column].astype(np.float64)
        if not np.isfinite(x).all():
            continue
        by_system = group_means(y, member)
        if system_truth is not None:
            by_system = np.array([system_truth[str(name)][column] for name in groups], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # of predictions near the largest float
            sides = {"utterance": (x, y), "system": (group_means(x, member), by_system)}
            for name, (of, level, found) in zip(names, map(parsed, names), strict=True):
                if of == target and level == WITHIN:
                    values[name] = within_group_srcc(x, y, member)
                elif of == target:
                    values[name] = statistic(found).compute(*sides[level])
    return {name: value if math.isfinite(value := values.get(name, math.nan)) else math.nan for name in names}


def group_means(values: Values, member: Int64[np.ndarray, " points"]) -> Float64[np.ndarray, " groups"]:
    """The mean of each group, numbered from 0; equal means tie exactly (see the module's conventions)."""
    origin = values[0]  # constant values must have constant means
    sums = np.bincount(member, weights=values - origin)
    return origin + np.round(sums / np.bincount(member), _MEAN_DECIMALS)


def ranks(values: Values) -> Values:
    """Ranks from 1, ties share the average of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def within_group_srcc(predicted: Values, truth: Values, member: Int64[np.ndarray, " points"]) -> float:
    """The mean SRCC inside groups, weighted by their points (see the module's conventions)."""
    counts = np.bincount(member)
    x, y = (_centred_ranks_within(side, member, counts) for side in (predicted, truth))
    squares = np.bincount(member, weights=x * x) * np.bincount(member, weights=y * y)
    defined = (squares > 0) & (counts >= _MIN_WITHIN)
    if not defined.any():
        return math.nan
    inside = np.bincount(member, weights=x * y)[defined] / np.sqrt(squares[defined])
    return float(np.average(inside, weights=counts[defined]))


def _centred_ranks_within(
    values: Values, member: Int64[np.ndarray, " points"], counts: Int64[np.ndarray, " groups"]
) -> Values:
    """Average ranks among the points of the same group, minus their mean there."""
    order = np.lexsort((values, member))
    new = np.ones(len(values), dtype=bool)
    groups, ordered = member[order], values[order]
    new[1:] = (groups[1:] != groups[:-1]) | (ordered[1:] != ordered[:-1])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(values)))
    rank = np.empty(len(values))
    rank[order] = np.repeat(starts + (lengths + 1) / 2, lengths)  # counted over all groups, which are contiguous
    first = np.cumsum(counts) - counts
    return rank - (first + (counts + 1) / 2)[member]


def _ties(values: Int64[np.ndarray, " points"]) -> int:
    """The number of pairs with equal values."""
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _rank_correlation(x: Values, y: Values) -> float:
    # Centred ranks are multiples of 1/4: their products and sums are exact, so the same ranking gives exactly 1.
    middle = (len(x) + 1) / 2
    x, y = x - middle, y - middle
    squares = float(x @ x) * float(y @ y)
    return float(x @ y) / math.sqrt(squares) if squares else math.nan


def _is_constant(values: Values) -> bool:
    same: Bool[np.ndarray, " points"] = values == values[0]
    return bool(same.all())


def _direction(values: Values) -> Values:
    """Centred and of length 1; scaled first, so that huge and tiny values neither overflow nor vanish."""
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    centred /= np.abs(centred).max()
    return centred / np.sqrt(centred @ centred)
