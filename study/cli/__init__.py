"""The command line: parse, call one door, print. Heavy imports live inside the commands: --help is quick.

`app` holds the application; `studies`, `results` and `upkeep` one group of commands each, in the order of `--help`.
"""

import os
import signal
import sys

from study.interrupts import heeding_ctrl_c

_INTERRUPTED = 130  # the exit status that Typer makes of Ctrl-C


def main() -> None:
    """The console script: Ctrl-C is heeded as soon as this package is there, and until the work has ended."""
    _open_streams()
    status: object = 0
    try:
        with heeding_ctrl_c():
            from study.cli.app import run

            run()
    except KeyboardInterrupt:  # while the program was imported
        status = _INTERRUPTED
    except SystemExit as end:
        status = end.code
    for number in (signal.SIGINT, signal.SIGTERM):  # there is nothing left to end
        signal.signal(number, signal.SIG_IGN)
    if status == _INTERRUPTED:
        print("stopped; what was finished is saved, run the same command to go on", file=sys.stderr)
    sys.exit(status)  # type: ignore[arg-type]


def _open_streams() -> None:
    """A stream that was closed by who started this goes nowhere, and no file of ours is opened in its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
