"""Figures of what single runs did: learning curves, predictions against labels, errors system by system."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.report.style import BLUE, DIVERGING, GREY, VERMILION, finish, short, style_of, translucent
from study.results import TableResults
from study.tables import TableFrame, untrained_rows
from whisq_core.metrics import TARGETS, group_means

TERMS = {
    "huber_omq": "task loss, OMQ",
    "huber_ta": "task loss, TA",
    "ot": "optimal transport, λ × OT",
    "ot_gradient_share": "OT gradient / task gradient on the text projection",
}
_LEVELS = ("utterance", "system")
_SCALE = [0.8, 5.2]  # ratings are 1 to 5


def scale_rows(results: TableResults) -> frozenset[str]:
    """Rows that set the ranges which rows share: not untrained encoders and placeholders, if there are others."""
    placeholders = {row.id for section in results.file.sections if section.stand_in for row in section.rows}
    every = frozenset(row.id for row in results.file.rows)
    return every - untrained_rows(results) - placeholders or every


def curves_data(results: TableResults) -> pd.DataFrame:
    """Mean, lowest and highest value over seeds of each loss term, per row and epoch; OT only where it has a weight."""
    lines = [
        {"row": row, "epoch": record["epoch"], "term": term, "value": record[term]}
        for (row, _), curve in results.curves.items()
        for record in curve
        for term in TERMS
        if not term.startswith("ot") or results.file.row(row).spec.loss.ot_weight > 0
    ]
    if not lines:
        return pd.DataFrame(columns=["row", "term", "epoch", "mean", "min", "max"])
    grouped = pd.DataFrame(lines).groupby(["row", "term", "epoch"], sort=False)["value"]
    return grouped.agg(["mean", "min", "max"]).reset_index()


def curves(results: TableResults, frame: TableFrame) -> go.Figure | None:
    """The terms of the loss by epoch: what optimal transport weighs against the task."""
    data = curves_data(results)
    if data.empty:
        return None
    figure = make_subplots(rows=2, cols=2, subplot_titles=list(TERMS.values()), vertical_spacing=0.14)
    traces, places = list[go.Scatter](), list[int]()
    for index, row in enumerate(frame.rows):
        of_row = data[data["row"] == row.declared.id]
        for place, term in enumerate(TERMS):
            of_term = of_row[of_row["term"] == term]
            if len(of_term):
                band = _band(of_term, row.label, index, show_legend=place == 0)
                traces += band
                places += [place] * len(band)
    figure.add_traces(traces, rows=[place // 2 + 1 for place in places], cols=[place % 2 + 1 for place in places])
    subtitle = "Lines: mean over seeds. Bands: lowest to highest seed. Click a row in the legend to hide it."
    finish(figure, "Learning curves", frame.warning, subtitle, 760)
    figure.update_xaxes(title_text="epoch", row=2)
    figure.update_yaxes(rangemode="tozero")
    highest = data[data["row"].isin(scale_rows(results))].groupby("term")["max"].max()
    for place, term in enumerate(TERMS):
        if term in highest:
            figure.update_yaxes(range=[0, 1.05 * highest[term]], row=place // 2 + 1, col=place % 2 + 1)
    figure.update_annotations(font_size=12)
    figure.update_layout(margin_t=110, legend={"x": 1.02, "y": 1})
    return figure


def _band(data: pd.DataFrame, label: str, index: int, show_legend: bool) -> list[go.Scatter]:
    style = style_of(index)
    epochs = data["epoch"].tolist()
    band = go.Scatter(
        x=epochs + epochs[::-1],
        y=short(data["max"]) + short(data["min"])[::-1],
        fill="toself",
        fillcolor=translucent(style["color"], 0.1),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=label,
        showlegend=False,
    )
    line = go.Scatter(
        x=epochs,
        y=short(data["mean"]),
        mode="lines" if len(epochs) > 1 else "markers",
        line={"width": 1.8, **style},
        name=label,
        legendgroup=label,
        showlegend=show_legend,
        hovertemplate=f"{label}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>",
    )
    return [band, line]


@dataclass(frozen=True)
class Points:
    """True and predicted scores of one target at one level; `names` are utterances or systems."""

    truth: np.ndarray
    predicted: np.ndarray
    names: tuple[str, ...]


def scatter_data(results: TableResults, row: str) -> dict[tuple[str, str], Points]:
    """Predictions of `row`, averaged over its seeds, by (target, level); systems in the order of their names."""
    predicted = results.predictions[row].mean(axis=0)
    systems, members = np.unique(np.asarray(results.systems), return_inverse=True)
    names, given = tuple(map(str, systems)), results.system_truth
    found = {}
    for column, target in enumerate(TARGETS):
        ours, truth = predicted[:, column], results.truth[:, column]
        means = group_means(truth, members) if given is None else np.array([given[name][column] for name in names])
        found[target, "utterance"] = Points(truth, ours, results.utterances)
        found[target, "system"] = Points(means, group_means(ours, members), names)
    return found


def scatter(results: TableResults, frame: TableFrame) -> go.Figure | None:
    """Predicted against true score per target and level; a menu chooses the row."""
    rows = [row for row in frame.rows if row.declared.id in results.predictions]
    if not rows:
        return None
    titles = [f"{target.upper()}, {level}" for target in TARGETS for level in _LEVELS]
    figure = make_subplots(rows=1, cols=4, subplot_titles=titles, horizontal_spacing=0.055)
    traces = [
        _points(points, level, visible=index == 0)
        for index, row in enumerate(rows)
        for (_, level), points in scatter_data(results, row.declared.id).items()
    ]
    figure.add_traces(traces, rows=[1] * len(traces), cols=[place % 4 + 1 for place in range(len(traces))])
    buttons = [
        {
            "label": row.label,
            "method": "restyle",
            "args": [{"visible": [which == index for which in range(len(rows)) for _ in range(4)]}],
        }
        for index, row in enumerate(rows)
    ]
    subtitle = "Predictions averaged over seeds. Dashed: predicted = true. The menu chooses the row."
    finish(figure, "Predicted against true scores", frame.warning, subtitle, 430)
    figure.update_xaxes(range=_SCALE, dtick=1, title_text="true")
    figure.update_yaxes(range=_SCALE, dtick=1)
    figure.update_yaxes(title_text="predicted", col=1)
    figure.add_shape(type="line", x0=1, y0=1, x1=5, y1=5, line={"color": GREY, "dash": "dash", "width": 1},
                     row="all", col="all")  # fmt: skip
    figure.update_annotations(font_size=12)
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.16, "yanchor": "bottom", "showactive": True}
    figure.update_layout(updatemenus=[menu], showlegend=False, margin_t=120)
    return figure


def _points(points: Points, level: str, visible: bool) -> go.Scatter:
    of_systems = level == "system"
    return go.Scatter(
        x=short(points.truth),
        y=short(points.predicted),
        text=list(points.names),
        mode="markers",
        marker={"size": 8 if of_systems else 5, "color": translucent(VERMILION if of_systems else BLUE, 0.6)},
        visible=visible,
        hovertemplate="%{text}<br>true %{x:.2f}, predicted %{y:.2f}<extra></extra>",
    )


def system_errors_data(results: TableResults) -> dict[str, pd.DataFrame]:
    """For each target: predicted minus true system score [rows, systems], seeds averaged, systems by true score."""
    shown = {row.id: scatter_data(results, row.id) for row in results.file.rows if row.id in results.predictions}
    errors = {}
    for target in TARGETS:
        of_rows = {row: points[target, "system"] for row, points in shown.items()}
        table = pd.DataFrame(
            {row: pd.Series(points.predicted - points.truth, points.names) for row, points in of_rows.items()}
        ).T
        order = [np.argsort(points.truth, kind="stable") for points in of_rows.values()]  # the same for every row
        errors[target] = table.iloc[:, order[0]] if order else table
    return errors


def system_errors(results: TableResults, frame: TableFrame) -> go.Figure | None:
    """Which systems a row rates too high or too low."""
    tables = system_errors_data(results)
    if tables[TARGETS[0]].empty:
        return None
    labels = [row.label for row in frame.rows if row.declared.id in results.predictions]
    shown = [row for row in tables[TARGETS[0]].index if row in scale_rows(results)] or list(tables[TARGETS[0]].index)
    largest = max(float(np.nanmax(np.abs(table.loc[shown].to_numpy()))) for table in tables.values())
    figure = make_subplots(rows=2, cols=1, subplot_titles=[target.upper() for target in tables], vertical_spacing=0.14)
    for place, table in enumerate(tables.values()):
        figure.add_trace(
            go.Heatmap(
                z=[short(line) for line in table.to_numpy()],
                x=list(table.columns),
                y=labels,
                coloraxis="coloraxis",
                hovertemplate="%{y}<br>%{x}: %{z:+.2f}<extra></extra>",
            ),
            row=place + 1,
            col=1,
        )
    subtitle = "Predicted minus true, seeds averaged; systems from the lowest true score to the highest."
    finish(figure, "Errors system by system", frame.warning, subtitle, 220 + 44 * len(labels))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", tickangle=-60, showgrid=False)
    figure.update_layout(
        coloraxis={"colorscale": DIVERGING, "cmin": -largest, "cmax": largest, "colorbar": {"title": {"text": "error"}}}
    )
    figure.update_annotations(font_size=12)
    return figure
