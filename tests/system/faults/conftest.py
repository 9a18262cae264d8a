"""A study that takes seconds, begun anew for each fault, and what an undisturbed one leaves."""

import shutil
import time
from pathlib import Path

import pytest
import yaml
from helpers.faults import FAULTY, Outcome, outcome_of
from helpers.forked import Commands
from helpers.malformed import TABLE, write_inputs
from helpers.studies import built_once, shared_folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus, weights and file; not to be changed."""
    folder = shared_folder(tmp_path_factory, "faulty-study")
    with built_once(folder) as first:
        if first:
            write_inputs(folder / "study")
            content = TABLE | {"seeds": list(range(8)), "search": {"top": 1, "pruner": "none"}}
            (folder / "study/table.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder / "study"


@pytest.fixture
def beginning(inputs: Path, tmp_path: Path) -> Path:
    """A study of which nothing is done yet."""
    return Path(shutil.copytree(inputs, tmp_path, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def undisturbed(commands: Commands, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What each command leaves when nothing happens to it."""
    found = {}
    for command in FAULTY:
        folder = tmp_path_factory.mktemp("undisturbed")
        shutil.copytree(inputs, folder, dirs_exist_ok=True)
        if command == "report":
            assert commands.run(folder, *FAULTY["ablate"].split()).status == 0
        started = time.monotonic()
        answer = commands.run(folder, *FAULTY[command].split())
        assert answer.status == 0, answer
        found[command] = outcome_of(folder, command, time.monotonic() - started)
    return found
