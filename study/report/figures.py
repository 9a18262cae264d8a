"""Every figure of a table by name: for the report, and one by one for optuna-dashboard.

Each figure is a data function, which is plain and tested, and a draw function, which only draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study.report.run_figures import curves, scatter, system_errors
from study.report.style import BLACK, BLUE, GREEN, GREY, GRID, VERMILION, finish, marked, translucent
from study.results import TableResults
from study.search.importance import Importances
from study.stats.table import Judgement
from study.stats.uncertainty import Comparison
from whisq_core.metrics import higher_is_better, title

_SPLIT = 0.16  # of a row's height, between its two intervals
_PANELS_IN_A_LINE = 4


def figures(
    results: TableResults, judgement: Judgement | None, importances: Importances | None = None
) -> dict[str, go.Figure]:
    """All figures that these results allow; nothing is drawn of what does not exist yet."""
    found: dict[str, go.Figure | None] = {
        "differences": forest(results, judgement) if judgement else None,
        "seeds": paired_slopes(results),
        "curves": curves(results),
        "scatter": scatter(results),
        "systems": system_errors(results),
        "importance": importance(results, importances) if importances else None,
    }
    return {name: figure for name, figure in found.items() if figure is not None}


@dataclass(frozen=True)
class ForestLine:
    """One row's difference from the reference on the primary metric, with the verdict's word."""

    row: str
    label: str
    comparison: Comparison
    word: str


def forest_data(results: TableResults, judgement: Judgement) -> list[ForestLine]:
    """The rows with a defined difference, in the order of the table."""
    lines = []
    for row in results.file.rows:
        judged = judgement.rows.get(row.id)
        comparison = judged.comparisons.get(judgement.metric) if judged else None
        if judged is None or comparison is None or np.isnan(comparison.mean):
            continue
        word = judged.decision.verdict if judged.decision else "exploratory"
        lines.append(ForestLine(row.id, marked(results, row), comparison, word))
    return lines


def forest(results: TableResults, judgement: Judgement) -> go.Figure | None:
    """Difference of each row from the reference with both 95 % intervals; None when there is none."""
    lines = forest_data(results, judgement)
    if not lines or judgement.reference is None:
        return None
    better = "right" if higher_is_better(judgement.metric) else "left"
    subtitle = (
        f"Difference from {results.file.row(judgement.reference).label}, {better} is better. "
        f"Grey: equivalence margin ±{judgement.margin:g}."
    )
    figure = go.Figure([_intervals(lines, "seeds"), _intervals(lines, "systems")])
    figure.add_vrect(x0=-judgement.margin, x1=judgement.margin, fillcolor=GRID, line_width=0, layer="below")
    figure.add_vline(x=0, line_color=GREY, line_width=1)
    for index, line in enumerate(lines):
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=index, text=line.word, showarrow=False)
    finish(figure, results, f"Differences in {title(judgement.metric)}", subtitle, 150 + 40 * len(lines))
    figure.update_yaxes(
        tickvals=list(range(len(lines))), ticktext=[line.label for line in lines], range=[len(lines) - 0.4, -0.6]
    )
    figure.update_xaxes(title_text=f"{title(judgement.metric)}: row − reference")
    figure.update_layout(margin_r=150, legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    return figure


def _intervals(lines: Sequence[ForestLine], source: str) -> go.Scatter:
    of_seeds = source == "seeds"
    intervals = [line.comparison.seeds if of_seeds else line.comparison.items for line in lines]
    x = [line.comparison.mean for line in lines]
    return go.Scatter(
        x=x,
        y=[index + (-_SPLIT if of_seeds else _SPLIT) for index in range(len(lines))],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [interval.high - interval.mean for interval in intervals],
            "arrayminus": [interval.mean - interval.low for interval in intervals],
            "thickness": 2.5,
            "width": 4,
        },
        mode="markers",
        marker={"size": 8, "color": BLUE if of_seeds else VERMILION, "symbol": "circle" if of_seeds else "square"},
        name=f"95 % over {'seeds' if of_seeds else 'systems'}",
        customdata=[(line.label, interval.low, interval.high) for line, interval in zip(lines, intervals, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{x:+.4f} [%{customdata[1]:+.4f}, %{customdata[2]:+.4f}]<extra></extra>",
    )


@dataclass(frozen=True)
class SeedPairs:
    """The primary metric of a row and of the reference at the same places in their lists of seeds."""

    row: str
    label: str
    positions: tuple[int, ...]
    reference: tuple[float, ...]
    values: tuple[float, ...]


def paired_data(results: TableResults) -> list[SeedPairs]:
    """Pairs of defined values for each row that shares at least one place with the reference."""
    compare, metric = results.file.compare, results.file.metric
    if compare is None:
        return []
    done = results.cells[results.cells["state"] == "done"].dropna(subset=[metric])
    values = {row: dict(zip(of_row["position"], of_row[metric], strict=True)) for row, of_row in done.groupby("row")}
    theirs = values.get(compare.to, {})
    pairs = []
    for row in results.file.rows:
        ours = values.get(row.id, {})
        common = tuple(sorted(set(ours) & set(theirs)))
        if row.id != compare.to and common:
            numbers = tuple(theirs[place] for place in common), tuple(ours[place] for place in common)
            pairs.append(SeedPairs(row.id, marked(results, row), common, *numbers))
    return pairs


def paired_slopes(results: TableResults) -> go.Figure | None:
    """Seed by seed, from the reference to each row: whether the difference has one direction."""
    pairs = paired_data(results)
    if not pairs:
        return None
    metric = results.file.metric
    lines = -(-len(pairs) // _PANELS_IN_A_LINE)
    figure = make_subplots(
        rows=lines,
        cols=_PANELS_IN_A_LINE,
        subplot_titles=[pair.label for pair in pairs],
        horizontal_spacing=0.07,
        vertical_spacing=0.28 / lines,
    )
    for index, pair in enumerate(pairs):
        place = {"row": index // _PANELS_IN_A_LINE + 1, "col": index % _PANELS_IN_A_LINE + 1}
        for trace in _slopes(pair, higher_is_better(metric), first=index == 0):
            figure.add_trace(trace, **place)
    reference = results.file.row(results.file.compare.to).label if results.file.compare else ""
    subtitle = f"Each line is one seed: {reference} on the left, the row on the right. Each panel has its own scale."
    finish(figure, results, f"{title(metric)}, seed by seed", subtitle, 140 + 230 * lines)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(range=[-0.25, 1.25], tickvals=[0, 1], ticktext=["reference", "row"], showgrid=False)
    figure.update_layout(margin_t=120, legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom",
                                               "yref": "paper", "tracegroupgap": 0})  # fmt: skip
    figure.update_layout(legend_y=1 + 45 / (230 * lines))
    return figure


def _slopes(pair: SeedPairs, higher: bool, first: bool) -> list[go.Scatter]:
    """Seeds on which the row is better, those on which it is not, and the means."""
    sign = 1 if higher else -1
    numbers = list(zip(pair.positions, pair.reference, pair.values, strict=True))
    groups = {
        "row better": (GREEN, [line for line in numbers if sign * (line[2] - line[1]) > 0]),
        "row not better": (VERMILION, [line for line in numbers if sign * (line[2] - line[1]) <= 0]),
    }
    traces = [_lines(name, colour, group, first) for name, (colour, group) in groups.items()]
    means = [float(np.mean(pair.reference)), float(np.mean(pair.values))]
    style = {"width": 3, "color": BLACK}
    mean = go.Scatter(x=[0, 1], y=means, mode="lines", line=style, name="mean", legendgroup="mean", showlegend=first)
    return [*traces, mean]


def _lines(name: str, colour: str, group: Sequence[tuple[int, float, float]], first: bool) -> go.Scatter:
    x: list[float | None] = []
    y: list[float | None] = []
    for _, left, right in group:
        x += [0, 1, None]
        y += [left, right, None]
    return go.Scatter(
        x=x or [None],
        y=y or [None],
        mode="lines+markers",
        line={"width": 1.2, "color": translucent(colour, 0.75), "dash": "solid" if name == "row better" else "dot"},
        marker={"size": 5, "color": colour},
        name=name,
        legendgroup=name,
        showlegend=first,
        hovertemplate="%{y:.4f}<extra></extra>",
    )


def importance(results: TableResults, importances: Importances) -> go.Figure:
    """The share of the objective's variance that each searched setting explains, with the noise floor."""
    found = importances.parameters[::-1]
    floor = importances.noise_mean + 2 * importances.noise_sd
    figure = go.Figure(
        go.Bar(
            x=[parameter.mean for parameter in found],
            y=[parameter.name for parameter in found],
            orientation="h",
            marker_color=[GREY if parameter.is_noise else BLUE for parameter in found],
            error_x={"type": "data", "array": [parameter.sd for parameter in found], "color": BLACK},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.add_vrect(x0=0, x1=floor, fillcolor=GRID, line_width=0, layer="below")
    subtitle = (
        f"Search {importances.search}: fANOVA over {importances.num_trials} trials, mean ± sd over forests. "
        "Grey band: what a random column reaches (mean + 2 sd); grey bars cannot be told from it."
    )
    finish(figure, results, "Importance of the searched settings", subtitle, 150 + 36 * len(found))
    figure.update_xaxes(title_text="share of the objective's variance", rangemode="tozero")
    return figure
