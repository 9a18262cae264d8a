"""Commands that look at results, ours or published ones; none of them trains."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app, sources_of
from study.cli.show import show_frame
from study.options import (
    DEFAULT_FEATURES,
    DEFAULT_STORAGE,
    BaseOption,
    FeaturesOption,
    FileArgument,
    JsonOption,
    NameOption,
    OutOption,
    SetOption,
    StorageOption,
    SystemTruth,
)
from study.terminal import log, show
from whisq_core.errors import InputError, raise_all


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

    show(ablation.report(sources_of(file, storage=storage, out=out, base=base, settings=settings, name=name)))


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
        show(stored.repeat(stored.find_run(database, repeat), data, features))
        return
    found = stored.look_up(database, what, state, metric)
    if isinstance(found, stored.Run):
        show(json.dumps(stored.described(found), indent=1) if as_json else stored.run_text(found))
    else:
        show(stored.as_json(found)) if as_json else show_frame(found)


_Predictions = Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV files, answer.txt, or its zip.")]
_Labels = Annotated[
    Path | None, typer.Option("--data", help="Corpus whose labels are the truth: MusicEval folder or CSV.")
]
_Split = Annotated[str, typer.Option("--split", help="Of the corpus: train, dev or test.")]
_Truth = Annotated[
    SystemTruth, typer.Option("--system-truth", help="Of one file. clips: mean of scored clips; csv: system_mos.")
]
_To = Annotated[str | None, typer.Option("--to", help="Row to compare the others with. Default: the first.")]
_Metric = Annotated[
    str | None,
    typer.Option("--metric", help="srcc, lcc, ktau, mse, system.srcc, mean, accuracy, a plug-in's, ..."),
]
_Margin = Annotated[float, typer.Option("--margin", help="Difference that counts as none, in the metric's unit.")]
_Lower = Annotated[bool, typer.Option("--lower-is-better", help="For the mean of costs or errors.")]
_Pattern = Annotated[
    str | None, typer.Option("--pattern", help="Row and seed in file names: '{row}/seed{seed}/*.csv'.")
]
_Columns = Annotated[
    str | None, typer.Option("--columns", help="Columns with other names: row=model,item=clip,prediction=p.")
]
_Folder = Annotated[Path | None, typer.Option("--out", help="Folder for the table as md, csv, tex and html.")]


@app.command(rich_help_panel="Results")
def evaluate(
    ctx: typer.Context,
    predictions: _Predictions,
    data: _Labels = None,
    split: _Split = "dev",
    system_truth: _Truth = "clips",
    to: _To = None,
    metric: _Metric = None,
    margin: _Margin = 0.01,
    lower_is_better: _Lower = False,
    pattern: _Pattern = None,
    columns: _Columns = None,
    out: _Folder = None,
    as_json: JsonOption = False,
) -> None:
    """Metrics of one predictions file, verdicts of several.

    One answer file (utterance,OMQ,TA) with --data gives its 16 metrics. Predictions of several rows (models, methods),
    with several seeds each, give a table: is a difference to the row --to more than the noise of seeds and items? They
    need not be of this project. A CSV has a header and one line for each prediction:

    row,seed,item,group,truth,prediction[,second_group]

    row and seed may instead stand in the file's name (ours-seed3.csv, ours/seed3/pred.csv, or --pattern). Without seed
    a row is one run; without group (system, speaker, document: items that share their errors) items count as
    independent; second_group is crossed with it (prompt). Without truth the mean of the predictions is judged: a column
    correct of 0 and 1, or any score. Common other names of columns are understood; --columns tells the rest.
    """
    from study.columns import read_choices
    from study.scoring import judge, numbered_rows, read_files, score_file, wants_scores

    if out is not None:
        from study.ablation import owner_of

        if owner := owner_of(out):
            raise InputError(f"--out {out}: holds table '{owner}' of an ablation file. Give another folder.")
    of_one = data is not None and wants_scores(predictions, pattern, to, metric)
    _check_effect(ctx, data is not None, of_one)
    if data is not None and of_one:
        scores = score_file(predictions[0], data, split, system_truth)
        show(scores.to_json() if as_json else scores.to_text())
        return
    found = read_files(predictions, pattern, read_choices(columns), data, split, accuracy=metric == "accuracy")
    table = judge(found, to, metric, margin, lower_is_better=lower_is_better, name=out.name if out else "predictions")
    if not pattern and (hint := numbered_rows(list(found.predicted), predictions)):
        log(f"note: {hint}")
    show(table.to_json() if as_json else table.text())
    for path in table.write(out) if out else ():
        log(f"table   {path}")


def _check_effect(ctx: typer.Context, with_data: bool, of_one: bool) -> None:
    """Refuse options that `evaluate` would ignore."""
    ignored, reason = ["system_truth"], "the 16 metrics of one answer file. Give one"
    if not with_data:
        ignored, reason = ["split", "system_truth"], "the labels of a corpus. Give --data DIR"
    elif of_one:
        ignored = ["margin", "lower_is_better", "columns", "out"]
        reason = "verdicts, and one answer file gives its 16 metrics. Give several files, or --metric"
    sources = {name: ctx.get_parameter_source(name) for name in ignored}
    given = [name.replace("_", "-") for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    raise_all([f"--{name}: goes with {reason}, or leave it out." for name in given])


@app.command(rich_help_panel="Results")
def audit(
    table: Annotated[
        Path | None, typer.Argument(help="CSV of a published table. Default: Table II of the paper.")
    ] = None,
    systems: Annotated[
        int | None, typer.Option("--systems", help="Number of systems behind its system-level columns.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", help="Each number is the mean of so many runs. Default: nobody knows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which published numbers can occur at all.

    A rank correlation of n systems can only have certain values; where we have intervals, it says who lies inside.
    """
    from study.audit import audit as check

    outcome = check(table, systems, runs)
    show(outcome.json() if as_json else outcome.text())


@app.command(rich_help_panel="Results")
def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder of a saved model, or table/row/seed; table/row: mean of seeds."),
    ],
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
    from study.terminal import item_progress

    wanted = clips_of(clips, prompt)
    loaded = Model.from_folder(model, audio, text)
    if loaded.warning:
        log(f"warning: {loaded.warning}")
    with item_progress("predict") as move:
        write_predictions(loaded.batches(wanted, features, workers, move), out, as_json, sys.stdout)
