"""Two commits that take turns at the same task, each in a process of its own, on a machine that may be busy."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def serve(task: Callable[[], tuple[float, float]]) -> None:
    """The other end of `compare`: do the task and print what it returns, whenever a line comes in."""
    for _ in sys.stdin:
        print(json.dumps(task()), flush=True)


@dataclass(frozen=True)
class Turns:
    """Medians over the turns of both commits, and of the ratios of neighbouring turns (this version / the other)."""

    against: str
    theirs_ms_per_clip: float
    ours_ms_per_clip: float
    ratio: float
    cpu_ratio: float
    ratios: list[float]
    cpu_ratios: list[float]

    def text(self) -> str:
        """For people."""
        return (
            f"{self.against}: {self.theirs_ms_per_clip:.2f} ms per clip, this version: {self.ours_ms_per_clip:.2f}\n"
            f"median of {len(self.ratios)} paired ratios: {self.ratio:.3f} (processor time {self.cpu_ratio:.3f})\n"
            f"each: {self.ratios}, processor time {self.cpu_ratios}"
        )


def compare(revision: str, command: list[str], repeats: int) -> Turns:
    """Time what `command` serves, by this version and another commit in turn; the first round only warms up."""
    with ExitStack() as stack:
        other = stack.enter_context(_checked_out(revision))
        servers = [stack.enter_context(_server(tree, command)) for tree in (other, ROOT)]
        rounds = []
        for turn in range(repeats + 1):
            order = (0, 1) if turn % 2 else (1, 0)
            taken = {place: _ask(servers[place]) for place in order}
            rounds.append((*taken[0], *taken[1]))
    theirs, theirs_cpu, ours, ours_cpu = np.array(rounds[1:]).T
    return Turns(
        revision,
        float(np.median(theirs)),
        float(np.median(ours)),
        float(np.median(ours / theirs)),
        float(np.median(ours_cpu / theirs_cpu)),
        [round(float(ratio), 3) for ratio in ours / theirs],
        [round(float(ratio), 3) for ratio in ours_cpu / theirs_cpu],
    )


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """The tree of a commit, with its kernels."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--detach", tree, revision], cwd=ROOT, check=True, capture_output=True
        )
        try:
            script = ["setup.py"] if (tree / "setup.py").exists() else ["-c", "from setuptools import setup; setup()"]
            build = [sys.executable, *script, "build_ext", "--inplace"]
            subprocess.run(build, cwd=tree, check=True, capture_output=True)
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


@contextmanager
def _server(tree: Path, command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """The command with the modules of this tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], env=environment, **pipes) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _ask(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Milliseconds per clip of one epoch, and processor milliseconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("epoch\n")
    process.stdin.flush()
    wall, cpu = json.loads(process.stdout.readline())
    return wall, cpu
