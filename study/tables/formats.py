"""One table in every format: Markdown, LaTeX and HTML for people, wide and long CSV for programs.

A new format is a function and an entry in `FORMATS`.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from study.judgement import Judgement
from study.results import TableResults
from study.stats import Interval
from study.tables.frame import TableFrame, TableRow, table_frame
from study.tables.html import html
from study.tables.latex import latex
from study.tables.markdown import markdown
from study.tables.method import searched_rows, untrained_rows
from study.tables.views import Column, columns
from whisq_core.errors import inert
from whisq_core.files import write_atomically


def write_tables(results: TableResults, judgement: Judgement | None, out: Path) -> list[Path]:
    """Write a table in all formats, each file replaced whole.

    Called while cells finish: without a judgement the table has its numbers and no verdicts yet.

    Parameters
    ----------
    results, judgement
        What was measured, and the verdicts on it.
    out
        The folder to write into.

    Returns
    -------
    list
        The files: `table.md`, `table.tex`, `table.html`, `table.csv` (a line for each row) and `table_long.csv` (a
        line for each row, seed and metric).
    """
    frame = table_frame(results, judgement)
    texts = {name: render(frame) for name, render in FORMATS.items()} | {LONG_CSV: long_csv(results)}
    for name, text in texts.items():
        write_atomically(out / name, [text.encode()])
    return [out / name for name in texts]


def wide_csv(frame: TableFrame) -> str:
    """One line per row: each metric's mean under its own name, then `.sd`, `.low`, `.high` (95 %) and `.quoted`.

    Numbers have all their digits and there is no time in it: the same results give the same bytes.
    """
    shown = columns(frame).values()
    header = [field for column in shown for field in column.fields]
    return _csv(header, ([text for column in shown for text in _fields(column, row)] for row in frame.rows))


def _fields(column: Column, row: TableRow) -> Iterable[Any]:
    """The column's fields with all digits, empty where there is nothing."""
    value = column.value(row)
    match value:
        case None:
            return [""] * len(column.fields)
        case Interval():
            numbers = (value.mean, value.sd, value.low, value.high)
            return map(_digits, numbers[-len(column.fields) :])
        case (Interval() as both, level):
            return map(_digits, (both.low, both.high, level if not math.isnan(both.low) else math.nan))
        case str() if column.kind == "estimate":
            return [""] * len(column.fields)
        case tuple():
            return value[: len(column.fields)]
        case float():
            return [_digits(value)]
    return [value]


def long_csv(results: TableResults) -> str:
    """One line per row, seed and metric; `value` is empty where undefined or without a result, `state` says which."""
    names = results.file.metrics
    searched = searched_rows(results)
    warned = {"untrained": untrained_rows(results)} | ({"search_not_nested": searched} if searched else {})
    simulated = _yes_no(results.corpus.simulated)
    cells = results.cells
    columns = zip(cells["row"], cells["seed"], cells["state"], cells["reason"], strict=True)
    lines = [
        (row, seed, name, _digits(value), state, reason, simulated, *(_yes_no(row in rows) for rows in warned.values()))
        for (row, seed, state, reason), values in zip(columns, cells[list(names)].to_numpy(np.float64), strict=True)
        for name, value in zip(names, values.tolist(), strict=True)
    ]
    return _csv(("row", "seed", "metric", "value", "state", "reason", "simulated", *warned), lines)


def _digits(value: float) -> str:
    """The shortest text that reads back as the same float; empty for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _csv(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(inert, line) for line in lines)
    return text.getvalue()


FORMATS: dict[str, Callable[[TableFrame], str]] = {
    "table.md": markdown,
    "table.tex": latex,
    "table.html": html,
    "table.csv": wide_csv,
}
LONG_CSV = "table_long.csv"
