"""The demo corpus: official layout, same bytes each time, labels that follow from what was done to the audio."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from study.demo.corpus import MOODS, NUM_DEV, NUM_TRAIN, plan, write_demo_corpus
from study.demo.ratings import HARMS, SYSTEMS, WEIGHTS
from study.demo.sound import INSTRUMENTS, LOUDNESS
from whisq_core.corpus import Corpus, read_corpus
from whisq_core.corpus.musiceval import DEMO_SYSTEMS
from whisq_core.errors import InputError

CLIPS = plan()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "corpus"
    assert write(path) == NUM_TRAIN + NUM_DEV
    return path


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return read_corpus(folder)


def write(folder: Path) -> int:
    """Write the corpus; the number of sound files that were written."""
    calls: list[tuple[int, int]] = []
    write_demo_corpus(folder, lambda done, total: calls.append((done, total)))
    assert calls == [(number, len(calls)) for number in range(1, len(calls) + 1)]
    return len(calls)


class Stop(Exception):
    """Ends a long job early."""


def stop(done: int, total: int) -> None:
    raise Stop


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_demo_corpus_reads_as_an_official_folder_and_says_that_it_is_simulated(corpus: Corpus) -> None:
    assert corpus.simulated
    assert corpus.clips["split"].value_counts().to_dict() == {"train": NUM_TRAIN, "dev": NUM_DEV}
    assert corpus.system_mos is not None
    assert set(corpus.system_mos.index) == set(corpus.clips["system"])
    labels = corpus.clips[["omq", "ta"]].to_numpy()
    assert labels.min() >= 1
    assert labels.max() <= 5
    assert np.allclose(5 * labels, np.rint(5 * labels))


def test_clips_are_about_seven_seconds_of_16_bit_mono_at_16_khz_and_equally_loud(corpus: Corpus) -> None:
    for path in corpus.clips["audio"]:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 6 <= info.duration <= 7.5
        audio, _ = soundfile.read(path)
        assert 0.5 * LOUDNESS < np.sqrt(np.mean(audio**2)) < 1.1 * LOUDNESS


def test_a_label_is_the_mean_of_five_ratings_by_different_raters(folder: Path, corpus: Corpus) -> None:
    ratings: dict[str, list[tuple[str, int, int]]] = {}
    for line in (folder / "person_mos" / "train_person_mos.txt").read_text().splitlines():
        name, rater, omq, ta = line.split(",")
        ratings.setdefault(name.removesuffix(".wav"), []).append((rater, int(omq), int(ta)))
    train = corpus.clips[corpus.clips["split"] == "train"]
    assert set(ratings) == set(train["utterance"])
    for clip in train.itertuples():
        scores = ratings[clip.utterance]
        assert len({rater for rater, _, _ in scores}) == 5
        assert np.allclose(np.mean([score[1:] for score in scores], axis=0), (clip.omq, clip.ta))


def test_system_scores_are_the_means_over_both_splits(corpus: Corpus) -> None:
    assert corpus.system_mos is not None
    means = corpus.clips.groupby("system")[["omq", "ta"]].mean()
    assert np.allclose(corpus.system_mos.loc[means.index, ["omq", "ta"]], means, atol=1e-6)


def test_p_ids_of_demo_systems_collide_and_each_clip_keeps_its_own_prompt(corpus: Corpus) -> None:
    assert [f"{utterance}.wav" for utterance in corpus.clips["utterance"]] == [clip.file for clip in CLIPS]
    assert list(corpus.clips["prompt"]) == [clip.prompt.text for clip in CLIPS]
    texts: dict[str, set[str]] = {}
    for clip in CLIPS:
        texts.setdefault(clip.prompt.name, set()).add(clip.prompt.text)
    assert sum(len(words) == 2 for words in texts.values()) == 14


def test_a_complete_corpus_is_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write(folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_missing_files_are_written_again_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    shutil.copytree(folder, path)
    shutil.rmtree(path / "sets")
    for file in sorted(path.glob("wav/*.wav"))[::50]:
        file.unlink()
    assert write(path) == 5
    assert contents(path) == contents(folder)


def test_a_killed_job_leaves_whole_files_and_no_readable_corpus(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    code = f"from pathlib import Path; from study.demo.corpus import *; write_demo_corpus(Path({str(path)!r}), print)"
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(path.glob("wav/*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    written = {file.name: file.read_bytes() for file in path.glob("wav/*.wav")}
    assert 1 <= len(written) < NUM_TRAIN + NUM_DEV
    assert all((folder / "wav" / name).read_bytes() == content for name, content in written.items())
    with pytest.raises(InputError):
        read_corpus(path)
    with pytest.raises(Stop):
        write_demo_corpus(path, stop)
    assert len(list(path.glob("wav/*"))) == len(written) + 1


def test_the_corpus_of_another_recipe_is_replaced(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    shutil.copytree(folder, path)
    mark = path / "SIMULATED.txt"
    mark.write_text(mark.read_text().replace("Recipe: recipe", "Recipe: earlier recipe"))
    with pytest.raises(Stop):
        write_demo_corpus(path, stop)
    assert set(contents(path)) == {"SIMULATED.txt", f"wav/{CLIPS[0].file}"}


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        write(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: found something that is not a demo corpus. Give another folder or remove it."
    )
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write(tmp_path / "file" / "corpus")
    assert str(caught.value) == (
        f"{tmp_path}/file/corpus/SIMULATED.txt: cannot be written (Not a directory). Give another folder or free space."
    )


def test_the_folder_explains_every_system_and_every_weight(folder: Path) -> None:
    text = (folder / "SIMULATED.txt").read_text()
    assert text.startswith("SIMULATED CORPUS: no clip, system or rating in this folder is real.\n")
    assert f"{NUM_TRAIN} training clips, {NUM_DEV} dev clips" in text
    assert all(system.name in text for system in SYSTEMS)
    assert all(f"{name} {weight}" in text for name, weight in (HARMS | WEIGHTS).items())


def test_train_and_dev_share_all_systems_and_most_but_not_all_prompts() -> None:
    train, dev = CLIPS[:NUM_TRAIN], CLIPS[NUM_TRAIN:]
    assert {clip.system for clip in train} == {clip.system for clip in dev} == set(SYSTEMS)
    assert sum(system.name in DEMO_SYSTEMS for system in SYSTEMS) == 4
    seen, scored = {clip.prompt.text for clip in train}, {clip.prompt.text for clip in dev}
    assert 0.5 < len(seen & scored) / len(seen | scored) < 1
    assert len(seen | scored) == 50
    assert len({clip.file for clip in CLIPS}) == NUM_TRAIN + NUM_DEV


def test_prompts_name_every_attribute() -> None:
    for clip in CLIPS:
        text, asked = clip.prompt.text.lower(), clip.prompt.asked
        assert any(words in text for words in INSTRUMENTS[asked["instrument"]].words)
        assert any(mood in text for mood in MOODS[asked["tempo"], asked["mode"]])
        assert f"{asked['register']} register" in text
        assert all(asked[name] in text for name in ("drums", "tempo", "mode"))
