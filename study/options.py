"""The options that several commands have, declared once: they mean the same everywhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DEFAULT_STORAGE = "sqlite:///results/whisq.db"
DEFAULT_FEATURES = Path("results/features")

FileArgument = Annotated[
    Path | None,
    typer.Argument(help="Ablation file. Default: ablations.yaml here, else the Table II file shipped inside."),
]
DataOption = Annotated[Path, typer.Option("--data", help="MusicEval folder or CSV manifest.", show_default=False)]
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="WHISQ_STORAGE",
        help="Where runs are stored: sqlite:///FILE.db, or postgresql+psycopg://USER:PASSWORD@HOST/DB.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder for tables. Default: results/<name of the file>.")
]
FeaturesOption = Annotated[
    Path, typer.Option("--features", envvar="WHISQ_FEATURES", help="Root of the feature stores, shared by all studies.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Processes on this machine. Default: one per GPU, else per core; 1: this process."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="Compute on a running Dask cluster: its address (tcp://HOST:8786) or scheduler file."
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="auto: CUDA where there is one, else the CPU.")
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Clips at a time. Default: 1 on a CPU, else what the encoder takes."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait while another command writes to the storage, instead of stopping.")
]
RowsOption = Annotated[
    str | None, typer.Option("--rows", help="Compute only these rows: whisq,no_ot. The table shows all that is stored.")
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Compute only these of the file's seeds: 0-4 or 0,1,5.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the table. Default: the file's, with what is different where it is taken."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting over the file's base, as NAME=VALUE; may be given several times."),
]
BaseOption = Annotated[
    Path | None, typer.Option("--base", help="Settings over the file's base, such as best.yaml of a search.")
]
SystemTruth = Literal["clips", "csv"]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"whisq-study {version('whisq-study')}")
        raise typer.Exit


VerboseOption = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show the traceback of a mistake as well as its line.")
]
LogFileOption = Annotated[
    Path | None, typer.Option("--log-file", help="Also append what is shown while it runs to this file.")
]
VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
]
