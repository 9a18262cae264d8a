"""Commands that look at results, ours or published ones; none of them trains."""

from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app, sources_of
from study.options import (
    DEFAULT_STORAGE,
    BaseOption,
    DataOption,
    FileArgument,
    JsonOption,
    NameOption,
    OutOption,
    SetOption,
    StorageOption,
    SystemTruth,
)


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
