"""Commands that look at results, ours or published ones; none of them trains."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app, sources_of
from study.options import (
    DEFAULT_STORAGE,
    DataOption,
    FileArgument,
    JsonOption,
    OutOption,
    StorageOption,
    SystemTruth,
)


@app.command(rich_help_panel="Results")
def report(file: FileArgument = None, storage: StorageOption = DEFAULT_STORAGE, out: OutOption = None) -> None:
    """Write tables, figures and an HTML page from what is stored.

    Nothing is trained. The page is self-contained: it opens offline and can be sent to anyone.
    """
    from study import ablation

    typer.echo(ablation.report(sources_of(file, storage=storage, out=out)))


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
    from study.scoring import score_file

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


@app.command(rich_help_panel="Results")
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or table/row/seed; table/row: mean of seeds.")],
    clips: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Sound files, folders, or a CSV: audio,prompt.")
    ],
    prompt: Annotated[str | None, typer.Option("--prompt", help="The text that the clips were made from.")] = None,
    audio: Annotated[str | None, typer.Option("--audio", help="Where the audio encoder lies, if elsewhere.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Where the text encoder lies, if elsewhere.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write instead of the terminal.")] = None,
    features: Annotated[
        Path | None, typer.Option("--features", help="Keep encoded clips in this folder. Default: keep nothing.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Clips that are encoded at the same time.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Predict OMQ and TA of any clips with a saved model.

    Models come from `ablate --save-models`. The answer is a CSV: audio,prompt,omq,ta, and with all seeds of a row their
    mean and standard deviation. Other encoder weights than those of the training are refused.
    """
    from study.models import Model, clips_of, write_predictions
    from study.terminal import item_progress, log

    wanted = clips_of(clips, prompt)
    loaded = Model.from_folder(model, audio, text)
    if loaded.warning:
        log(f"warning: {loaded.warning}")
    with item_progress("predict") as move:
        write_predictions(loaded.batches(wanted, features, workers, move), out, as_json, sys.stdout)
