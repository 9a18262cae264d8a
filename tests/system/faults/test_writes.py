"""Disks that are full, read-only or broken, at every call that writes: one line, and nothing that was there is lost."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.faults import FAULTY, Outcome, outcome_of
from helpers.forked import Answer, Commands
from helpers.malformed import also_long

ERRORS = [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES]
CALLS = ["replace", "fsync", "open", "mkdir"]
_COMMANDS = also_long(["ablate", "encode", "optimize", "report"])


def check_explained(answer: Answer) -> None:
    """Whether a command that could not write ended in lines for a person."""
    assert answer.status in (0, 1, 2), answer
    assert "Traceback" not in answer.err, answer
    assert answer.status == 0 or answer.errors or "failed: " in answer.err, answer


def check_mended(commands: Commands, folder: Path, command: str, undisturbed: dict[str, Outcome]) -> None:
    """The same command on a good disk ends as if nothing had happened."""
    answer = commands.run(folder, *FAULTY[command].split())
    assert answer.status == 0, answer
    assert outcome_of(folder, command) == undisturbed[command]


@pytest.mark.parametrize("number", also_long(range(12)))
@pytest.mark.parametrize("call", also_long(CALLS, 2))
@pytest.mark.parametrize("command", _COMMANDS)
def test_a_call_that_fails_is_explained_and_what_follows_is_whole(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], command: str, call: str, number: int
) -> None:
    choose = random.Random(f"{command} {call} {number}")
    if command == "report":
        assert commands.run(beginning, *FAULTY["ablate"].split()).status == 0
    failing = (call, choose.randrange(1, 30), choose.choice(ERRORS))

    answer = commands.run(beginning, *FAULTY[command].split(), failing=failing)

    check_explained(answer)
    check_mended(commands, beginning, command, undisturbed)


@pytest.mark.parametrize("number", also_long(range(20)))
@pytest.mark.parametrize("command", _COMMANDS)
def test_files_that_may_not_grow_are_explained_and_what_follows_is_whole(
    commands: Commands, beginning: Path, undisturbed: dict[str, Outcome], command: str, number: int
) -> None:
    if command == "report":
        assert commands.run(beginning, *FAULTY["ablate"].split()).status == 0
    size = int(2 ** random.Random(f"{command} {number}").uniform(12, 19))  # the answer itself is a file too

    answer = commands.run(beginning, *FAULTY[command].split(), limits={"RLIMIT_FSIZE": size})

    check_explained(answer)
    check_mended(commands, beginning, command, undisturbed)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; only where the tests may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def _remounted(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.mark.parametrize("number", also_long(range(6)))
@pytest.mark.parametrize("command", also_long(["ablate", "encode", "optimize"]))
def test_a_full_disk_is_explained_and_what_follows_is_whole(
    commands: Commands, inputs: Path, mounted: Path, undisturbed: dict[str, Outcome], command: str, number: int
) -> None:
    shutil.copytree(inputs, mounted, dirs_exist_ok=True)
    free = os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize
    filler = mounted / "filler"
    filler.write_bytes(bytes(int(free * random.Random(number).uniform(0.5, 1))))

    answer = commands.run(mounted, *FAULTY[command].split())

    check_explained(answer)
    filler.unlink()
    _remounted(mounted, "size=100m")
    check_mended(commands, mounted, command, undisturbed)


@pytest.mark.slow
def test_a_finished_study_on_a_read_only_disk_is_read(
    commands: Commands, inputs: Path, mounted: Path, tmp_path: Path, undisturbed: dict[str, Outcome]
) -> None:
    _remounted(mounted, "size=100m")
    shutil.copytree(inputs, mounted, dirs_exist_ok=True)
    assert commands.run(mounted, *FAULTY["ablate"].split()).status == 0
    _remounted(mounted, "ro")
    elsewhere = f"--storage sqlite:///{tmp_path}/whisq.db --out {tmp_path}/out"

    read = commands.run(mounted, *f"report table.yaml --storage sqlite:///whisq.db --out {tmp_path}/out".split())
    planned = commands.run(mounted, *f"{FAULTY['ablate']} --plan --out {tmp_path}/out".split())
    trained = commands.run(mounted, *f"ablate table.yaml --data corpus --features features {elsewhere}".split())
    refused = commands.run(mounted, *FAULTY["ablate"].split())

    assert read.status == 0, read
    assert trained.status == 0, trained
    assert (tmp_path / "out/table.csv").read_bytes() == undisturbed["ablate"].files["table.csv"]
    assert planned.status in (0, 2), planned
    assert refused.status == 2
    assert "Read-only" in refused.err or "cannot be written" in refused.err, refused
