"""In place of each file that a command reads or writes: a pipe, a device, a folder, a loop, gigabytes, nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.forked import Commands
from helpers.malformed import (
    ABLATE,
    AUDIT,
    ENCODE,
    EVALUATE,
    ODD_FILES,
    REPORT,
    TRAIN,
    WAV,
    both,
    copy_of,
    nothing,
    replaced_by,
    sampled,
    trouble,
    without_features,
)

Attempt = Callable[..., object]

BY_MANIFEST = ABLATE.replace("corpus", "manifest.csv")
BY_SCHEDULER = ABLATE.replace("--workers 1", "--scheduler scheduler.json")
READ = {
    "table.yaml": ABLATE,
    "base.yaml": f"{ABLATE} --base base.yaml",
    "answer.txt": EVALUATE,
    "published.csv": AUDIT,
    "manifest.csv": BY_MANIFEST,
    "scheduler.json": BY_SCHEDULER,
    TRAIN: ABLATE,
    "corpus/prompt_info.txt": ABLATE,
    "corpus/system_mos/system_mos_phase1.csv": ABLATE,
    WAV: ABLATE,
    "whisq.db": REPORT,
    "weights/whisper/config.json": ENCODE,
    "weights/whisper/preprocessor_config.json": ENCODE,
    "weights/whisper/model.safetensors": ENCODE,
    "weights/bert/config.json": ENCODE,
    "weights/bert/tokenizer.json": ENCODE,
    "weights/bert/tokenizer_config.json": ENCODE,
    "features/audio*/store.json": ENCODE,
}
WRITTEN = {
    "features/audio*/*.safetensors": ENCODE,
    "whisq.db": ABLATE,
    "out": ABLATE,
    "features": ABLATE,
    "out/table.md": REPORT,
    "out/report.html": REPORT,
}
FINE = {  # what may be empty, and what is made anew
    ("corpus/system_mos/system_mos_phase1.csv", "an empty file"),
    ("whisq.db", "a link to nothing"),
    ("whisq.db", "an empty file"),
    ("features/audio*/store.json", "a link to nothing"),
}


@pytest.mark.parametrize(("place", "kind"), sampled([(p, k) for p in READ for k in ODD_FILES if (p, k) not in FINE], 5))
def test_what_is_no_file_of_possible_size_is_refused_by_its_name(attempt: Attempt, place: str, kind: str) -> None:
    attempt(both(replaced_by(kind, place), without_features if place.startswith("weights") else nothing), READ[place])


@pytest.mark.parametrize(("place", "kind"), sampled([(p, k) for p in WRITTEN for k in ODD_FILES], 9))
def test_what_stands_where_results_belong_is_replaced_or_named(
    commands: Commands, good: Path, tmp_path: Path, place: str, kind: str
) -> None:
    replaced_by(kind, place)(copy_of(good, tmp_path))

    answer = commands.run(tmp_path, *WRITTEN[place].split())

    assert answer.status == 0 or not trouble(answer, place.split("/")[-1].lstrip("*")), answer


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("name", ["audio.json", "digests.json"])
def test_what_only_saves_time_is_made_anew(
    commands: Commands, good: Path, tmp_path: Path, name: str, kind: str
) -> None:
    replaced_by(kind, f"features/cache/{name}")(copy_of(good, tmp_path))

    answer = commands.run(tmp_path, *ABLATE.split())

    assert answer.status == 0, answer
