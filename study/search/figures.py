"""Plotly figures of a search: candidates, history, parallel coordinates, slices, learning curves, importance."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from study.report import BLACK, BLUE, COLOURS, GREY, GRID, VERMILION, finish
from study.search.importance import Importances
from study.search.objective import objective_name
from study.search.params import param_name
from study.search.summary import SearchResult
from study.tables import STYLE
from whisq_core.files import write_atomically

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_CANDIDATES = "Blue: held-out seeds, whose mean chose the winner. Red: seeds and clips that chose nothing."


def search_figures(result: SearchResult) -> dict[str, "Figure"]:
    """All figures by name; empty while no trial is complete. Ranges that are searched by logarithm are drawn so."""
    if not result.candidates:
        return {}
    study, search, draw = result.study, result.plan.search, optuna.visualization
    name, warning = objective_name(search.objective), " — simulated data †" if result.corpus.simulated else ""
    params = [param_name(setting, where) for setting, where in search.space.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        drawn = {
            "Candidates": _candidates(result),
            "History": draw.plot_optimization_history(study, target_name=name),
            "Parallel": draw.plot_parallel_coordinate(study, params=params, target_name=name),
            "Slices": draw.plot_slice(study, params=params, target_name=name),
            "Curves": draw.plot_intermediate_values(study),
        }
    value = f"{name} on split '{search.score}', one seed: the best of many is too good."
    for title, figure in drawn.items():
        finish(figure, title, warning, _CANDIDATES if title == "Candidates" else value, 480)
        figure.update_layout(margin_b=70, colorway=COLOURS)
    drawn["Curves"].update_layout(xaxis_title="Epoch", yaxis_title=name)
    return {f"search_{title.lower()}": figure for title, figure in drawn.items()}


def _candidates(result: SearchResult) -> "Figure":
    """Every candidate's values of all three kinds, the winner first."""
    import plotly.graph_objects as go

    found = sorted(result.candidates, key=lambda each: each is not result.winner)
    figure = go.Figure()
    kinds: dict[str, tuple[str, str, list[tuple[float, ...]]]] = {
        "search value": (GREY, "x", [(each.search_value,) for each in found]),
        "held-out seeds": (BLUE, "circle-open", [each.held_out for each in found]),
        "held-out mean": (BLUE, "diamond-wide", [(each.mean,) for each in found]),
        "reported": (VERMILION, "diamond-open", [each.reported for each in found]),
    }
    labels = [f"trial {each.number}" + " (winner)" * (each is result.winner) for each in found]
    for kind, (colour, symbol, values) in kinds.items():
        x = [label for label, own in zip(labels, values, strict=True) for _ in own]
        y, marker = [value for own in values for value in own], {"color": colour, "symbol": symbol, "size": 10}
        figure.add_scatter(x=x, y=y, mode="markers", name=kind, marker=marker)
    figure.update_yaxes(title_text=objective_name(result.plan.search.objective))
    return figure


def write_figures(figures: Mapping[str, "Figure"], path: Path) -> None:
    """All figures on one page that needs no network."""
    from plotly.offline import get_plotlyjs

    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Search</title><style>{STYLE}</style>'
    parts = (
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        for figure in figures.values()
    )
    write_atomically(path, ["\n".join([head, f"<script>{get_plotlyjs()}</script><h1>Search</h1>", *parts]).encode()])


def importance_figure(found: Importances, warning: str = "") -> "Figure":
    """The share of the objective's variance that each searched setting explains; `warning` is the table's."""
    import plotly.graph_objects as go

    bars = found.parameters[::-1]
    figure = go.Figure(
        go.Bar(
            x=[bar.mean for bar in bars],
            y=[bar.name for bar in bars],
            orientation="h",
            marker_color=[GREY if bar.is_noise else BLUE for bar in bars],
            error_x={"type": "data", "array": [bar.sd for bar in bars], "color": BLACK},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    floor = found.noise_mean + 2 * found.noise_sd
    figure.add_vrect(x0=0, x1=floor, fillcolor=GRID, line_width=0, layer="below")
    subtitle = (
        f"Search {found.search}: fANOVA over {found.num_trials} trials, mean ± sd over forests. "
        "Grey band: what a random column reaches (mean + 2 sd); grey bars cannot be told from it."
    )
    finish(figure, "Importance of the searched settings", warning, subtitle, 150 + 36 * len(bars))
    figure.update_xaxes(title_text="share of the objective's variance", rangemode="tozero")
    return figure
