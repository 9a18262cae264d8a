"""A table's figures, and the page that holds tables, figures, checks and protocol.

`figures` draws what is stored, `write_report` writes the page. Colours and `finish` are for rooms that draw further
figures.
"""

from study.report.page import difference_figure, figures, write_report
from study.report.style import BLACK, BLUE, COLOURS, GREY, GRID, VERMILION, finish

__all__ = [
    "BLACK",
    "BLUE",
    "COLOURS",
    "GREY",
    "GRID",
    "VERMILION",
    "difference_figure",
    "figures",
    "finish",
    "write_report",
]
