"""One self-contained HTML page of a table: verdicts first, then figures, all numbers, published numbers, protocol."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from study.audit import place_row, why_not_comparable
from study.judgement import Judgement
from study.published import NUM_SYSTEMS
from study.report.conclusion import conclusion
from study.results import TableResults
from study.stats import Interval
from study.tables import STYLE, Placed, TableFrame, html_tables, listed, number, table_frame, warnings
from whisq_core.files import write_atomically
from whisq_core.metrics import title

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FILE_NAME = "report.html"
CAPTIONS = {
    "differences": "Differences",
    "seeds": "Seed by seed",
    "sweeps": "Swept settings",
    "curves": "Learning curves",
    "scatter": "Predicted against true",
    "systems": "Errors by system",
}
_BESIDE = {"table.csv": "CSV", "table_long.csv": "CSV by seed", "table.tex": "LaTeX", "table.md": "Markdown"}
_SYMBOLS = {"inside": ("●", "inside"), "outside": ("○", "outside"), "not attainable": ("✕", "impossible")}


def figures(results: TableResults, judgement: Judgement | None) -> dict[str, "Figure"]:
    """Draw a table.

    Parameters
    ----------
    results, judgement
        What was measured, and the verdicts on it; without them the differences are not drawn.

    Returns
    -------
    dict
        Plotly figures by name; nothing is drawn of what does not exist yet.
    """
    # Plotly takes a second to import: only what draws pays for it, not the tables.
    from study.report.comparison_figures import differences, seed_by_seed
    from study.report.run_figures import curves, scatter, system_errors
    from study.report.sweep_figure import sweeps

    frame = table_frame(results, judgement)
    found = {
        "differences": differences(frame, judgement.margin) if judgement else None,
        "seeds": seed_by_seed(results, frame),
        "sweeps": sweeps(results, frame),
        "curves": curves(results, frame),
        "scatter": scatter(results, frame),
        "systems": system_errors(results, frame),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def difference_figure(frame: TableFrame, judgement: Judgement) -> "Figure | None":
    """Differences of the rows of any table from its reference; None where nothing is compared."""
    from study.report.comparison_figures import differences

    return differences(frame, judgement.margin)


def write_report(
    results: TableResults, judgement: Judgement, out: Path, drawn: Mapping[str, "Figure"] | None = None
) -> Path:
    """Write `report.html`, which opens offline, asks the network for nothing, and links the tables beside it.

    Parameters
    ----------
    results, judgement
        What was measured, and the verdicts on it.
    out
        The folder to write into.
    drawn
        The figures by name, where they have been drawn already; by default those of the table.

    Returns
    -------
    Path
        The page.
    """
    from plotly.offline import get_plotlyjs

    frame = table_frame(results, judgement)
    placed, note = _published(results, frame)
    verdict_table, *metric_tables = map(Markup, html_tables(frame, placed))
    shown = figures(results, judgement) if drawn is None else drawn
    pages = Environment(loader=PackageLoader("study.report", "."), autoescape=True, undefined=StrictUndefined)
    page = pages.get_template("report.html.jinja").render(
        frame=frame,
        listed=lambda heading, texts: Markup(listed(heading, texts)),
        style=Markup(STYLE),
        plotly=Markup(get_plotlyjs()),
        warnings=Markup(warnings(frame)),
        conclusion=conclusion(frame, judgement),
        beside={name: text for name, text in _BESIDE.items() if (out / name).exists()},
        verdict_table=verdict_table,
        metric_tables=metric_tables,
        figures={
            name: (CAPTIONS.get(name, name.capitalize()), figure.layout.height, _inline(figure))
            for name, figure in shown.items()
        },
        published_note=note if placed else "",
        facts=list(facts(results, judgement)),
    )  # fmt: skip
    path = out / FILE_NAME
    write_atomically(path, [page.encode()])
    return path


def _inline(figure: "Figure") -> Markup:
    """JSON that may stand inside a script element."""
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))


def _published(results: TableResults, frame: TableFrame) -> tuple[dict[tuple[str, str], Placed], str]:
    """How each published number is shown, by (row, metric), and what they are judged against."""
    reason = why_not_comparable(results.corpus.simulated, results.split, len(set(results.systems)))
    found = {}
    for row in frame.rows:
        if row.published:
            intervals = {metric: one_more_run(value) for metric, value in row.values.items()}
            for cell in place_row(row.published, intervals, reason):
                ours = "no interval of ours"
                if not math.isnan(cell.low):
                    ours = f"one more run of ours: [{number(cell.low)}, {number(cell.high)}]"
                hint = f"{row.declared.label}, {title(cell.metric)}: {cell.placement}. {cell.reason or ours}"
                found[row.declared.id, cell.metric] = Placed(*_SYMBOLS.get(cell.placement, ("", "other")), hint)
    if reason:
        note = f"Published numbers are not compared ({reason}), but marked where no ranking can give them."
    else:
        note = "A published number is a single run: it is placed in the 95 % interval of one further run of ours."
    symbols = f"● inside, ○ outside, ✕ not attainable by one run over {NUM_SYSTEMS} systems"
    return found, f"{note} {symbols}, grey: not comparable, or no interval."


def one_more_run(value: Interval) -> tuple[float, float]:
    """The 95 % interval in which one further run falls; a published number is one run, not a mean over seeds."""
    half = (value.high - value.mean) * math.sqrt(value.n + 1)
    return value.mean - half, value.mean + half


def facts(results: TableResults, judgement: Judgement) -> Iterator[tuple[str, str]]:
    """What the numbers were made with, by dotted name: corpus, statistics, and the manifest of the newest run."""
    cells = results.cells
    yield "corpus", results.corpus.name
    yield "corpus digest", results.corpus.digest
    yield "scored clips", f"{judgement.num_clips:,} of {judgement.num_systems} systems, split {results.split}"
    yield "cells", ", ".join(f"{count} {state}" for state, count in cells["state"].value_counts().items())
    yield "time of all runs", f"{cells['seconds'].sum() / 60:.1f} minutes of training"
    yield from _flat("", results.manifest)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is not None:
        yield prefix.replace("_", " "), str(value)
