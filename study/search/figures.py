"""Plotly figures of a search: history, parallel coordinates, slices, learning curves, importance."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from study.config import Search
from study.search.importance import Importances
from study.search.objective import objective_name
from study.search.params import param_name
from whisq_core.files import write_atomically

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def search_figures(study: optuna.Study, search: Search) -> dict[str, "Figure"]:
    """All figures by name; empty while no trial is complete. Ranges that are searched by logarithm are drawn so."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return {}
    name = objective_name(search.objective)
    params = [param_name(setting, where) for setting, where in search.space.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        figures = {
            "search_history": optuna.visualization.plot_optimization_history(study, target_name=name),
            "search_parallel": optuna.visualization.plot_parallel_coordinate(study, params=params, target_name=name),
            "search_slices": optuna.visualization.plot_slice(study, params=params, target_name=name),
            "search_curves": optuna.visualization.plot_intermediate_values(study),
        }
    figures["search_curves"].update_layout(
        title="Learning curves", xaxis_title="Epoch", yaxis_title=f"{name} ({search.score})"
    )
    return figures


def write_figures(figures: Mapping[str, "Figure"], path: Path) -> None:
    """All figures on one page that needs no network."""
    parts = []
    for index, figure in enumerate(figures.values()):
        parts.append(figure.to_html(full_html=False, include_plotlyjs=index == 0))
    page = "\n".join(['<!doctype html><meta charset="utf-8"><title>Search</title>', *parts])
    write_atomically(path, [page.encode()])


def importance_figure(found: Importances, warning: str = "") -> "Figure":
    """The share of the objective's variance that each searched setting explains; `warning` is the table's."""
    import plotly.graph_objects as go

    from study.report import BLACK, BLUE, GREY, GRID, finish

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
