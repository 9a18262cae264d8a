"""A small good working directory to be spoilt, and how a refused command is looked at."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from helpers.command import run

TABLE = """\
name: small
base:
  backbone: {audio: "untrained:whisper", text: "untrained:qwen3"}
  model: {feature_dim: 64}
seeds: [0]
sections:
  - title: Rows
    rows:
      - {id: whisq, label: WhisQ}
      - {id: constant, label: Constant, set: {model.predictor: constant}}
"""
DEV, TRAIN = "corpus/sets/dev_mos_list.txt", "corpus/sets/train_mos_list.txt"
FIRST = "audiomos2025-track1-S001_P001"  # the first clip of the train list
WAV = f"corpus/wav/{FIRST}.wav"
ABLATE = ("ablate", "table.yaml", "--data", "corpus")
FETCH = "Fetch the clip again."
Change = Callable[[Path], object]


def write_working_directory(folder: Path, good_corpus: Path) -> Path:
    """A copy of a good corpus beside a good file."""
    shutil.copytree(good_corpus, folder / "corpus")
    (folder / "table.yaml").write_text(TABLE, encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything in `folder` but the digests of sound files, which are worth keeping whatever else is wrong."""
    paths = [path for path in folder.rglob("*") if "results" not in path.parts or "cache" in path.parts]
    kept = [path for path in paths if "cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in kept}


def mistakes(folder: Path, *arguments: object) -> list[str]:
    """The lines that a refused command prints; `folder` in them is shown as F."""
    before = content(folder)
    finished = run(folder, *(arguments or ABLATE))
    assert finished.status == 2, finished
    assert finished.out == ""
    assert len(finished.errors) == len(finished.err.splitlines()), finished.err
    assert content(folder) == before
    started = [path for path in folder.rglob("*") if path.suffix in (".db", ".safetensors", ".lock", ".tmp")]
    assert started == []
    return [line.replace(str(folder), "F") for line in finished.errors]


def edited(name: str, edit: Callable[[bytes], bytes]) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(edit((folder / name).read_bytes()))

    return change


def first_line(line: str, name: str = TRAIN) -> Change:
    """Put another first line into a list."""
    return edited(name, lambda text: line.encode() + b"\n" + text.split(b"\n", 1)[1])


def sound(samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> Change:
    return lambda folder: soundfile.write(folder / WAV, samples, rate, subtype=subtype)


def table(old: str, new: str) -> Change:
    """Change the ablation file."""
    assert old in TABLE
    return lambda folder: (folder / "table.yaml").write_text(TABLE.replace(old, new), encoding="utf-8")
