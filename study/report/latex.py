"""The table as LaTeX: booktabs, siunitx columns, bold only where a verdict supports it, protocol as notes."""

import math
from collections.abc import Callable, Iterable, Sequence

from study.report.frame import TARGETS, TableFrame, TableRow, arrow, short_title
from study.report.numbers import UNDEFINED, amount, interval, number, p_value, signed
from whisq_core.metrics import EXTRA, METRICS, title

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "±": r"$\pm$",
        "≤": r"$\le$",
        "×": r"$\times$",
        "λ": r"$\lambda$",
        "→": r"$\to$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "†": r"$\dagger$",
        "‡": r"$\ddagger$",
        "–": "--",
        "—": "---",
    }
)
_PREAMBLE = r"""% Needs \usepackage{booktabs,siunitx}; then \input this file.
% Bold is only what a verdict supports: a declared row that is better, or the reference where all of them are worse."""
_COMPACT = r"\sisetup{detect-weight = true}"
_SEPARATE = r"\sisetup{detect-weight = true, separate-uncertainty = true}"

Lines = list[Sequence[str]]


def latex(frame: TableFrame) -> str:
    """Two floats: the verdicts, and the 16 numbers with the quoted ones beneath; notes carry warnings and protocol."""
    return "\n".join([_PREAMBLE, _verdicts(frame), "", _numbers(frame)]) + "\n"


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return text.translate(_ESCAPES)


def bold_rows(frame: TableFrame) -> frozenset[str]:
    """Rows whose primary number may be bold: better than the reference, or the reference when all are worse."""
    words = {row.id: row.verdict.word for row in frame.rows if row.verdict and row.verdict.decision}
    better = {row for row, word in words.items() if word == "better"}
    if words and frame.reference and all(word == "worse" for word in words.values()):
        better.add(frame.reference)
    return frozenset(better)


def _verdicts(frame: TableFrame) -> str:
    bold = bold_rows(frame)

    def lines(row: TableRow) -> Lines:
        quoted = row.quoted(frame.metric)
        return [[_label(row), _seeds(row), _mean(row, frame.metric, row.id in bold), quoted, *_difference(row)]]

    reference = next((row.label for row in frame.rows if row.is_reference), None)
    difference = "{difference}" if reference is None else r"{difference\textsuperscript{a}}"
    header = ["Configuration", "seeds", f"{{{title(frame.metric)}}}", "{quoted}", difference]
    header += [r"95\,\% (seeds)", r"95\,\% (systems)", "{$p$ (Holm)}", "verdict"]
    against = [rf"\textsuperscript{{a}} From {escape(reference)}, with 95\,\% intervals."] if reference else []
    decided = [(row.label, row.verdict) for row in frame.rows if row.verdict and row.verdict.decision]
    reasons = [escape(" ".join(f"{label}: {verdict.text}." for label, verdict in decided))]
    tabular = _tabular("llS[table-format=-1.3(3)]S[table-format=-1.4]S[table-format=+1.3]ccll", header, frame, lines)
    caption = f"{frame.heading}: verdicts on {title(frame.metric)}."
    return _float(
        "verdicts",
        frame,
        caption,
        [_SEPARATE, r"\setlength{\tabcolsep}{3pt}", tabular],
        [*against, *reasons, escape(" ".join(frame.protocol))],
    )


def _difference(row: TableRow) -> Sequence[str]:
    if row.is_reference:
        return ["", "", "", "", "reference"]
    if row.verdict is None:
        return []
    comparison, decision = row.verdict.comparison, row.verdict.decision
    mean = "{--}" if math.isnan(comparison.mean) else signed(comparison.mean)
    p = escape(p_value(decision.p_holm)) if decision else ""
    return [mean, _math(interval(comparison.seeds)), _math(interval(comparison.systems)), p, row.verdict.word]


def _math(text: str) -> str:
    return "--" if text == UNDEFINED else f"${text}$"


def _numbers(frame: TableFrame) -> str:
    parts = [_COMPACT]
    for target, name in TARGETS.items():
        names = [metric for metric in METRICS + EXTRA if metric.startswith(f"{target}.")]

        def lines(row: TableRow, names: list[str] = names) -> Lines:
            own = [_label(row), *(_mean(row, metric, False) for metric in names)]
            if row.published is None:
                return [own]
            return [own, [_quoted(row), *(row.quoted(metric) for metric in names)]]

        header = [escape(name), *(f"{{{_heading(metric)}}}" for metric in names)]
        columns = "l" + "S[table-format=-1.3(2)]" * len(names)
        parts += [_tabular(columns, header, frame, lines), r"\par\medskip"]
    groups = [
        ["In parentheses: standard deviation over seeds, in units of the last digit. W-SRCC: SRCC within a system."],
        [f"{row.label}: {row.note}" for row in frame.rows if row.note],
        _sizes(frame),
        frame.findings,
        frame.incomplete,
    ]
    notes = [escape(" ".join(texts)) for texts in groups if texts]
    return _float("numbers", frame, f"{frame.heading}.", parts, notes)


def _heading(metric: str) -> str:
    return short_title(metric).replace("within-system ", "W-") + escape(arrow(metric))


def _sizes(frame: TableFrame) -> list[str]:
    """One sentence for all rows of one size."""
    rows_of: dict[str, list[str]] = {}
    for row in frame.rows:
        if row.num_trainable is not None:
            total = f" of {amount(row.num_total)}" if row.num_total is not None else ""
            macs = f", {amount(row.macs)} MACs per clip" if row.macs is not None else ""
            rows_of.setdefault(f"{amount(row.num_trainable)} trainable{total} parameters{macs}", []).append(row.label)
    return [f"{', '.join(labels)}: {size}." for size, labels in rows_of.items()]


def _seeds(row: TableRow) -> str:
    return str(row.num_seeds) if row.num_done == row.num_seeds else f"{row.num_done}/{row.num_seeds}"


def _label(row: TableRow) -> str:
    marks = rf"\textsuperscript{{{escape(row.marks)}}}" if row.marks else ""
    return escape(row.label) + marks


def _quoted(row: TableRow) -> str:
    assert row.published is not None
    return rf"\quad\textit{{{escape(row.published.source)}}}"


def _mean(row: TableRow, metric: str, bold: bool) -> str:
    """A siunitx number with its deviation in units of the last digit: `0.611(12)`."""
    value = row.defined(metric)
    if value is None:
        return f"{{{escape(row.placeholder)}}}"
    deviation = "" if math.isnan(value.sd) else f"({round(1000 * value.sd)})"
    return (r"\bfseries " if bold else "") + number(value.mean) + deviation


def _tabular(columns: str, header: Sequence[str], frame: TableFrame, lines: Callable[[TableRow], Lines]) -> str:
    count = len(header)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _line(header), r"\midrule"]
    for index, section in enumerate(frame.sections):
        note = f" ({escape(section.note)})" if section.note else ""
        body += [r"\addlinespace"] if index else []
        body.append(rf"\multicolumn{{{count}}}{{l}}{{\textit{{{escape(section.title)}}}{note}}} \\")
        body += [_line([*cells, *[""] * (count - len(cells))]) for row in section.rows for cells in lines(row)]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _float(kind: str, frame: TableFrame, caption: str, parts: Sequence[str], notes: Sequence[str]) -> str:
    warnings = [escape(f"{mark.symbol} {mark.text}") for mark in frame.marks]
    text = "\n".join(rf"{note}\par" for note in [*warnings, *notes])
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{1.5pt}",
            rf"\caption{{{escape(caption)}}}\label{{tab:{frame.name}-{kind}}}",
            *parts,
            r"\par\smallskip\begin{minipage}{\linewidth}\raggedright",
            text,
            r"\end{minipage}",
            r"\end{table*}",
        ]
    )
