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

from study.report.frame import TableFrame, TableRow, table_frame
from study.report.html import html
from study.report.latex import latex
from study.report.markdown import markdown
from study.report.method import untrained_rows
from study.results import TableResults
from study.stats.table import Judgement
from whisq_core.files import write_atomically
from whisq_core.metrics import EXTRA, METRICS

FORMATS: dict[str, Callable[[TableFrame], str]] = {
    "table.md": markdown,
    "table.tex": latex,
    "table.html": html,
    "table.csv": lambda frame: wide_csv(frame),
}
LONG_CSV = "table_long.csv"


def write_tables(results: TableResults, judgement: Judgement | None, out: Path) -> list[Path]:
    """Write the table in all formats into `out`, each file replaced whole; return the paths.

    Called after every cell: without a judgement the table has its numbers and no verdicts yet.
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
    lines = [_wide_line(frame, section.title, row) for section in frame.sections for row in section.rows]
    return _csv(lines[0], (line.values() for line in lines))


def long_csv(results: TableResults) -> str:
    """One line per row, seed and metric; `value` is empty where undefined or without a result, `state` says which."""
    names = METRICS + EXTRA
    untrained, simulated = untrained_rows(results), _yes_no(results.corpus.simulated)
    cells = results.cells
    columns = zip(cells["row"], cells["seed"], cells["state"], cells["reason"], strict=True)
    lines = [
        (row, seed, name, _digits(value), state, reason, simulated, _yes_no(row in untrained))
        for (row, seed, state, reason), values in zip(columns, cells[list(names)].to_numpy(np.float64), strict=True)
        for name, value in zip(names, values.tolist(), strict=True)
    ]
    return _csv(("row", "seed", "metric", "value", "state", "reason", "simulated", "untrained"), lines)


def _wide_line(frame: TableFrame, section: str, row: TableRow) -> dict[str, Any]:
    line: dict[str, Any] = {
        "section": section,
        "row": row.id,
        "label": row.label,
        "marks": " ".join(mark.short for mark in frame.marks if mark.symbol in row.marks),
        "seeds": row.num_seeds,
        "seeds_done": row.num_done,
        "seeds_failed": row.num_failed,
        **_verdict(frame, row),
    }
    for name in METRICS + EXTRA:
        value = row.values.get(name)
        numbers = (value.mean, value.sd, value.low, value.high) if value else (np.nan,) * 4
        line |= zip((name, f"{name}.sd", f"{name}.low", f"{name}.high"), map(_digits, numbers), strict=True)
        line[f"{name}.quoted"] = row.quoted(name)
    sizes = ("num_trainable", "num_total", "macs", *(["num_trials"] if frame.is_tuned else []))
    return line | {name: getattr(row, name) for name in sizes}


def _verdict(frame: TableFrame, row: TableRow) -> dict[str, Any]:
    names = ("difference", "relative", "seeds_low", "seeds_high", "systems_low", "systems_high", "p_seed", "p_system",
             "p_holm")  # fmt: skip
    line: dict[str, Any] = {"metric": frame.metric, "reference": frame.reference or "", "verdict": "", "reason": ""}
    if row.is_reference:
        line["verdict"] = "reference"
    if row.verdict is None:
        return line | dict.fromkeys(names, "")
    comparison, decision = row.verdict.comparison, row.verdict.decision
    p_holm = decision.p_holm if decision else np.nan
    numbers = (comparison.mean, comparison.relative, comparison.seeds.low, comparison.seeds.high, comparison.items.low,
               comparison.items.high, comparison.p_seed, comparison.p_item, p_holm)  # fmt: skip
    reason = decision.reason if decision else ""
    return line | {"verdict": row.verdict.word, "reason": reason} | dict(zip(names, map(_digits, numbers), strict=True))


def _digits(value: float) -> str:
    """The shortest text that reads back as the same float; empty for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _csv(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()
