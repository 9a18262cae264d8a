"""Commands that look at results, ours or published ones; none of them trains."""

import json
from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app, sources_of
from study.cli.show import show_frame
from study.options import (
    DEFAULT_FEATURES,
    DEFAULT_STORAGE,
    BaseOption,
    DataOption,
    FeaturesOption,
    FileArgument,
    JsonOption,
    NameOption,
    OutOption,
    SetOption,
    StorageOption,
    SystemTruth,
)
from whisq_core.errors import InputError


@app.command(rich_help_panel="Results")
def report(
    file: FileArgument = None,
    base: BaseOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    out: OutOption = None,
) -> None:
    """Write tables, figures and an HTML page from what is stored.

    Nothing is trained. The page is self-contained: it opens offline and can be sent to anyone.
    """
    from study import ablation

    typer.echo(ablation.report(sources_of(file, storage=storage, out=out, base=base, settings=settings, name=name)))


@app.command(rich_help_panel="Results")
def runs(
    what: Annotated[
        str | None, typer.Argument(help="A table or search, TABLE/ROW, TABLE/ROW/SEED, or the id of a run.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only runs in this state: done or failed.")] = None,
    metric: Annotated[str, typer.Option("--metric", help="The metric to list.")] = "ta.utterance.srcc",
    repeat: Annotated[
        str | None, typer.Option("--repeat", help="Train this run again and compare its predictions bit by bit.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The corpus of the run to repeat.")] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    features: FeaturesOption = DEFAULT_FEATURES,
    as_json: JsonOption = False,
) -> None:
    """List what is stored, or show one run with all of it.

    Without an argument the tables and searches; of a table its runs; of a run its settings, metrics, curve and what it
    was made with. --repeat trains a stored run again from just that; it stores nothing.
    """
    from study import stored

    database = stored.open_stored(storage)
    if repeat is not None:
        if data is None:
            raise InputError("--repeat: needs the corpus of the run. Give --data.")
        typer.echo(stored.repeat(stored.find_run(database, repeat), data, features))
        return
    found = stored.look_up(database, what, state, metric)
    if isinstance(found, stored.Run):
        typer.echo(json.dumps(stored.described(found), indent=1) if as_json else stored.run_text(found))
    else:
        typer.echo(stored.as_json(found)) if as_json else show_frame(found)


@app.command(rich_help_panel="Results")
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="answer.txt, its zip, or a CSV with utterance, omq, ta.")],
    data: DataOption,
    split: Annotated[str, typer.Option("--split", help="train, dev or test.")] = "dev",
    system_truth: Annotated[
        SystemTruth, typer.Option("--system-truth", help="clips: mean of the scored clips; csv: system_mos.")
    ] = "clips",
    as_json: JsonOption = False,
) -> None:
    """The 16 metrics of a predictions file, ours or anybody's."""
    from study.evaluate import score_file

    scores = score_file(predictions, data, split, system_truth)
    typer.echo(scores.to_json() if as_json else scores.to_text())


@app.command(rich_help_panel="Results")
def audit(
    table: Annotated[
        Path | None, typer.Argument(help="CSV of a published table. Default: Table II of the paper.")
    ] = None,
    systems: Annotated[
        int | None, typer.Option("--systems", help="Number of systems behind its system-level columns.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which published numbers can occur at all.

    A rank correlation of n systems can only have certain values; where we have intervals, it says who lies inside.
    """
    from study.audit import audit as check

    outcome = check(table, systems)
    typer.echo(outcome.json() if as_json else outcome.text())
