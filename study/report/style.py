"""How every figure looks: Okabe and Ito's colours, which colour-blind people tell apart, on white."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe & Ito, "Color Universal Design" (2008), without the yellow that is faint on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222"
)  # fmt: skip
COLOURS = (BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("solid", "dash", "dot")
GREY = "#8a8a8a"
GRID = "#e6e6e6"
DIVERGING = [[0.0, BLUE], [0.5, "#f7f7f7"], [1.0, VERMILION]]
FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif'


def style_of(index: int) -> dict[str, str]:
    """Colour and dash of the row at this place; the pair is unique for 21 rows."""
    return {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index // len(COLOURS) % len(DASHES)]}


def translucent(colour: str, share: float) -> str:
    """`#0072b2` as `rgba(0, 114, 178, share)`."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {share:g})"


def finish(figure: "Figure", title: str, warning: str, subtitle: str, height: int) -> "Figure":
    """Give a figure its title and calm axes.

    Parameters
    ----------
    figure
        Changed in place, and returned.
    title, subtitle
        What it shows, and how to read it.
    warning
        What `warning_of` says of the results: a figure that is shown alone still says that its data are simulated.
    height
        In pixels.
    """
    text = f"<b>{title}</b>{warning}<br><span style='font-size:12px;color:#555'>{subtitle}</span>"
    figure.update_layout(
        template=None,
        title={"text": text, "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top",
               "pad": {"t": 14, "l": 4}, "font": {"size": 16}},
        height=height,
        margin={"l": 60, "r": 20, "t": 90, "b": 50},
        font={"family": FONT, "size": 12, "color": BLACK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "font": {"family": FONT}},
    )  # fmt: skip
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "ticks": "outside", "tickcolor": GREY}
    figure.update_xaxes(**axis, automargin=True)
    figure.update_yaxes(**axis, automargin=True)
    return figure


def stretched(low: float, high: float, ends: Sequence[float]) -> tuple[float, float]:
    """A range that holds `ends` too, or the same range where they would leave less than half to what it holds."""
    wider = min(low, *ends), max(high, *ends)
    return wider if wider[1] - wider[0] <= 2 * (high - low) else (low, high)


def short(values: Sequence[float] | np.ndarray) -> list[Any]:
    """Plain numbers of five digits, undefined ones as None: small in the page, and any Plotly reads them."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in np.asarray(values, dtype=np.float64)]
