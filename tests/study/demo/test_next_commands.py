"""What the demo prints at its end is typed as it stands, in bash and in zsh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ACTIVATE = Path(sys.executable).with_name("activate")
NOT_ACTIVATED = {**os.environ, "PATH": os.defpath}


def printed_in(folder: Path, environment: dict[str, str]) -> list[str]:
    """The lines that the demo prints in `folder`."""
    program = "from study.demo.run import next_commands; print(next_commands('sqlite:///my results/whisq.db'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_where_the_shell_finds_whisq_study_nothing_has_to_be_activated(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{ACTIVATE.parent}{os.pathsep}{os.defpath}"}

    assert printed_in(tmp_path, environment) == [
        "whisq-study dashboard --storage 'sqlite:///my results/whisq.db'",
    ]


@pytest.mark.skipif(not ACTIVATE.is_file(), reason="not in a virtual environment")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_elsewhere_the_first_line_puts_whisq_study_on_the_path(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    folder = ACTIVATE.parent.parent.parent
    first, second = printed_in(folder, NOT_ACTIVATED)

    assert first == f". {ACTIVATE.relative_to(folder)}"
    typed = f"{first}\ncommand -v whisq-study\n{second} --help"
    found = subprocess.run(
        [str(shutil.which(shell)), "-c", typed], cwd=folder, env=NOT_ACTIVATED, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"{ACTIVATE.with_name('whisq-study')}\n")
