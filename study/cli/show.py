"""Tables on standard output: for a reader's eyes in a terminal, as Markdown where it is a file or a pipe."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.terminal import show

if TYPE_CHECKING:
    import pandas as pd


_WIDE, _MIDDLE = 150, 110  # letters from which the intervals and the reasons of verdicts have room


def show_frame(frame: "pd.DataFrame") -> None:
    """Print a list, one line for each row."""
    texts = [["" if value != value else str(value) for value in line] for line in frame.itertuples(index=False)]
    if sys.stdout.isatty():
        _draw(list(frame.columns), texts)
    else:
        lines = [list(frame.columns), ["---"] * len(frame.columns), *texts]
        show("\n".join(f"| {' | '.join(line)} |" for line in lines))


def show_table(out: Path) -> None:
    """Print the table in a folder: in a terminal its verdicts, elsewhere all of its Markdown."""
    markdown = (out / "table.md").read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        show(markdown)
        return
    before, _, rest = markdown.partition("\n| ")
    verdicts = "| " + rest.partition("\n\n")[0]
    head, _, *lines = map(_cells, verdicts.splitlines())
    width = shutil.get_terminal_size().columns
    hidden = ("relative", *(() if width >= _WIDE else ("95 %",)), *(() if width >= _MIDDLE else ("p (",)))
    shown = [
        place for place, name in enumerate(head) if any(line[place] for line in lines) and not name.startswith(hidden)
    ]
    head, *lines = ([line[place] for place in shown] for line in (head, *lines))
    if width < _MIDDLE:
        lines = [[*line[:-1], line[-1].partition(":")[0]] for line in lines]
    show(before.replace("**", "").replace("# ", "").replace("#", "").strip())
    _draw(head, lines)
    show(f"all metrics, notes and protocol: {out / 'table.md'}; page: {out / 'report.html'}")


def _cells(line: str) -> list[str]:
    """The cells of a line of Markdown; of a section's heading the title alone."""
    *others, last = (cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|"))
    return [cell.replace("**", "") for cell in (*(cell.partition("**: ")[0] for cell in others), last)]


def _draw(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    longest = max((len(line[0]) for line in lines if any(line[1:])), default=None)  # headings of sections may be longer
    for place, name in enumerate(head):
        table.add_column(name, no_wrap=name != "verdict", max_width=None if place else longest)
    for line in lines:
        table.add_row(*line, style=None if any(line[1:]) else "bold")
    width = shutil.get_terminal_size().columns
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)
