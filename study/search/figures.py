"""Plotly figures of a search: candidates, history, parallel coordinates, slices, learning curves, importance."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from study.report import BLACK, BLUE, GREY, GRID, VERMILION, finish
from study.search.importance import Importances
from study.search.objective import objective_name
from study.search.params import param_name
from study.search.summary import SearchResult
from study.tables import STYLE
from whisq_core.files import write_atomically

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def search_figures(result: SearchResult) -> dict[str, "Figure"]:
    """All figures by name; empty while no trial is complete. Ranges that are searched by logarithm are drawn so."""
    if not result.candidates:
        return {}
    study, search, draw = result.study, result.plan.search, optuna.visualization
    name, warning = objective_name(search.objective), " — simulated data †" if result.corpus.simulated else ""
    params = [param_name(setting, where) for setting, where in search.space.items()]
    value = f"{name} on split '{search.score}'"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        figures = {
            "search_candidates": (_candidates(result), "Which configuration won", _CANDIDATES),
            "search_history": (
                draw.plot_optimization_history(study, target_name=name),
                "Search history",
                f"Each trial's {value}; the line is the best so far, which is too good.",
            ),
            "search_parallel": (
                draw.plot_parallel_coordinate(study, params=params, target_name=name), "Settings together",
                f"One line per trial, dark where {value} is good.",
            ),
            "search_slices": (
                draw.plot_slice(study, params=params, target_name=name), "Settings one by one",
                f"{value} against each setting, later trials darker.",
            ),
            "search_curves": (
                draw.plot_intermediate_values(study), "Learning curves", f"{value} while trials train."
            ),
        }  # fmt: skip
    return {
        key: finish(figure, title, warning, subtitle, 480).update_layout(margin={"l": 80, "b": 70})
        for key, (figure, title, subtitle) in figures.items()
    }


_CANDIDATES = (
    "Grey: the search's own value. Blue: held-out seeds, bar at their mean: it chose the winner. Red: seeds and clips "
    "that chose nothing."
)


def _candidates(result: SearchResult) -> "Figure":
    """Every candidate's values of all three kinds, the winner first."""
    import plotly.graph_objects as go

    found = sorted(result.candidates, key=lambda each: each is not result.winner)
    figure = go.Figure()
    kinds = (
        ("search value", GREY, "x", [(each.search_value,) for each in found]),
        ("held-out seeds", BLUE, "circle-open", [each.held_out for each in found]),
        ("held-out mean", BLUE, "line-ew-open", [(each.mean,) for each in found]),
        ("reported", VERMILION, "diamond", [each.reported for each in found]),
    )
    names = [
        f"trial {each.number}" + (" (winner)" if each is result.winner else " (first guess)" * each.is_first_guess)
        for each in found
    ]
    for kind, colour, symbol, values in kinds:
        points = [(name, value) for name, own in zip(names, values, strict=True) for value in own]
        marker = {"color": colour, "symbol": symbol, "size": 26 if kind == "held-out mean" else 9, "line_width": 2}
        figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], mode="markers", name=kind, marker=marker)
    figure.update_yaxes(title_text=objective_name(result.plan.search.objective))
    return figure


def write_figures(figures: Mapping[str, "Figure"], path: Path) -> None:
    """All figures on one page that needs no network."""
    from plotly.offline import get_plotlyjs

    parts = [figure.to_html(full_html=False, include_plotlyjs=False) for figure in figures.values()]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Search</title><style>{STYLE}</style>'
    page = "\n".join([head, f"<script>{get_plotlyjs()}</script><h1>Search</h1>", *parts])
    write_atomically(path, [page.encode()])


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
