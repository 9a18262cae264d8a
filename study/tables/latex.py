"""The table as LaTeX: booktabs, siunitx columns, bold only where a verdict supports it, protocol as notes."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from study.stats import Interval
from study.tables.frame import TableFrame, TableRow
from study.tables.numbers import UNDEFINED, amount, interval, number
from study.tables.views import Column, Kind, View, views

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "≤": r"$\le$", "×": r"$\times$", "λ": r"$\lambda$",
        "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}",
        "–": "--", "—": "---", "−": "$-$", "≥": r"$\ge$", "≈": r"$\approx$", "∞": r"$\infty$", "′": "$'$",
        "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\epsilon$", "μ": r"$\mu$",
        "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "Δ": r"$\Delta$",
    }
)  # fmt: skip
_PREAMBLE = r"""% Needs \usepackage{booktabs,siunitx}; then \input this file.
% Bold is only what a verdict supports: a declared row that is better, or the reference where all of them are worse."""
# siunitx columns; the deviation in parentheses takes three digits where it is set as ± beside its number.
_COMPACT, _SEPARATE = (
    r"\sisetup{detect-weight = true}",
    (r"\sisetup{detect-weight = true, separate-uncertainty = true, retain-explicit-plus = true}"),
)
_NUMBERS: dict[Kind, str] = {
    "estimate": "S[table-format=-1.3(2)]",
    "published": "S[table-format=-1.4]",
    "difference": "S[table-format=+1.3]",
}
_DISTRIBUTION = re.compile(r"(?<=[US]-)[a-z0-9-]+\.")  # of a plug-in's metric: the protocol names it
_HEADINGS = {
    "label": "Configuration",
    "interval": "Interval of both errors",
    "p_holm": "{$p$ (Holm)}",
}


def latex(frame: TableFrame) -> str:
    """Two floats: the verdicts, and our numbers with the published ones beneath; notes carry warnings and protocol."""
    verdicts, *targets = (view for view in views(frame) if view.name != "sizes")
    floats = [_verdicts(frame, verdicts), *([_numbers(frame, targets)] if targets else [])]
    return "\n".join([_PREAMBLE, "\n\n".join(floats)]) + "\n"


def escape(text: str) -> str:
    """Plain text as LaTeX text."""
    return text.translate(_ESCAPES)


def bold_rows(frame: TableFrame) -> frozenset[str]:
    """Rows whose primary number may be bold: better than the reference, or the reference when all are worse."""
    words = {row.declared.id: row.verdict[0] for row in frame.rows if row.decision and row.verdict}
    better = {row for row, word in words.items() if word == "better"}
    if words and frame.reference and all(word == "worse" for word in words.values()):
        better.add(frame.reference.id)
    return frozenset(better)


def _verdicts(frame: TableFrame, view: View) -> str:
    """The verdicts without the relative difference, for which a page has no room; the notes tell their reasons."""
    columns = {key: column for key, column in view.columns.items() if key != "relative"}
    headings, notes = dict(_HEADINGS), list[str]()
    if frame.reference:
        headings["difference"] = r"{difference\textsuperscript{a}}"
        notes.append(
            rf"\textsuperscript{{a}} From {escape(frame.reference.label)}; with each interval its level in percent, "
            "that of the verdict where there is one."
        )
    decided = [(row.declared.label, row.verdict) for row in frame.rows if row.decision and row.verdict]
    reasons = [f"{label}: {word}: {reason}." for label, (word, reason) in decided]
    notes += [escape(" ".join(texts)) for texts in (reasons, frame.notes.get("Design", ()), frame.notes["Protocol"])]
    tabular = _tabular(frame, columns, headings).replace(_NUMBERS["estimate"], "S[table-format=-1.3(3)]")
    caption = f"{frame.heading}: verdicts on {view.columns[frame.metric].heading}."
    return _float("verdicts", frame, caption, [_SEPARATE, r"\setlength{\tabcolsep}{2.7pt}", tabular], notes)


def _numbers(frame: TableFrame, targets: Sequence[View]) -> str:
    parts = [_COMPACT]
    for view in targets:
        columns = {key: column for key, column in view.columns.items() if key != "seeds"}
        parts += [_tabular(frame, columns, {"label": escape(view.title)}), r"\par\medskip"]
    groups = [
        ["In parentheses: standard deviation over seeds, in units of the last digit. W-SRCC: SRCC within a system."],
        frame.notes.get("Notes on rows", ()),
        _sizes(frame),
        frame.notes.get("Checks", ()),
        frame.notes.get("Contrasts", ()),
        frame.notes.get("Cells without a result", ()),
    ]
    notes = [escape(" ".join(texts)) for texts in groups if texts]
    return _float("numbers", frame, f"{frame.heading}.", parts, notes)


def _sizes(frame: TableFrame) -> list[str]:
    """One sentence for all rows of one size."""
    rows_of: dict[str, list[str]] = {}
    for row in frame.rows if frame.trained_here else ():
        trainable, total, macs = (row.sizes[name] for name in ("num_trainable", "num_total", "macs"))
        if trainable is not None:
            of_all = f" of {amount(total)}" if total is not None else ""
            cost = f", {amount(macs)} MACs per clip" if macs is not None else ""
            rows_of.setdefault(f"{amount(trainable)} trainable{of_all} parameters{cost}", []).append(row.declared.label)
    return [f"{', '.join(labels)}: {size}." for size, labels in rows_of.items()]


def _tabular(frame: TableFrame, columns: Mapping[str, Column], headings: Mapping[str, str]) -> str:
    bold = bold_rows(frame) if "verdict" in columns else frozenset()
    shown = list(columns.values())
    header = [headings.get(key) or _heading(column) for key, column in columns.items()]
    kinds = "".join("c" if column.kind == "at_level" else _NUMBERS.get(column.kind, "l") for column in shown)
    body = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _line(header), r"\midrule"]
    for index, section in enumerate(frame.sections):
        note = f" ({escape(section.note)})" if section.note else ""
        body += [r"\addlinespace"] if index else []
        body.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{\textit{{{escape(section.title)}}}{note}}} \\")
        for row in section.rows:
            body.append(_line(_cell(column, row, row.declared.id in bold) for column in shown))
            if row.published and any(column.below for column in shown):
                source = rf"\quad\textit{{{escape(row.published.source)}}}"
                body.append(_line([source, *(column.below.text(row) if column.below else "" for column in shown[1:])]))
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"])


def _heading(column: Column) -> str:
    short = _DISTRIBUTION.sub("", column.heading).replace("within-system ", "W-")
    heading = escape(short.replace(" ↑", "↑").replace(" ↓", "↓"))
    return f"{{{heading}}}" if column.kind in _NUMBERS else heading


def _cell(column: Column, row: TableRow, bold: bool) -> str:
    value, text = column.value(row), column.text(row)
    if value is None:
        return ""
    match column.kind:
        case "label":
            label, marks = value
            return escape(label) + (rf"\textsuperscript{{{escape(marks)}}}" if marks else "")
        case "seeds":
            return text.partition(",")[0]
        case "estimate":
            return _estimate(value, bold)
        case "difference":
            return "{--}" if math.isnan(value) else text
        case "at_level":
            return "--" if text == UNDEFINED else rf"${interval(value[0])}_{{{100 * value[1]:.3g}}}$"
        case "verdict":
            return escape(value[0])
    return text if column.kind == "published" else escape(text)


def _estimate(value: Interval | str, bold: bool) -> str:
    """A siunitx number with its deviation in units of the last digit: `0.611(12)`."""
    if isinstance(value, str):
        return f"{{{escape(value)}}}"
    deviation = "" if math.isnan(value.sd) else f"({round(1000 * value.sd)})"
    return (r"\bfseries " if bold else "") + number(value.mean) + deviation


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
