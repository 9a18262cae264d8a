"""The table as Markdown, for terminals and GitHub: verdicts, then one table per target, then sizes."""

import re
from collections.abc import Iterable, Sequence

from study.tables.frame import TableFrame, TableRow
from study.tables.views import Column, View, views

_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\]\(")  # in labels and names: neither tags nor links are ours


def markdown(frame: TableFrame) -> str:
    """The whole table as Markdown text; published numbers stand in italics on a line of their own."""
    parts = [f"# {frame.heading}", *(f"**{mark.symbol} {mark.text}**" for mark in frame.marks)]
    for view in views(frame):
        parts += [f"## {view.title}", _table(frame, view)]
    for heading, texts in frame.notes.items():
        parts += [f"## {heading}", "\n".join(f"- {text}" for text in texts)]
    return _MARKUP.sub(lambda found: {"<": "&lt;", "](": "]\\("}[found[0]], "\n\n".join(parts)) + "\n"


def _cell(column: Column, row: TableRow) -> str:
    text = column.text(row)
    if column.kind == "published":
        return _italic(text)
    if column.kind == "verdict" and text not in ("", "exploratory"):
        word, colon, reason = text.partition(":")
        return f"**{word}**{colon}{reason}"
    return text


def _italic(text: str) -> str:
    return f"_{text}_" if text else ""


def _lines(frame: TableFrame, columns: Sequence[Column]) -> Iterable[list[str]]:
    for section in frame.sections:
        yield [f"**{section.title}**{f': {section.note}' if section.note else ''}"]
        for row in section.rows:
            yield [_cell(column, row) for column in columns]
            if row.published and any(column.below for column in columns):
                source = _italic(f"published: {row.published.source}")
                yield [source, *(_cell(column.below, row) if column.below else "" for column in columns[1:])]


def _table(frame: TableFrame, view: View) -> str:
    """A pipe table that lines up in a terminal: labels left, numbers right; a column of words at the end is ragged."""
    columns = list(view.columns.values())
    lines = [[column.heading for column in columns], *_lines(frame, columns)]
    rows = [[_escape(text) for text in line] + [""] * (len(columns) - len(line)) for line in lines]
    sized = [row for row in rows if any(row[1:])]
    widths = [
        3 if column.is_words else max((len(row[place]) for row in sized), default=3)
        for place, column in enumerate(columns)
    ]
    left = [column.is_words or column.kind == "label" for column in columns]
    ruler = ["-" * (width - 1) + ("-" if to_left else ":") for width, to_left in zip(widths, left, strict=True)]

    def line(row: list[str]) -> str:
        cells = zip(row, widths, left, strict=True)
        padded = (text.ljust(width) if to_left else text.rjust(width) for text, width, to_left in cells)
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(row) for row in (rows[0], ruler, *rows[1:]))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
