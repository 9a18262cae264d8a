"""Commands as the README prints them: a shell gives them to the program, they are understood, and they run.

Also every command that the program, its files and the other pages name: it exists, with these options.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.command import run
from helpers.studies import Place
from typer.main import get_command

import study.cli.results
import study.cli.studies
import study.cli.upkeep  # noqa: F401  (they declare the commands)
from study.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELLS = ("bash", "zsh")
# The program prints its words; what stands around it in the README does nothing, or passes on to it.
STUBS = r"""
whisq-study() { printf '%s\0' "$@"; printf '\n\0'; }
srun() { while [[ $1 == --* ]]; do shift; done; "$@"; }
make() { :; }; dask() { :; }; pip() { :; }; uv() { :; }; pipx() { :; }; source() { :; }
"""
# `whisq-study NAME ...` in a text: what follows up to a quote, a backtick, a bracket or the end of the line.
NAMED = re.compile(r"""(?:f"|[`']|Run: |-> |^[ #]* )whisq-study (?P<words>[a-z]+\b[^`"'()\n;]*)""", re.MULTILINE)


def blocks() -> list[str]:
    """The README's blocks of commands that have one of ours."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    ours = re.compile(r"^(?:srun .*)?whisq-study ", re.MULTILINE)
    return [block for language, block in fenced if language in ("", "bash") and ours.search(block)]


def words_given(block: str, shell: str) -> list[list[str]]:
    """The words of each of our commands, as this shell takes the block."""
    assert " #" not in block, "zsh takes it as arguments when it is pasted"
    options = ["-f"] if shell == "zsh" else ["--noprofile", "--norc"]
    done = subprocess.run([shell, *options, "-c", STUBS + block], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [command.split("\0")[:-1] for command in done.stdout.split("\n\0")[:-1]]


def known_commands() -> dict[str, Any]:
    return get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def printed() -> Iterator[tuple[str, str]]:
    """Every command that is named somewhere, and where."""
    pages = [
        path for pattern in ("*.md", "*.yaml", "*/README.md", "results/*/README.md") for path in ROOT.glob(pattern)
    ]
    program = [path for package in ("study", "whisq_core") for path in (ROOT / package).rglob("*.py")]
    for path in (*pages, *program, *(ROOT / "study").rglob("*.yaml")):
        for found in NAMED.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {found[0].strip()}", found["words"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_hands_the_readmes_commands_to_the_program_as_they_are_understood(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    commands = [words for block in blocks() for words in words_given(block, shell)]

    assert len(commands) >= README.count("\nwhisq-study ") > 8
    for name, *rest in commands:
        context = known_commands()[name].make_context(name, rest)  # refuses unknown options and missing ones
        assert context.command.name == name


def test_every_command_that_is_named_anywhere_exists_with_these_options() -> None:
    wrong, seen = [], set()
    for place, words in printed():
        name, *rest = words.split()
        seen.add(name)
        command = known_commands().get(name)
        known = {option for parameter in command.params for option in parameter.opts} if command else set()
        wrong += [place for word in rest if word.startswith("--") and word.rstrip(".,:") not in known]
        wrong += [] if command else [place]

    assert wrong == []
    assert seen >= {"ablate", "optimize", "report", "encode", "doctor", "demo"}


@pytest.fixture
def readers_folder(finished_study: Place, tmp_path: Path) -> Path:
    """Where a reader of the README types: what it names is there, with tiny encoders; the table of the file is done."""
    (tmp_path / "MusicEval-phase1").symlink_to(finished_study.corpus)
    shutil.copytree(finished_study.features, tmp_path / "results/features")
    shutil.copy(finished_study.folder / "whisq.db", tmp_path / "results/whisq.db")
    write_file(finished_study, tmp_path / "ablations.yaml", "table2")
    demo = tmp_path / "results/demo"
    demo.mkdir()
    (demo / "corpus").symlink_to(finished_study.corpus)
    (demo / "features").symlink_to(tmp_path / "results/features")
    write_file(finished_study, demo / "demo.yaml", "demo")
    dev = (finished_study.corpus / "sets/dev_mos_list.txt").read_text(encoding="utf-8")
    (tmp_path / "answer.txt").write_text(dev, encoding="utf-8")  # the truth is a prediction, too
    write_predictions(tmp_path)
    return tmp_path


def write_predictions(folder: Path) -> None:
    """What `evaluate` judges in the README: a long table, a file for each run, and answers that are right or wrong."""
    draw = np.random.default_rng(0)
    items = [(row, seed, item) for row in ("ours", "baseline") for seed in (0, 1) for item in range(40)]
    runs = pd.DataFrame(items, columns=["row", "seed", "item"])
    runs["group"], runs["truth"] = runs["item"] % 8, np.sin(runs["item"])
    runs["prediction"] = runs["truth"] + draw.normal(0, 0.5, len(runs))
    runs.to_csv(folder / "predictions.csv", index=False)
    for (row, seed), run_of in runs.groupby(["row", "seed"]):
        name = f"{'ours' if row == 'ours' else 'base'}-seed{seed}.csv"
        run_of.drop(columns=["row", "seed"]).to_csv(folder / name, index=False)
    answers = runs.assign(truth=runs["item"] % 2, prediction=draw.integers(0, 2, len(runs)))
    answers.to_csv(folder / "answers.csv", index=False)


def write_file(place: Place, path: Path, name: str) -> None:
    """The study's file under another name, its searches short."""
    content = yaml.safe_load(place.file.read_text(encoding="utf-8"))
    content["search"] |= {"trials": 2, "top": 1}
    path.write_text(yaml.safe_dump({**content, "name": name}, sort_keys=False), encoding="utf-8")


def test_the_readmes_commands_run_as_printed(readers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks():
        for name, value in re.findall(r"(WHISQ_\w+)=(\S+)", block):
            monkeypatch.setenv(name, value)
        for words in words_given(block, "bash"):
            if words[0] != "dashboard" and "--scheduler" not in words:  # neither would end
                finished = run(readers_folder, *words)
                assert finished.status == 0, (words, finished.err, finished.out)
    results = readers_folder / "results"
    for written in ("table2/table.md", "table2/report.html", "table2-whisq/best.yaml", "demo-no_ot/best.yaml"):
        assert (results / written).is_file(), written
