"""Table II on tiny encoders: a corpus, a folder of weights for every family, and the shipped file pointed at them.

The whole way takes half a minute of imports and training, so one finished study serves all tests that only look at it
or change a copy.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config import SHIPPED_FILE

FEATURE_DIM = 32  # that of the tiny Whisper: the audio is not projected, as in the paper
_TINY = {
    "openai/whisper-base": "whisper",
    "Qwen/Qwen3-0.6B": "qwen3",
    "laion/larger_clap_music": "clap",
    "facebook/wav2vec2-base": "wav2vec2",
    "answerdotai/ModernBERT-base": "modernbert",
}
CSV_TABLES = ("table.csv", "table_long.csv")


@dataclass(frozen=True)
class Place:
    """A corpus with encoders, and a folder in which a study of it is made."""

    corpus: Path
    weights: Path
    features: Path
    folder: Path  # the working directory: table.yaml, whisq.db and out/ lie in it

    @property
    def file(self) -> Path:
        return self.folder / "table.yaml"

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.folder}/whisq.db"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def encode(self) -> tuple[object, ...]:
        """The arguments of `whisq-study encode`."""
        return ("encode", self.file, "--data", self.corpus, "--features", self.features)

    @property
    def ablate(self) -> tuple[object, ...]:
        """The arguments of `whisq-study ablate`, with one worker in the same process."""
        where = ("--data", self.corpus, "--features", self.features, "--storage", self.storage, "--out", self.out)
        return ("ablate", self.file, *where, "--workers", 1)

    def tables(self) -> dict[str, bytes]:
        """The CSV tables as they lie on the disk."""
        return {name: (self.out / name).read_bytes() for name in CSV_TABLES}


def beginning_in(folder: Path, place: Place, features: Path | None = None) -> Place:
    """A new study of the same corpus and encoders in `folder`: only the file is there."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(place.file, folder / "table.yaml")
    return Place(place.corpus, place.weights, features or place.features, folder)


def copied_to(folder: Path, place: Place) -> Place:
    """A copy of a study with its database and tables, to be changed."""
    shutil.copytree(place.folder, folder, dirs_exist_ok=True)
    return Place(place.corpus, place.weights, place.features, folder)


def write_place(folder: Path) -> Place:
    """Corpus, weights and file; nothing encoded."""
    from helpers.checkpoints import write_checkpoint  # transformers: only who builds the place needs it
    from helpers.corpora import write_official_corpus

    corpus = write_official_corpus(folder / "corpus", num_train=18, num_dev=12, num_systems=6, seconds=0.6)
    for family in _TINY.values():
        write_checkpoint(folder / "weights" / family, family)
    place = Place(corpus, folder / "weights", folder / "features", folder / "study")
    place.folder.mkdir(exist_ok=True)
    place.file.write_text(yaml.safe_dump(_tiny_table(place.weights), sort_keys=False), encoding="utf-8")
    return place


def changed(place: Place, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to the content of the study's file."""
    content = yaml.safe_load(place.file.read_text(encoding="utf-8"))
    change(content)
    place.file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def row(content: Mapping[str, Any], row_id: str) -> dict[str, Any]:
    """The row of this id in the content of an ablation file."""
    return next(row for section in content["sections"] for row in section["rows"] if row["id"] == row_id)


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all processes of a test run have in common."""
    base = factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name


@contextmanager
def built_once(folder: Path) -> Iterator[bool]:
    """Whether the block is the one that has to fill `folder`: the other processes of a test run wait and get False."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()


def _tiny_table(weights: Path) -> dict[str, Any]:
    """The shipped Table II with tiny encoders, few epochs and a rate at which they learn something."""
    content = yaml.safe_load(SHIPPED_FILE.read_text(encoding="utf-8"))
    content["base"]["backbone"] = {kind: _tiny(name, weights) for kind, name in content["base"]["backbone"].items()}
    content["base"]["model"]["feature_dim"] = FEATURE_DIM
    content["seeds"] = "0-1"
    row(content, "aa")["seeds"] = "100-101"
    content["base"]["train"] |= {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}
    for section in content["sections"]:
        for each in section["rows"]:
            each["set"] = {key: _tiny(value, weights) for key, value in each.get("set", {}).items()}
    row(content, "table1_literal")["set"]["model.feature_dim"] = 2 * FEATURE_DIM
    return content


def _tiny(value: Any, weights: Path) -> Any:
    return str(weights / _TINY[value]) if value in _TINY else value
