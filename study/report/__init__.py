"""A table in every format, its figures, and the page that holds both.

`judge_table` gives the verdicts of a table's stored results, `write_tables` the files, `figures` Plotly figures and
`write_report` the page; all read stored results only. Colours and `finish` are for rooms that draw further figures.
"""

from study.report.method import warning_of
from study.report.page import figures, write_report
from study.report.style import BLACK, BLUE, GREY, GRID, finish
from study.report.tables import write_tables
from study.report.verdicts import judge_table

__all__ = [
    "BLACK",
    "BLUE",
    "GREY",
    "GRID",
    "figures",
    "finish",
    "judge_table",
    "warning_of",
    "write_report",
    "write_tables",
]
