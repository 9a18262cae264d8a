"""The table as HTML: a page of its own, and the same tables as parts of the report."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from study.tables.frame import TableFrame, TableRow
from study.tables.numbers import deviation, number
from study.tables.views import Column, View, views

STYLE = """
:root { color-scheme: light; --paper: #fff; --ink: #222; --faint: #555; --line: #222; --soft: #f4f6f8; --link: #0072b2;
  --good: #d9ece6; --good-ink: #00503a; --bad: #fbe3d3; --bad-ink: #8a3c00; --same: #dcebf6; --same-ink: #00446f;
  --part: #fbf3c8; --part-ink: #5e5200; --plain: #eee; --plain-ink: #333; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --paper: #191919; --ink: #ddd;
  --faint: #aaa; --line: #999; --soft: #242a30; --link: #6cb8ea;
  --good: #12392d; --good-ink: #8fdcc1; --bad: #47240f; --bad-ink: #f6b78f;
  --same: #12344b; --same-ink: #9bd0f5; --part: #3d3710; --part-ink: #e8dc8a; --plain: #333; --plain-ink: #ccc; } }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1280px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; font-weight: 600; line-height: 1.25; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 2.4rem 0 .6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; min-width: 100%;
  margin-bottom: 1.8rem; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .25rem .42rem; text-align: right; white-space: nowrap; }
th { white-space: normal; font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom; }
thead tr:first-child th { border-top: 2px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; min-width: 13rem; }
td i, td small, tbody tr.published td { color: var(--faint); } td small { font-size: 11px; }
tbody.section tr:first-child td { padding-top: .9rem; font-style: italic; color: var(--faint); white-space: normal; }
tbody tr.published td { font-style: italic; padding-top: 0; }
tbody tr.reference td { background: var(--soft); }
tbody.section:last-of-type tr:last-child td { border-bottom: 2px solid var(--line); }
.note { color: var(--faint); font-size: 12.5px; }
.warning { border-left: 4px solid #d55e00; background: var(--bad); padding: .5rem .9rem; margin: .6rem 0; }
.word { font-weight: 600; border-radius: 3px; padding: 0 .35em; background: var(--plain); color: var(--plain-ink); }
.word.better { background: var(--good); color: var(--good-ink); }
.word.worse { background: var(--bad); color: var(--bad-ink); }
.word.equivalent { background: var(--same); color: var(--same-ink); }
.word.these-systems-only, .word.these-runs-only { background: var(--part); color: var(--part-ink); }
@media screen and (max-width: 700px) { /* a phone: a card for each verdict; other tables scroll beside their labels */
  body { margin: 1rem auto; padding: 0 .7rem; } h1 { font-size: 1.3rem; }
  tr td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); white-space: normal;
    min-width: 8rem; }
  #table-verdicts, #table-verdicts tbody, #table-verdicts caption { display: block; }
  #table-verdicts thead, #table-verdicts td:empty { display: none; }
  #table-verdicts tr { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .45rem .4rem;
    border-bottom: 1px solid var(--plain); }
  #table-verdicts tr.reference { background: var(--soft); }
  #table-verdicts td { padding: 0; border: 0 !important; position: static; background: none !important; }
  #table-verdicts td:first-child, #table-verdicts td.text { flex-basis: 100%; }
  #table-verdicts td:first-child { order: -2; font-weight: 600; } #table-verdicts td.text { order: -1; }
  #table-verdicts td:not(.text)[data-head]::before { content: attr(data-head) " "; color: var(--faint); } }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { font-size: 11px; margin: 0; padding: 0; max-width: none; } h1 { font-size: 16px; } h2 { font-size: 13px; }
  table { font-size: 9px; margin-bottom: 1rem; } td small { font-size: 8px; } th, td { padding: .12rem .25rem; }
  .note { font-size: 9px; } .warning { padding: .2rem .6rem; margin: .3rem 0; }
  .scroll { overflow: visible; } td.text { min-width: 11rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h1, h2, caption, thead, tbody.section tr:first-child { break-after: avoid; }
  tr, li, .warning { break-inside: avoid; } }
"""

_WITH_MINUS = ("published", "difference", "percent", "interval", "at_level")  # numbers; a hyphen in words is none


class Placed(NamedTuple):
    """Where a published number lies: told by a symbol and a colour, explained under the pointer."""

    symbol: str
    style: str
    hint: str


def html(frame: TableFrame) -> str:
    """A self-contained page: warnings, verdicts, both targets, sizes, checks, protocol."""
    heading = escape(frame.heading)
    notes = "\n".join(listed(name, texts) for name, texts in frame.notes.items())
    body = "\n".join([f"<h1>{heading}</h1>", warnings(frame), *html_tables(frame), notes])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{heading}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def warnings(frame: TableFrame) -> str:
    """What must be read before any number: simulated data, untrained encoders."""
    return "\n".join(f'<p class="warning">{mark.symbol} {escape(mark.text)}</p>' for mark in frame.marks)


def html_tables(frame: TableFrame, placed: Mapping[tuple[str, str], Placed] | None = None) -> list[str]:
    """Every table for readers, the verdicts first; `placed` says how a row's published number of a metric is shown."""
    return [_table(frame, view, placed or {}) for view in views(frame)]


def listed(heading: str, texts: Sequence[str]) -> str:
    """Sentences as a list under a heading."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h2>{escape(heading)}</h2>\n<ul>{items}</ul>"


def _table(frame: TableFrame, view: View, placed: Mapping[tuple[str, str], Placed]) -> str:
    columns = list(view.columns.values())
    keys = list(view.columns)[1:]  # those beside the label
    heads = "".join(f"<th{_class(column)}>{escape(column.heading)}</th>" for column in columns)
    caption = escape(view.title + frame.warning)
    parts = [f'<div class="scroll"><table id="table-{view.name}"><caption>{caption}</caption>']
    parts.append(f"<thead><tr>{heads}</tr></thead>")
    for section in frame.sections:
        note = f": {section.note}" if section.note else ""
        title = escape(section.title + note)
        parts.append(f'<tbody class="section"><tr><td colspan="{len(columns)}">{title}</td></tr>')
        for row in section.rows:
            kind = ' class="reference"' if row.is_reference else ""
            cells = "".join(f"<td{_class(column)}{_head(column)}>{_cell(column, row)}</td>" for column in columns)
            parts.append(f'<tr{kind} data-row="{escape(row.declared.id)}">{cells}</tr>')
            if row.published and any(column.below for column in columns):
                below = "".join(_published(view.columns[key], row, placed.get((row.declared.id, key))) for key in keys)
                source = escape(f"published: {row.published.source}")
                parts.append(f'<tr class="published"><td>{source}</td>{below}</tr>')
        parts.append("</tbody>")
    return "\n".join([*parts, "</table></div>"])


def _published(column: Column, row: TableRow, placed: Placed | None) -> str:
    text = _minus(column.below.text(row)) if column.below else ""
    if placed is None:
        return f"<td>{text}</td>"
    return f'<td class="{placed.style}" title="{escape(placed.hint)}">{placed.symbol} {text}</td>'


def _class(column: Column) -> str:
    return ' class="text"' if column.is_words else ""


def _head(column: Column) -> str:
    """The heading again, for a page so narrow that a row becomes a card."""
    return "" if column.kind == "label" else f' data-head="{escape(column.heading)}"'


def _cell(column: Column, row: TableRow) -> str:
    value, text = column.value(row), column.text(row)
    match column.kind:
        case "label":
            label, marks = value
            return escape(label) + (f" <sup>{escape(marks)}</sup>" if marks else "")
        case "estimate" if not isinstance(value, str):
            mean = f'<span title="{value.mean!r}">{_minus(number(value.mean))}</span>'
            return f"{mean} <small>{deviation(value)}</small>"
        case "verdict":
            return _verdict(*value) if value else ""
        case "published":
            return f"<i>{_minus(text)}</i>" if text else ""
    return _minus(text) if column.kind in _WITH_MINUS else escape(text)


def _verdict(word: str, reason: str) -> str:
    if word == "exploratory":
        return f'<span class="note">{word}</span>'
    shown = f'<span class="word {word.replace(" ", "-")}">{escape(word)}</span>'
    return f'{shown} <span class="note">{escape(reason)}</span>' if reason else shown


def _minus(text: str) -> str:
    """Typographic minus signs."""
    return escape(text.replace("-", "−"))
