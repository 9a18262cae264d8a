"""Running `whisq-study` as a user does: its arguments in, exit status and both streams out."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from study.cli.app import run as main

SCRIPT = Path(sys.executable).with_name("whisq-study")
# One thread per process: the machine's cores are shared with other tests.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@dataclass(frozen=True)
class Finished:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that name mistakes, without their beginning."""
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


def run(folder: Path, *arguments: object) -> Finished:
    """Run a command in this process, which saves the imports, with `folder` as the working directory."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["whisq-study", *map(str, arguments)]
    with (
        contextlib.chdir(folder),
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Finished(status, out.getvalue(), err.getvalue())


def run_script(folder: Path, *arguments: object) -> Finished:
    """Run the installed console script in a process of its own."""
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def started_script(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The console script as the leader of a process group of its own, its stderr to be read line by line."""
    with subprocess.Popen(
        [SCRIPT, *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
