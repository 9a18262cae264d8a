"""The table as HTML: a page of its own, and the same tables as parts of the report."""

from collections.abc import Callable, Sequence
from html import escape

from study.report.frame import TARGETS, TableFrame, TableRow, arrow, short_title
from study.report.numbers import amount, deviation, interval, number, p_value, percent, signed
from whisq_core.metrics import EXTRA, METRICS, title

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; color: #222;
  background: #fff; max-width: 1280px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; font-weight: 600; line-height: 1.25; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 2.4rem 0 .6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; min-width: 100%;
  margin-bottom: 1.8rem; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .25rem .42rem; text-align: right; white-space: nowrap; }
th { white-space: normal; font-weight: 600; border-bottom: 1px solid #222; vertical-align: bottom; }
thead tr:first-child th { border-top: 2px solid #222; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; min-width: 13rem; }
td i { color: #6b6b6b; } td small { color: #6b6b6b; font-size: 11px; }
tbody.section tr:first-child td { padding-top: .9rem; font-style: italic; color: #444; white-space: normal; }
tbody tr.quoted td { color: #6b6b6b; font-style: italic; padding-top: 0; }
tbody tr.reference td { background: #f4f6f8; }
tbody.section:last-of-type tr:last-child td { border-bottom: 2px solid #222; }
.note { color: #555; font-size: 12.5px; }
.warning { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .5rem .9rem; margin: .6rem 0; }
.word { font-weight: 600; border-radius: 3px; padding: 0 .35em; background: #eee; color: #333; }
.word.better { background: #d9ece6; color: #00503a; } .word.worse { background: #fbe3d3; color: #8a3c00; }
.word.equivalent { background: #dcebf6; color: #00446f; } .word.clips { background: #fbf3c8; color: #5e5200; }
"""
_CLASSES = {"better": "better", "worse": "worse", "equivalent": "equivalent", "on these clips only": "clips"}

Cells = Sequence[str]


def html(frame: TableFrame) -> str:
    """A self-contained page: warnings, verdicts, both targets, sizes, checks, protocol."""
    heading = escape(frame.heading)
    body = "\n".join(
        [f"<h1>{heading}</h1>", warnings(frame), verdict_table(frame), *metric_tables(frame), notes(frame)]
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{heading}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def warnings(frame: TableFrame) -> str:
    """What must be read before any number: simulated data, untrained encoders."""
    return "\n".join(f'<p class="warning">{mark.symbol} {escape(mark.text)}</p>' for mark in frame.marks)


def verdict_table(frame: TableFrame) -> str:
    """Each row against the reference on the primary metric, both intervals, and the verdict in words."""
    reference = next((row.label for row in frame.rows if row.is_reference), None)
    columns = ("quoted", "difference", "relative", "95 % seeds", "95 % systems", "p (Holm)", "verdict")
    header = ("configuration", "seeds", title(frame.metric), *columns)

    def line(row: TableRow) -> Cells:
        quoted = f"<i>{_minus(row.quoted(frame.metric))}</i>"
        first = (_label(row), escape(row.seeds), _mean(row, frame.metric), quoted)
        if row.is_reference:
            return (*first, "", "", "", "", "", '<span class="word">reference</span>')
        if row.verdict is None:
            return first
        comparison, decision = row.verdict.comparison, row.verdict.decision
        return (
            *first,
            _minus(signed(comparison.mean)),
            _minus(percent(comparison.relative)),
            _minus(interval(comparison.seeds)),
            _minus(interval(comparison.systems)),
            escape(p_value(decision.p_holm)) if decision else "",
            _word(row),
        )

    caption = f"Verdicts on {title(frame.metric)}" + (f", differences from {reference}" if reference else "")
    return _table("verdicts", caption, header, frame, line, lambda row: ())


def metric_tables(frame: TableFrame) -> list[str]:
    """Mean and standard deviation over seeds: one table per target, then one of sizes."""
    tables = []
    for target, name in TARGETS.items():
        names = [metric for metric in METRICS + EXTRA if metric.startswith(f"{target}.")]
        header = ["configuration", "seeds"]
        header += [f"{short_title(metric)} {arrow(metric)}" for metric in names]

        def line(row: TableRow, names: list[str] = names) -> Cells:
            return (_label(row), escape(row.seeds), *(_mean(row, metric) for metric in names))

        def quoted(row: TableRow, names: list[str] = names) -> Cells:
            return ("", *(_minus(row.quoted(metric)) for metric in names)) if row.published else ()

        tables.append(_table(target, name, header, frame, line, quoted))
    return [*tables, _sizes(frame)]


def notes(frame: TableFrame) -> str:
    """Notes on rows, checks, cells without a result, and the protocol."""
    parts = {
        "Notes on rows": [f"{row.label}: {row.note}" for row in frame.rows if row.note],
        "Checks": frame.findings,
        "Cells without a result": frame.incomplete,
        "Protocol": frame.protocol,
    }
    return "\n".join(f"<h2>{name}</h2>\n{_list(texts)}" for name, texts in parts.items() if texts)


def _sizes(frame: TableFrame) -> str:
    header = ("configuration", "trainable parameters", "total parameters", "MACs per clip")

    def line(row: TableRow) -> Cells:
        return (_label(row), amount(row.num_trainable), amount(row.num_total), amount(row.macs))

    return _table("sizes", "Size and cost of a row", header, frame, line, lambda row: ())


def _table(
    name: str,
    caption: str,
    header: Cells,
    frame: TableFrame,
    line: Callable[[TableRow], Cells],
    quoted: Callable[[TableRow], Cells],
) -> str:
    count = len(header)
    last = ' class="text"' if header[-1] == "verdict" else ""
    heads = "".join(f"<th{last if index == count - 1 else ''}>{escape(text)}</th>" for index, text in enumerate(header))
    warning = "".join(f" — {mark.short} {mark.symbol}" for mark in frame.marks)
    parts = [f'<div class="scroll"><table id="table-{name}"><caption>{escape(caption + warning)}</caption>']
    parts.append(f"<thead><tr>{heads}</tr></thead>")
    for section in frame.sections:
        note = f": {section.note}" if section.note else ""
        parts.append(f'<tbody class="section"><tr><td colspan="{count}">{escape(section.title + note)}</td></tr>')
        for row in section.rows:
            kind = ' class="reference"' if row.is_reference else ""
            parts.append(f'<tr{kind} data-row="{escape(row.id)}">{_cells(line(row), count, last)}</tr>')
            numbers = quoted(row)
            if row.published and numbers:
                label = escape(f"quoted: {row.published.source}")
                parts.append(f'<tr class="quoted">{_cells((label, *numbers), count, last)}</tr>')
        parts.append("</tbody>")
    return "\n".join([*parts, "</table></div>"])


def _cells(cells: Cells, count: int, last: str) -> str:
    padded = [*cells, *[""] * (count - len(cells))]
    return "".join(f"<td{last if index == count - 1 else ''}>{text}</td>" for index, text in enumerate(padded))


def _label(row: TableRow) -> str:
    marks = f" <sup>{escape(row.marks)}</sup>" if row.marks else ""
    return escape(row.label) + marks


def _mean(row: TableRow, metric: str) -> str:
    value = row.defined(metric)
    if value is None:
        return escape(row.placeholder)
    mean = f'<span title="{value.mean!r}">{_minus(number(value.mean))}</span>'
    return f"{mean} <small>{deviation(value)}</small>"


def _word(row: TableRow) -> str:
    assert row.verdict is not None
    decision = row.verdict.decision
    if decision is None:
        return '<span class="note">exploratory</span>'
    kind = _CLASSES.get(decision.verdict, "")
    word = f'<span class="word {kind}">{escape(decision.verdict)}</span>'
    return f'{word} <span class="note">{escape(decision.reason)}</span>'


def _minus(text: str) -> str:
    """Typographic minus signs."""
    return escape(text.replace("-", "−"))


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"
