"""A table of stored results in every format: Markdown, LaTeX, HTML and two CSV files.

`judge_table` gives the verdicts, `write_tables` the files; `table_frame` gathers what all formats show. Nothing here
draws or loads a plotting library: tables are written anew after every cell.
"""

from study.tables.formats import FORMATS, write_tables
from study.tables.frame import Declared, TableFrame, TableRow, TableSection, table_frame
from study.tables.html import STYLE, Placed, html_tables, listed, warnings
from study.tables.method import UNTRAINED_MARK, marks, plugin_metric, row_marks, sentences, untrained_rows, warning_of
from study.tables.numbers import number
from study.tables.verdicts import judge_table

__all__ = [
    "FORMATS",
    "STYLE",
    "UNTRAINED_MARK",
    "Declared",
    "Placed",
    "TableFrame",
    "TableRow",
    "TableSection",
    "html_tables",
    "judge_table",
    "listed",
    "marks",
    "number",
    "plugin_metric",
    "row_marks",
    "sentences",
    "table_frame",
    "untrained_rows",
    "warning_of",
    "warnings",
    "write_tables",
]
