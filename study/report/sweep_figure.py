"""Dose and response: the primary metric at each value of a swept setting, the reference as a band."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.report.style import BLUE, GREY, PURPLE, finish, short, stretched, translucent
from study.results import TableResults
from study.stats import Interval
from study.tables import TableFrame, number
from whisq_core.metrics import title

_PANELS_IN_A_LINE = 3
_LOG_FROM = 30  # times the least positive value, beyond which values stand on a log axis
_ZERO = 0.5  # decades from 0, which a log axis has no place for, to the least positive value


def sweeps(results: TableResults, frame: TableFrame) -> go.Figure | None:
    """A panel for each sweep of the file; None when there is none, or none has two values with a result yet."""
    found = {row.declared.id: value for row in frame.rows if isinstance(value := row.estimate(frame.metric), Interval)}
    shown = [sweep for sweep in results.file.sweeps if sum(row in found for row in sweep.rows) > 1]
    if not shown:
        return None
    lines, columns = -(-len(shown) // _PANELS_IN_A_LINE), min(len(shown), _PANELS_IN_A_LINE)
    figure = make_subplots(
        lines, columns, subplot_titles=[sweep.label for sweep in shown], vertical_spacing=0.3 / lines
    )
    reference = found.get(frame.reference.id) if frame.reference else None
    labels = {row.declared.id: row.label for row in frame.rows}
    agreement, near = frame.agreement, False
    if agreement:  # it would leave too little room to the rows where it is far from them
        means = [found[row].mean for sweep in shown for row in sweep.rows if row in found]
        near = agreement.mean in stretched(min(means), max(means), [agreement.mean])
    for index, sweep in enumerate(shown):
        panel = {"row": index // columns + 1, "col": index % columns + 1}
        places = positions(sweep.values)
        known = [(place, row) for place, row in zip(places, sweep.rows, strict=True) if row in found]
        response = [(place, found[row], labels[row]) for place, row in known]
        figure.add_trace(_response(*zip(*response, strict=True)), **panel)
        ticks = list(map(_shown, sweep.values))
        figure.update_xaxes(tickvals=places, ticktext=ticks, title_text=sweep.setting, **panel)
        if reference and not math.isnan(reference.low):
            figure.add_hrect(
                reference.low, reference.high, fillcolor=translucent(GREY, 0.25), line_width=0, layer="below", **panel
            )
        if reference:
            figure.add_hline(reference.mean, line={"color": GREY, "width": 1, "dash": "dash"}, **panel)
        if agreement and near:
            figure.add_hline(agreement.mean, line={"color": PURPLE, "width": 1, "dash": "dot"}, **panel)
    band = f" Band: {frame.reference.label}, the same." if reference and frame.reference else ""
    human = ""
    if agreement:
        ends = f"[{number(agreement.low)}, {number(agreement.high)}]"
        human = f" {'Dotted: a' if near else 'A'}nother panel of raters, {number(agreement.mean)} {ends}."
    subtitle = f"Points: mean and 95 % interval over seeds.{band}{human}"
    finish(figure, f"{title(frame.metric)} by swept setting", frame.warning, subtitle, 130 + 280 * lines)
    figure.update_annotations(font_size=12)
    figure.update_layout(showlegend=False, margin_t=110)
    return figure


def positions(values: Sequence[Any]) -> list[float]:
    """Where each value stands: by its logarithm where positive ones span much, by itself, or in turn."""
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        return [float(index) for index in range(len(values))]
    positive = [value for value in values if value > 0]
    if min(values) < 0 or not positive or max(positive) <= _LOG_FROM * min(positive):
        return [float(value) for value in values]
    zero = math.log10(min(positive)) - _ZERO
    return [math.log10(value) if value > 0 else zero for value in values]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _response(places: Sequence[float], values: Sequence[Interval], labels: Sequence[str]) -> go.Scatter:
    return go.Scatter(
        x=places,
        y=[value.mean for value in values],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": short([value.high - value.mean for value in values]),
            "arrayminus": short([value.mean - value.low for value in values]),
        },
        mode="markers+lines",
        line={"color": BLUE, "width": 1},
        marker={"size": 8},
        customdata=[(label, *short([value.low, value.high])) for label, value in zip(labels, values, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{y:.4f} [%{customdata[1]}, %{customdata[2]}]<extra></extra>",
    )
