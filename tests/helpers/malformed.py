"""A small finished study to be spoilt in one place, and what a command must answer then."""

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.checkpoints import write_checkpoint
from helpers.command import run
from helpers.corpora import write_official_corpus
from helpers.forked import Answer

SECONDS, MEMORY = 10, 2 * 2**30  # of a process' own time, and bytes: what no malformed input may exceed
WHERE = "--data corpus --features features"
STORE = "--storage sqlite:///whisq.db"
ABLATE = f"ablate table.yaml {WHERE} {STORE} --out out --workers 1"
ENCODE = f"encode table.yaml {WHERE} --workers 1"
REPORT = f"report table.yaml {STORE} --out out"
OPTIMIZE = f"optimize table.yaml {WHERE} {STORE} --out out --workers 1 --trials 1"
DOCTOR = f"doctor table.yaml {WHERE} {STORE} --out out"
EVALUATE = "evaluate answer.txt --data corpus"
AUDIT = "audit published.csv"
FIRST = "audiomos2025-track1-S001_P001"  # the first clip of the train list
WAV = f"corpus/wav/{FIRST}.wav"
TRAIN = "corpus/sets/train_mos_list.txt"
TABLE = {
    "base": {
        "backbone": {"audio": "weights/whisper", "text": "weights/bert"},
        "model": {"feature_dim": 32},
        "train": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
    },
    "seeds": [0, 1],
    "sections": [
        {
            "title": "Rows",
            "rows": [
                {"id": "whisq", "label": "WhisQ"},
                {"id": "constant", "label": "Constant", "set": {"model.predictor": "constant"}},
            ],
        }
    ],
}

Change = Callable[[Path], object]


def write_inputs(folder: Path) -> Path:
    """A corpus, weights and an ablation file."""
    write_official_corpus(folder / "corpus", num_train=8, num_dev=6, num_systems=3, seconds=0.3)
    for family in ("whisper", "bert"):
        write_checkpoint(folder / "weights" / family, family)
    (folder / "table.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False), encoding="utf-8")
    return folder


def write_good(folder: Path) -> Path:
    """Inputs with features, a database with a finished table, predictions, a published table."""
    write_inputs(folder)
    (folder / "base.yaml").write_text("loss.ot_weight: 0.001\n", encoding="utf-8")
    names = [line.split(",")[0] for line in (folder / "corpus/sets/dev_mos_list.txt").read_text().splitlines()]
    (folder / "answer.txt").write_text("".join(f"{name},3.0,2.{index}\n" for index, name in enumerate(names)))
    (folder / "published.csv").write_text("model,TA S-SRCC,systems\nours,0.5,29\n")
    (folder / "manifest.csv").write_text(
        "utterance,system,prompt,audio,omq,ta,split\n"
        + "".join(
            f"u{index},s{index % 3},a waltz,{WAV},3,3,{split}\n"
            for index, split in enumerate(["train"] * 4 + ["dev"] * 4)
        )
    )
    finished = run(folder, *ABLATE.split(), "--save-models")
    assert finished.status == 0, finished.err
    with closing(sqlite3.connect(folder / "whisq.db")) as connection:  # a journal would make a spoilt file whole again
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for journal in folder.glob("whisq.db-*"):
        journal.unlink()
    return folder


def copy_of(good: Path, folder: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(good, folder, dirs_exist_ok=True))


def is_answered(answer: Answer, expected: str) -> bool:
    """Whether a command refused its input as promised: status 2, short lines, no traceback, little time and memory."""
    return not trouble(answer, expected)


def trouble(answer: Answer, expected: str) -> list[str]:
    """What is wrong with an answer to malformed input."""
    found = []
    if answer.status != 2:
        found.append(f"status {answer.status}")
    if "Traceback" in answer.err or "Warning" in answer.err:
        found.append("traceback")
    if not answer.errors:
        found.append("no line that begins with error:")
    if max(map(len, answer.err.splitlines()), default=0) > 1000 or len(answer.err.splitlines()) > 101:
        found.append("long")
    if expected not in answer.err:
        found.append("other words")
    if answer.cpu_seconds > SECONDS:
        found.append(f"{answer.cpu_seconds:.0f} s")
    if answer.peak_bytes > MEMORY:
        found.append(f"{answer.peak_bytes / 2**30:.1f} GB")
    return found


# --- what is no regular file ----------------------------------------------------------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, _inside(path.parent):
        made.bind(path.name)  # a socket's whole path may have 107 bytes


def _inside(folder: Path):  # type: ignore[no-untyped-def]
    import contextlib

    return contextlib.chdir(folder)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def _empty(path: Path) -> None:
    path.touch()


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "a named pipe": _fifo,
    "a socket": _socket,
    "an endless device": _device,
    "a folder": _folder,
    "a link to itself": _loop,
    "a link to nothing": _dangling,
    "ten gigabytes": _huge,
    "an empty file": _empty,
}


def replaced_by(kind: str, name: str) -> Change:
    """Put something odd in place of a file or folder; a name with * means the first that fits."""

    def change(folder: Path) -> None:
        path = next(iter(sorted(folder.glob(name))), folder / name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        ODD_FILES[kind](path)

    return change


def put(name: str, content: bytes | str) -> Change:
    """Write a file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def edited(name: str, edit: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the first file that fits a name with *."""

    def change(folder: Path) -> None:
        path = sorted(folder.glob(name))[0]
        path.write_bytes(edit(path.read_bytes()))

    return change


def replaced(old: str, new: str) -> Change:
    """Change the text of the ablation file."""

    def edit(text: bytes) -> bytes:
        assert old.encode() in text, old
        return text.replace(old.encode(), new.encode(), 1)

    return edited("table.yaml", edit)


def nothing(folder: Path) -> None:
    """The study stays good: what is wrong is in the command."""


def also_long(values: Iterable[Any], short: int = 1) -> list[Any]:
    """Parameters of a test: the first `short` run each time, the others with the long form."""
    return [pytest.param(value, marks=() if index < short else pytest.mark.slow) for index, value in enumerate(values)]


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Parameters of a test: one in `every` runs each time, the others with the long form."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=() if index % every == 0 else pytest.mark.slow
        )
        for index, case in enumerate(cases)
    ]


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def without_features(folder: Path) -> None:
    """Encoders are needed again."""
    shutil.rmtree(folder / "features", ignore_errors=True)
