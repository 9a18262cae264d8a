"""An audit in words: counts and numbers, no judgement of those who printed them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from study.audit.attainability import described, fits, true_ties
from study.audit.cells import AuditedCell, Fitting
from study.audit.table import rank_statistic, statistic_of, title_of
from study.audit.variance import Gain, LabelVariance

if TYPE_CHECKING:
    from study.audit.check import Audit

_SHOWN = {"rounded": "attainable", "truncated": "attainable only when cut"}
_CORRELATIONS = [("system", statistic) for statistic in ("lcc", "srcc", "ktau")]
_VACUOUS = 0.95  # of random digits pass
_MAX_DIGITS = 12  # float64 tells no more


def audit_text(found: "Audit") -> str:
    """All of it, section by section."""
    sections = (
        (found.title,),
        (*_runs(found.cells), *_counts(found.cells)),
        _impossible(found.cells),
        _truncated(found.cells),
        _fitting(found.fitting),
        _variances(found.variances),
        _gains(found.gains),
        _intervals(found.cells),
        _out_of_range(found.cells),
        _not_audited(found),
    )
    return "\n\n".join(text for lines in sections if (text := "\n".join(lines)))


def _runs(cells: Sequence[AuditedCell]) -> Iterator[str]:
    """What is known of the runs behind the numbers."""
    known = {cell.runs for cell in cells}
    if known == {None}:
        yield "How many runs are behind a number is not said (--runs k, or a column 'runs'): each is judged as one run."
        return
    means = f"Numbers are means of {' or '.join(map(str, sorted(runs for runs in known if runs)))} run(s)"
    unsaid = "where the table says so; where it does not (--runs k, or a column 'runs'), each is judged as one run"
    yield f"{means} {unsaid}." if None in known else f"{means}."


def _counts(cells: Sequence[AuditedCell]) -> Iterator[str]:
    """Which rank correlations can occur, and what it is worth that they do: how many random digits would pass."""
    ranked = [(cell, cell.chance) for cell in cells if cell.chance is not None]
    if not ranked:
        return
    systems = " or ".join(map(str, sorted({cell.systems or 0 for cell, _ in ranked})))
    verdicts = Counter(_SHOWN.get(cell.verdict, cell.verdict) for cell, _ in ranked).most_common()
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts)
    yield f"{len(ranked)} rank correlations over {systems} systems: {counted}."
    chances = {
        (statistic_of(cell.metric)[1].upper(), _digits(cell), cell.systems, cell.runs or 1): chance
        for cell, chance in ranked
    }
    yield f"Of random digits {sum(chance for _, chance in ranked):.1f} would be attainable, for each kind of cell:"
    for (name, digits, num_systems, runs), chance in sorted(chances.items()):
        what = f"{name} of {digits} digits, {num_systems} systems" + (f", mean of {runs} runs" if runs > 1 else "")
        vacuous = ": a pass says nothing" if chance > _VACUOUS else ""
        yield f"  {what:<48} {100 * chance:6.2f} %{vacuous}"


def _impossible(cells: Sequence[AuditedCell]) -> Iterator[str]:
    if impossible := [cell for cell in cells if cell.verdict.startswith("not attainable")]:
        yield "Not attainable: no two rankings of so many systems, without ties, give the printed digits,"
        yield "rounded or cut. Beside each cell: the nearest values that can occur, and what else would give it."
        yield from (f"  {_described(cell)}; {cell.reason}" for cell in impossible)
    for target in dict.fromkeys(cell.metric.split(".")[0] for cell in impossible):
        yield from _shared_ties(target, [cell for cell in cells if cell.metric.split(".")[0] == target])


def _shared_ties(target: str, cells: Sequence[AuditedCell]) -> Iterator[str]:
    """Ties of the true ranking, which all rows share, with which more cells of a target could occur."""
    ranked = [
        (statistic, cell.printed, cell.systems, cell.runs or 1)
        for cell in cells
        if cell.chance is not None and cell.systems and (statistic := rank_statistic(cell.metric))
    ]
    fitting = {
        groups: [fits(statistic, printed, systems, groups, runs) for statistic, printed, systems, runs in ranked].count(
            True
        )
        for groups in true_ties(min(systems for _, _, systems, _ in ranked))
    }
    groups, most = max(fitting.items(), key=lambda each: each[1])
    if most > fitting[()]:
        yield (
            f"With {described(((), groups))} in the true ranking, which all rows share, {most} of {len(ranked)} "
            f"{target.upper()} cells could occur, without ties {fitting[()]}."
        )


def _truncated(cells: Sequence[AuditedCell]) -> Iterator[str]:
    if truncated := [cell for cell in cells if cell.verdict == "truncated"]:
        yield "Attainable only with the last digit cut, not rounded:"
        yield from (f"  {_described(cell)}" for cell in truncated)


def _described(cell: AuditedCell) -> str:
    digits = min(_MAX_DIGITS, _digits(cell) + 2)
    nearest = f"{cell.nearest_below:.{digits}f} | {cell.nearest_above:.{digits}f}"
    return f"{cell.label:<28} {title_of(cell.metric):<10} {cell.printed:>7}   nearest {nearest}"


def _digits(cell: AuditedCell) -> int:
    return min(_MAX_DIGITS, len(cell.printed.partition(".")[2]))


def _fitting(found: Sequence[Fitting]) -> Iterator[str]:
    """The scan over numbers of systems."""
    if not found:
        return
    yield "Numbers of systems that fit all rank correlations of a row, as far as random digits would not fit as well:"
    for each in found:
        shown = ", ".join(map(str, each.numbers)) or "none"
        text = f"{shown} (of 4 to {each.up_to})" if each.up_to else "cannot be told from so few digits"
        yield f"  {each.row:<42} {text}"


def _variances(found: Sequence[LabelVariance]) -> Iterator[str]:
    """Bounds of the labels' variance, and the rows beyond them."""
    if not found:
        return
    yield "If all rows are scored on the same clips, MSE / (1 - LCC^2) of each bounds the variance of the labels, which"
    yield "is the MSE of a constant, their mean:"
    for each in found:
        worse = f"; worse than that constant: {', '.join(each.worse)}" if each.worse else ""
        yield f"  {_column(each.column):<7} at most {each.bound:.4g} ({each.row}){worse}"


def _gains(found: Sequence[Gain]) -> Iterator[str]:
    """Where the first row's smaller errors come from."""
    if not found:
        return
    yield f"Smaller MSE of {found[0].of}: the gain, and its share of bias and scale at least, the rest correlation:"
    for each in found:
        least = f"{math.floor(100 * (1 - each.correlation))} %"
        yield f"  {each.row:<42} {_column(each.column):<7} {each.gain:.4g}, at least {least}"


def _column(column: str) -> str:
    return title_of(f"{column}.mse").removesuffix("-MSE")


def _intervals(cells: Iterable[AuditedCell]) -> Iterator[str]:
    """The 95 % interval of every correlation over systems."""
    shown = [cell for cell in cells if cell.systems and statistic_of(cell.metric) in _CORRELATIONS]
    if shown:
        yield "What so few systems leave open: 95 % intervals of the printed correlations (Bonett and Wright 2000)"
    for cell in shown:
        interval = "undefined" if cell.low is None else f"[{cell.low:.3f}, {cell.high:.3f}]"
        verdict = _SHOWN.get(cell.verdict, "" if cell.verdict == "not audited" else cell.verdict)
        yield f"  {cell.label:<42} {title_of(cell.metric):<10} {cell.printed:>9}  {interval:<17} {verdict}".rstrip()


def _out_of_range(cells: Sequence[AuditedCell]) -> Iterator[str]:
    for cell in cells:
        if cell.verdict == "out of range":
            yield f"Out of range: {cell.label}, {title_of(cell.metric)} {cell.printed}; {cell.reason}."


def _not_audited(found: "Audit") -> Iterator[str]:
    """What was not looked at, and why; how columns were read."""
    kinds: dict[str, dict[str, None]] = {}
    for cell in found.cells:
        if cell.verdict == "not audited":
            kinds.setdefault(cell.reason, {})[title_of(cell.metric)] = None
    if kinds:
        yield "Not audited by themselves:"
    yield from (f"  {', '.join(names)}: {reason}." for reason, names in kinds.items())
    if found.table.without_runs:
        yield f"Left out, since no run is behind it: {', '.join(found.table.without_runs)}."
    if found.table.percent:
        yield f"Read as percent: {', '.join(found.table.percent)}."
    if found.table.other_columns:
        yield f"Columns that are no metrics were not looked at: {', '.join(found.table.other_columns)}."
