"""One self-contained HTML page of a table: verdicts first, then figures, all numbers, published numbers, protocol."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from study.audit import PlacedCell, Placement, place_row, why_not_comparable
from study.published import NUM_SYSTEMS
from study.report.figures import figures
from study.report.frame import TableFrame, TableRow, table_frame
from study.report.html import STYLE, metric_tables, verdict_table, warnings
from study.report.numbers import number
from study.results import TableResults
from study.search.importance import Importances
from study.stats.table import Judgement
from study.stats.uncertainty import Interval
from whisq_core.files import write_atomically
from whisq_core.metrics import METRICS, title

FILE_NAME = "report.html"
CAPTIONS = {
    "differences": "Differences",
    "seeds": "Seed by seed",
    "curves": "Learning curves",
    "scatter": "Predicted against true",
    "systems": "Errors by system",
    "importance": "Importance",
}
_SYMBOLS: dict[Placement, tuple[str, str]] = {
    "inside": ("●", "inside"),
    "outside": ("○", "outside"),
    "not attainable": ("✕", "impossible"),
    "not comparable": ("", "other"),
    "no interval": ("", "other"),
}


def write_report(
    results: TableResults, judgement: Judgement, out: Path, importances: Importances | None = None
) -> Path:
    """Write `report.html` into `out` and return its path; it opens offline and asks the network for nothing."""
    frame = table_frame(results, judgement)
    page = _environment().get_template("report.html.jinja").render(
        frame=frame,
        style=Markup(STYLE),
        plotly=Markup(get_plotlyjs()),
        warnings=Markup(warnings(frame)),
        design=" ".join(judgement.design.sentences) if judgement.design else "",
        verdict_table=Markup(verdict_table(frame)),
        metric_tables=[Markup(table) for table in metric_tables(frame)],
        figures={name: _inline(figure) for name, figure in figures(results, judgement, importances).items()},
        captions=CAPTIONS,
        placed=list(_placed(results, frame)),
        placement_header=[title(metric) for metric in METRICS],
        placement_note=_placement_note(results),
        num_systems=NUM_SYSTEMS,
        row_notes=[f"{row.label}: {row.note}" for row in frame.rows if row.note],
        facts=list(facts(results, judgement)),
    )  # fmt: skip
    path = out / FILE_NAME
    write_atomically(path, [page.encode()])
    return path


def _environment() -> Environment:
    return Environment(loader=PackageLoader("study.report", "."), autoescape=True, undefined=StrictUndefined)


def _inline(figure: Figure) -> Markup:
    """JSON that may stand inside a script element."""
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))


@dataclass(frozen=True)
class ShownCell:
    """A published cell as the page shows it: a symbol as well as a colour, and the interval under the pointer."""

    printed: str
    symbol: str
    style: str
    hint: str


def _placed(results: TableResults, frame: TableFrame) -> Iterator[tuple[str, list[ShownCell]]]:
    reason = why_not_comparable(results.corpus.simulated, results.split, len(set(results.systems)))
    for row in frame.rows:
        if row.published:
            intervals = {metric: one_more_run(row.values[metric]) for metric in row.values}
            placed = {cell.metric: cell for cell in place_row(row.published, intervals, reason)}
            yield row.label, [_shown(placed[metric], row) for metric in METRICS]


def _shown(cell: PlacedCell, row: TableRow) -> ShownCell:
    symbol, style = _SYMBOLS[cell.placement]
    known = not math.isnan(cell.low)
    ours = f"one more run of ours: [{number(cell.low)}, {number(cell.high)}]" if known else "no interval of ours"
    hint = f"{row.label}, {title(cell.metric)}: {cell.placement}. {cell.reason or ours}"
    return ShownCell(cell.printed, symbol, style, hint)


def one_more_run(value: Interval) -> tuple[float, float]:
    """The 95 % interval in which one further run falls; a published number is one run, not a mean over seeds."""
    half = (value.high - value.mean) * math.sqrt(value.n + 1)
    return value.mean - half, value.mean + half


def _placement_note(results: TableResults) -> str:
    reason = why_not_comparable(results.corpus.simulated, results.split, len(set(results.systems)))
    if reason:
        return f"Not compared ({reason}). What no ranking of {NUM_SYSTEMS} systems can give is marked all the same."
    return "A published number is a single run: it is placed in the 95 % interval of one further run of ours."


def facts(results: TableResults, judgement: Judgement) -> Iterator[tuple[str, str]]:
    """What the numbers were made with, by dotted name: corpus, statistics, and the manifest of the newest run."""
    cells = results.cells
    yield "corpus", results.corpus.name
    yield "corpus digest", results.corpus.digest
    yield "scored clips", f"{judgement.num_clips:,} of {judgement.num_systems} systems, split {results.split}"
    yield "cells", ", ".join(f"{count} {state}" for state, count in cells["state"].value_counts().items())
    yield "time of all runs", f"{cells['seconds'].sum() / 60:.1f} minutes of training"
    yield "bootstrap", f"{judgement.num_draws:,} draws of systems, seed {judgement.bootstrap_seed}"
    yield from _flat("", results.manifest)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is not None:
        yield prefix.replace("_", " "), str(value)
