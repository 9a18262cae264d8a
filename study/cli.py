"""The command line: parse, call one function, print. Heavy imports live inside the commands, so that --help is quick."""

import sys
from pathlib import Path
from typing import Annotated

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
    Path | None, typer.Argument(help="Ablation file. Default: ablations.yaml here, else the Table II file shipped inside.")
]
DataOption = Annotated[Path, typer.Option("--data", help="MusicEval folder or CSV manifest.", show_default=False)]
StorageOption = Annotated[
    str, typer.Option("--storage", help="sqlite:///FILE.db, or postgresql+psycopg://USER:PASSWORD@HOST/DB for several machines.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for tables. Default: results/<name of the file>.")]
FeaturesOption = Annotated[
    Path, typer.Option("--features", envvar="WHISQ_FEATURES", help="Root of the feature stores, shared by all studies.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Processes on this machine. Default: the cores.")]
RowsOption = Annotated[str | None, typer.Option("--rows", help="Only these rows: whisq,no_ot.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Instead of the file's seeds: 0-9 or 0,1,5.")]
BaseOption = Annotated[Path | None, typer.Option("--base", help="Settings over the file's base, such as best.yaml of a search.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

DEFAULT_STORAGE = "sqlite:///results/whisq.db"
DEFAULT_FEATURES = Path("results/features")


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
    plan: Annotated[bool, typer.Option("--plan", help="Print state, reason and minutes of each cell, and stop.")] = False,
    save_models: Annotated[bool, typer.Option("--save-models", help="Keep each trained model under OUT/models.")] = False,
) -> None:
    """Run every cell (row x seed) that is missing, and write the table as CSV, Markdown, LaTeX and HTML.

    Run it again and nothing retrains; change a row and only its cells run. Exit status: 0 all cells are there,
    1 some failed (the table says which), 2 the input is wrong (nothing was started).
    """
    from study import ablate as ablation
    from study.ablation_file import default_file, parse_seeds

    path = default_file(file)
    request = ablation.AblateRequest(
        file=path,
        data=data,
        features=features,
        storage=storage,
        out=out or Path("results") / path.stem.replace("ablations", "table2"),
        rows=tuple(rows.split(",")) if rows else (),
        seeds=parse_seeds(seeds, "--seeds") if seeds else None,
        base=base,
        workers=workers or _cores(),
        save_models=save_models,
    )
    prepared = ablation.prepare(request)
    if plan:
        typer.echo(ablation.show_plan(prepared))
        return
    results = ablation.run(prepared)
    typer.echo((request.out / "table.md").read_text(encoding="utf-8"))
    raise typer.Exit(ablation.exit_status(prepared, results))


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """The console script: one clean line per mistake instead of a traceback."""
    try:
        app()
    except InputError as error:
        for mistake in error.mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what was finished is saved, run the same command to go on", file=sys.stderr)
        sys.exit(130)
