"""The application: its groups of commands, what they share, and how a mistake ends."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from study.options import LogFileOption, VerboseOption, VersionOption
from study.terminal import end_log, explained, keep_log, log
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from study.engine import Sources

_options = {"verbose": False}


GROUPS = ("Studies", "Results", "Storage")
"""Of commands, in the order of `--help`; each command names its own as `rich_help_panel`."""


class _Groups(TyperGroup):
    """Help lists the commands under the group that each is declared with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One block for each group, the commands of all of them aligned."""
        longest = max(map(len, self.commands))
        for group in GROUPS:
            lines = [
                (name.ljust(longest), command.get_short_help_str(formatter.width - 6 - longest))
                for name, command in self.commands.items()
                if getattr(command, "rich_help_panel", None) == group
            ]
            with formatter.section(group):
                formatter.write_dl(lines)


app = typer.Typer(
    name="whisq-study",
    cls=_Groups,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def whisq_study(verbose: VerboseOption = False, log_file: LogFileOption = None, version: VersionOption = False) -> None:
    """Search, ablate and judge WhisQ, a text-to-music MOS predictor: seeds, statistics and the paper's table."""
    _options["verbose"] = verbose
    if log_file is not None:
        keep_log(log_file)


def sources_of(
    file: Path | None,
    data: Path | None = None,
    features: Path | None = None,
    storage: str | None = None,
    out: Path | None = None,
    rows: str | None = None,
    seeds: str | None = None,
    base: Path | None = None,
    settings: Sequence[str] | None = None,
    name: str | None = None,
) -> "Sources":
    """What the options that all commands share say."""
    from study.config import default_file, parse_seeds, parse_settings
    from study.engine import Sources

    return Sources(
        file=default_file(file),
        data=data,
        features=features,
        storage=storage,
        out=out,
        base=base,
        settings=parse_settings(settings or ()),
        name=name,
        seeds=None if seeds is None else parse_seeds(seeds, "--seeds"),
        rows=() if rows is None else tuple(name.strip() for name in rows.split(",")),
    )


def _of_the_program_first(arguments: list[str]) -> list[str]:
    """The options of the whole program may stand behind a command, where people write them."""
    first, others = list[str](), list(arguments)
    for name in ("-v", "--verbose", "--log-file"):
        while name in others:
            place, length = others.index(name), 2 if name == "--log-file" else 1
            first += others[place : place + length]
            del others[place : place + length]
    first += (joined := [word for word in others if word.startswith("--log-file=")])
    return [*first, *(word for word in others if word not in joined)]


def run() -> None:
    """Do what the arguments say: one clean line per mistake instead of a traceback. Ends with SystemExit."""
    from study.cli import results, studies, upkeep  # noqa: F401  (each declares its commands)

    try:
        app(_of_the_program_first(sys.argv[1:]))
    except (InputError, OSError, MemoryError) as error:
        if _options["verbose"]:
            traceback.print_exc()
        for mistake in explained(error):
            log(f"error: {mistake}")
        sys.exit(2)
    finally:
        end_log()
