"""Commands that look after a storage."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app
from study.options import (
    DEFAULT_FEATURES,
    DEFAULT_STORAGE,
    FeaturesOption,
    FileArgument,
    StorageOption,
    WaitOption,
)
from study.terminal import show


@app.command(rich_help_panel="Storage")
def dashboard(
    storage: StorageOption = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8080,
) -> None:
    """Start optuna-dashboard on the storage and its artifacts.

    It listens on 127.0.0.1 only. Each table and each search is a study there, with a note, figures and files.
    """
    from study.dashboard import serve

    serve(storage, port)


@app.command(rich_help_panel="Storage")
def doctor(
    file: FileArgument = None,
    data: Annotated[Path | None, typer.Option("--data", help="Also look at this corpus and its features.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    features: FeaturesOption = DEFAULT_FEATURES,
    out: Annotated[Path, typer.Option("--out", help="The results folder.")] = Path("results"),
    fix: Annotated[bool, typer.Option("--fix", help="Carry out what can be mended in place.")] = False,
) -> None:
    """Name what is missing, stuck or broken, and its remedy.

    Exit status 1 when there is anything, 0 when all is well or --fix has mended it.
    """
    from study.config import default_file
    from study.doctor import DoctorRequest, diagnose

    lines, healthy = diagnose(DoctorRequest(storage, features, out, default_file(file), data), fix=fix)
    show("\n".join(lines))
    raise typer.Exit(0 if healthy else 1)


@app.command(rich_help_panel="Storage")
def rm(
    target: Annotated[str, typer.Argument(help="A table or search, or TABLE/ROW.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this option it is only told.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    wait: WaitOption = False,
) -> None:
    """Remove a table, a row or a search with its runs.

    Runs that another table shows stay. The dashboard loses what is removed; the files of a table in its results folder
    stay, those of a row's table are written anew.
    """
    from study.stored import remove_stored

    show(remove_stored(storage, target, yes=yes, wait=wait))
