"""Tables on standard output: for a reader's eyes in a terminal, as Markdown where it is a file or a pipe."""

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd


def show_frame(frame: "pd.DataFrame") -> None:
    """Print a list, one line for each row."""
    texts = [["" if value != value else str(value) for value in line] for line in frame.itertuples(index=False)]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*frame.columns, box=None, header_style="bold")
        for line in texts:
            table.add_row(*line)
        Console(highlight=False).print(table, markup=False)
        return
    lines = [list(frame.columns), ["---"] * len(frame.columns), *texts]
    typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))


def show_table(markdown: str) -> None:
    """Print a table's Markdown: rendered in a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        typer.echo(markdown)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(markdown))
