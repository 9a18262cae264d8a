"""Figures of rows against the reference: differences with their intervals, and the same seed by seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.report.style import BLACK, BLUE, GREEN, GREY, GRID, PURPLE, VERMILION, finish, stretched, translucent
from study.results import TableResults
from study.stats import Interval
from study.tables import UNTRAINED_MARK, TableFrame, TableRow
from whisq_core.metrics import higher_is_better, title

_SPLIT = 0.2  # of a row's height, from the combined interval to each partial one
_PANELS_IN_A_LINE = 4


def differences(frame: TableFrame, margin: float) -> go.Figure | None:
    """Difference of each row from the reference with its intervals; None when there is none.

    Rows of untrained encoders do not set the range: an arrow with the difference shows the way to one that is outside.
    """
    reference = frame.reference.label if frame.reference else ""
    rows = [row for row in frame.rows if row.comparison and not np.isnan(row.comparison.mean)]
    if not rows:
        return None
    better = "right" if higher_is_better(frame.metric) else "left"
    subtitle = f"Difference from {reference}, {better} is better. Grey: equivalence margin ±{margin:g}."
    compared = [row.comparison for row in rows if row.comparison]
    labels = [row.label for row in rows]
    partial = [
        _intervals(labels, "95 %, other seeds", BLUE, -_SPLIT, [found.seeds for found in compared]),
        _intervals(labels, "95 %, other systems", VERMILION, _SPLIT, [found.systems for found in compared]),
    ]
    both = _intervals(labels, "both, at the level of the verdict", BLACK, 0.0, [_both(row) for row in rows])
    both.update(marker_size=9, error_x_thickness=3)
    figure = go.Figure([both, *partial])
    figure.add_vrect(x0=-margin, x1=margin, fillcolor=GRID, line_width=0, layer="below")
    figure.add_vline(x=0, line_color=GREY, line_width=1)
    for index, row in enumerate(rows):
        word = row.verdict[0] if row.verdict else ""
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=index, text=word, showarrow=False)
    agreement = _agreement(frame)
    low, high = limits = _range(rows, margin, agreement)
    for index, found in enumerate(compared):
        if not low <= found.mean <= high:
            _outside(figure, index, limits, found.mean)
    if agreement:
        _draw_agreement(figure, agreement, len(rows), limits)
        labels.append("Another panel of raters")
    finish(figure, f"Differences in {title(frame.metric)}", frame.warning, subtitle, 180 + 40 * len(labels))
    figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6])
    figure.update_xaxes(title_text=f"{title(frame.metric)}: row − reference", range=[low, high])
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}  # of three lines on a narrow page
    figure.update_layout(margin={"r": 150, "t": 120}, legend=legend)
    return figure


def _agreement(frame: TableFrame) -> Interval | None:
    """Another panel's score less the reference's mean."""
    reference = next((row.estimate(frame.metric) for row in frame.rows if row.is_reference), None)
    if frame.agreement is None or not isinstance(reference, Interval):
        return None
    mean, low, high = (
        end - reference.mean for end in (frame.agreement.mean, frame.agreement.low, frame.agreement.high)
    )
    return Interval(mean, frame.agreement.sd, frame.agreement.n, low, high)


def _draw_agreement(figure: go.Figure, agreement: Interval, place: int, limits: tuple[float, float]) -> None:
    """A line of its own below the rows, and a dotted line through all of them where it is within their range."""
    figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=place, text="human agreement", showarrow=False)
    if limits[0] <= agreement.mean <= limits[1]:
        figure.add_trace(_intervals(["Another panel of raters"], "human agreement", PURPLE, place, [agreement]))
        figure.data[-1].update(showlegend=False, marker_symbol="diamond", marker_size=9)
        figure.add_vline(x=agreement.mean, line={"color": PURPLE, "width": 1, "dash": "dot"}, layer="below")
    else:
        _outside(figure, place, limits, agreement.mean, f" [{agreement.low:+.3f}, {agreement.high:+.3f}]")


def _outside(figure: go.Figure, place: int, limits: tuple[float, float], mean: float, interval: str = "") -> None:
    """An arrow towards what the range leaves out, with its value."""
    shown, (low, high) = f"{mean:+.3f}{interval}".replace("-", "−"), limits
    text = f"◂ {shown}" if mean < low else f"{shown} ▸"
    x, anchor = (low, "left") if mean < low else (high, "right")
    figure.add_annotation(x=x, xanchor=anchor, y=place, text=text, showarrow=False, bgcolor="white")


def _range(rows: Sequence[TableRow], margin: float, agreement: Interval | None) -> tuple[float, float]:
    """A little more than the margin and the rows' intervals; untrained encoders count only among themselves.

    Human agreement counts where that leaves the rows half of the range.
    """
    shown = [row for row in rows if UNTRAINED_MARK not in row.marks] or rows
    intervals = [
        one for row in shown if row.comparison for one in (_both(row), row.comparison.seeds, row.comparison.systems)
    ]
    ends = [end for one in intervals for end in (one.mean, one.low, one.high) if not np.isnan(end)]
    low, high = min([-margin, *ends]), max([margin, *ends])
    if agreement:
        low, high = stretched(low, high, (agreement.low, agreement.high))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _both(row: TableRow) -> Interval:
    """The combined interval at the level of the row's verdict, at 95 % without one."""
    assert row.comparison is not None
    return row.decision.interval if row.decision else row.comparison.interval()


def _intervals(
    labels: Sequence[str], name: str, colour: str, offset: float, intervals: Sequence[Interval]
) -> go.Scatter:
    return go.Scatter(
        x=[interval.mean for interval in intervals],
        y=[index + offset for index in range(len(labels))],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [interval.high - interval.mean for interval in intervals],
            "arrayminus": [interval.mean - interval.low for interval in intervals],
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        marker={"size": 6, "color": colour},
        name=name,
        customdata=[(label, interval.low, interval.high) for label, interval in zip(labels, intervals, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{x:+.4f} [%{customdata[1]:+.4f}, %{customdata[2]:+.4f}]<extra></extra>",
    )


def paired_values(results: TableResults) -> dict[str, pd.DataFrame]:
    """The primary metric of each row and of the reference at the seeds that both have: columns reference, row.

    A row with fewer than two such seeds is left out: one line tells no more than the table.
    """
    compare, metric = results.file.compare, results.file.metric
    done = results.cells[results.cells["state"] == "done"].dropna(subset=[metric])
    table = done.pivot(index="seed", columns="row", values=metric)
    if compare is None or compare.to not in table:
        return {}
    pairs = {
        row.id: pd.DataFrame({"reference": table[compare.to], "row": table[row.id]}).dropna()
        for row in results.file.rows
        if row.id != compare.to and row.id in table
    }
    return {row: values for row, values in pairs.items() if len(values) > 1}


def seed_by_seed(results: TableResults, frame: TableFrame) -> go.Figure | None:
    """From the reference to each row, a line for each seed: whether the difference has one direction."""
    pairs = paired_values(results)
    if not pairs:
        return None
    labels = {row.declared.id: row.label for row in frame.rows}
    lines = -(-len(pairs) // _PANELS_IN_A_LINE)
    figure = make_subplots(
        rows=lines,
        cols=_PANELS_IN_A_LINE,
        subplot_titles=[labels[row] for row in pairs],
        horizontal_spacing=0.07,
        vertical_spacing=0.28 / lines,
    )
    for index, values in enumerate(pairs.values()):
        place = {"row": index // _PANELS_IN_A_LINE + 1, "col": index % _PANELS_IN_A_LINE + 1}
        for trace in _slopes(values, higher_is_better(frame.metric), first=index == 0):
            figure.add_trace(trace, **place)
    reference = frame.reference.label if frame.reference else ""
    on_left = f"{reference} on the left, the row on the right"
    subtitle = f"Each line is one seed: {on_left}. Each panel has its own scale."
    finish(figure, f"{title(frame.metric)}, seed by seed", frame.warning, subtitle, 140 + 230 * lines)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(range=[-0.25, 1.25], tickvals=[0, 1], ticktext=["reference", "row"], showgrid=False)
    figure.update_layout(
        margin_t=120,
        legend={"orientation": "h", "x": 0, "yanchor": "bottom", "yref": "paper", "tracegroupgap": 0},
        legend_y=1 + 45 / (230 * lines),
    )
    return figure


def _slopes(values: pd.DataFrame, higher: bool, first: bool) -> list[go.Scatter]:
    """Seeds on which the row is better, those on which it is not, and the means."""
    better = (values["row"] > values["reference"]) if higher else (values["row"] < values["reference"])
    traces = [
        _lines("row better", GREEN, values[better], first),
        _lines("row not better", VERMILION, values[~better], first),
    ]
    means = [float(np.mean(values[side].to_list())) for side in ("reference", "row")]
    style = {"width": 3, "color": BLACK}
    mean = go.Scatter(x=[0, 1], y=means, mode="lines", line=style, name="mean", legendgroup="mean", showlegend=first)
    return [*traces, mean]


def _lines(name: str, colour: str, values: pd.DataFrame, first: bool) -> go.Scatter:
    ends = zip(values["reference"].tolist(), values["row"].tolist(), strict=True)
    return go.Scatter(
        x=[0, 1, None] * len(values) or [None],
        y=[y for left, right in ends for y in (left, right, None)] or [None],
        mode="lines+markers",
        line={"width": 1.2, "color": translucent(colour, 0.75), "dash": "solid" if name == "row better" else "dot"},
        marker={"size": 5, "color": colour},
        name=name,
        legendgroup=name,
        showlegend=first,
        hovertemplate="%{y:.4f}<extra></extra>",
    )
