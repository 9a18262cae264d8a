"""Checking, naming and splitting a corpus that was read."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.corpora import write_evaluation_corpus, write_official_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core.corpus import (
    Corpus,
    check_audio_files,
    corpus_digest,
    inner_split,
    read_corpus,
    splits,
    system_truth,
    used_clips,
)
from whisq_core.errors import InputError
from whisq_core.spec import FOLDS, DataSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_official_corpus(tmp_path / "MusicEval-phase1")


def test_bad_sound_files_are_all_named_and_odd_but_good_ones_pass(folder: Path, tmp_path: Path) -> None:
    corpus = read_corpus(folder)
    audio = [Path(path) for path in corpus.clips["audio"]]
    audio[0].unlink()
    audio[1].write_bytes(b"")
    audio[2].write_bytes(audio[2].read_bytes()[:-100])
    audio[3].write_text("<html>404</html>" * 100)
    soundfile.write(audio[4], np.zeros(399), 16_000)
    soundfile.write(audio[5], np.zeros((48_000, 2)), 48_000)
    soundfile.write(audio[6], np.zeros(400), 16_000)
    with pytest.raises(InputError) as caught:
        check_audio_files(corpus, tmp_path / "audio.json")
    fetch = "Fetch the clip again."
    lines = list(caught.value.mistakes)
    assert lines[0] == f"{audio[0]}: no such file. Put the clip there, or correct its name in the list."
    assert lines[1] == f"{audio[1]}: an empty file (0 bytes), allowed: a sound file. {fetch}"
    assert lines[2].startswith(f"{audio[2]}: truncated: its header announces ")
    assert lines[3] == (
        f"{audio[3]}: not a sound file (Format not recognised), allowed: what libsndfile reads (wav, flac, ogg, mp3). "
        f"{fetch}"
    )
    assert lines[4] == f"{audio[4]}: found 24.9 ms of sound (399 samples), allowed: at least 25 ms. {fetch}"
    assert len(lines) == 5


def test_a_missing_wav_folder_is_one_mistake(folder: Path, tmp_path: Path) -> None:
    (folder / "wav").rename(folder / "sound")
    with pytest.raises(InputError) as caught:
        check_audio_files(read_corpus(folder), tmp_path / "audio.json")
    assert list(caught.value.mistakes) == [
        f"{folder / 'wav'}: no such folder; it should hold the clips that the lists name."
    ]


def test_files_are_read_again_only_when_size_or_time_change(folder: Path, tmp_path: Path) -> None:
    corpus, cache = read_corpus(folder), tmp_path / "cache/audio.json"
    first = check_audio_files(corpus, cache)
    entries = json.loads(cache.read_text())
    marked = {path: [size, time, "remembered"] for path, (size, time, _) in entries.items()}
    cache.write_text(json.dumps(marked))
    assert set(check_audio_files(corpus, cache)) == {"remembered"}
    changed = Path(corpus.clips["audio"][3])
    status = changed.stat()
    changed.write_bytes(changed.read_bytes()[:-2] + b"\x01\x02")
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = check_audio_files(corpus, cache)
    assert [digest == "remembered" for digest in second] == [position != 3 for position in range(20)]
    assert second[3] not in first


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"/a": [1, 2]}', b'{"/a": 3}', b"null"])
def test_a_broken_cache_is_built_again(folder: Path, tmp_path: Path, content: bytes) -> None:
    corpus, cache = read_corpus(folder), tmp_path / "audio.json"
    before = check_audio_files(corpus, cache)
    whole = cache.read_bytes()
    cache.write_bytes(content)
    assert (check_audio_files(corpus, cache) == before).all()
    assert cache.read_bytes() == whole
    assert [path.name for path in tmp_path.glob("audio*")] == ["audio.json"]


def test_good_files_are_remembered_beside_bad_ones(folder: Path, tmp_path: Path) -> None:
    corpus, cache = read_corpus(folder), tmp_path / "audio.json"
    Path(corpus.clips["audio"][0]).write_bytes(b"")
    with pytest.raises(InputError):
        check_audio_files(corpus, cache)
    assert len(json.loads(cache.read_text())) == 19


def test_the_digest_names_everything_that_decides_a_result(folder: Path, tmp_path: Path) -> None:
    corpus = read_corpus(folder)
    audio = check_audio_files(corpus, tmp_path / "audio.json")
    changes = {"utterance": "x", "system": "S009", "prompt": "a whale", "omq": 1.2, "ta": 1.2, "split": "dev"}
    digests = {corpus_digest(corpus, audio), corpus_digest(corpus, audio[::-1])}
    for column, value in changes.items():
        clips = corpus.clips.copy()
        clips.loc[0, column] = value
        digests.add(corpus_digest(replace(corpus, clips=clips), audio))
    digests.add(corpus_digest(replace(corpus, system_mos=None), audio))
    digests.add(corpus_digest(replace(corpus, clips=corpus.clips[::-1]), audio[::-1]))
    assert len(digests) == 3 + len(changes) + 1
    moved = replace(corpus, name="moved", clips=corpus.clips.assign(audio="elsewhere.wav"))
    assert corpus_digest(moved, audio) == corpus_digest(corpus, audio)


def test_a_corpus_without_labels_has_a_digest(tmp_path: Path) -> None:
    corpus = read_corpus(write_evaluation_corpus(tmp_path))
    assert len(corpus_digest(corpus, ["0"] * 6)) == 32


def test_given_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    corpus = read_corpus(write_official_corpus(tmp_path, num_train=8, num_dev=4, num_test=4))
    (parts,) = splits(corpus, DataSpec(score=("test", "dev")), 0)
    assert parts.fit.tolist() == list(range(8))
    assert {name: rows.tolist() for name, rows in parts.score.items()} == {
        "test": [12, 13, 14, 15],
        "dev": [8, 9, 10, 11],
    }
    assert list(parts.score) == ["test", "dev"]


def test_an_inner_split_is_held_out_of_train_by_whole_prompts(folder: Path) -> None:
    corpus = read_corpus(folder)
    (parts,) = splits(corpus, DataSpec(score=("inner", "dev"), inner_fraction=0.3), 0)
    assert sorted([*parts.fit, *parts.score["inner"]]) == list(range(12))
    prompts = corpus.clips["prompt"]
    assert not set(prompts[parts.fit]) & set(prompts[parts.score["inner"]])


def test_a_split_that_is_not_there_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        splits(read_corpus(folder), DataSpec(score=("dev", "test")), 0)
    assert str(caught.value) == (
        "corpus 'MusicEval-phase1' has no split 'test'; it has train (12 clips), dev (8 clips)."
    )
    with pytest.raises(InputError) as caught:
        splits(read_corpus(write_evaluation_corpus(tmp_path / "phase2")), DataSpec(), 0)
    assert list(caught.value.mistakes) == [
        "corpus 'phase2' has no split 'train'; it has eval (6 clips).",
        "corpus 'phase2' has no split 'dev'; it has eval (6 clips).",
    ]


def grouped(groups: list[int]) -> Corpus:
    names = [f"g{group}" for group in groups]
    clips = [f"c{number}" for number in range(len(groups))]
    return Corpus("grouped", pd.DataFrame({"utterance": clips, "prompt": names, "system": names[::-1]}), None, False)


@given(
    groups=st.lists(st.integers(0, 8), min_size=2, max_size=40).filter(lambda groups: len(set(groups)) > 1),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
    by=st.sampled_from(["prompt", "system", "clip"]),
)
@settings(deadline=None, max_examples=60)
def test_an_inner_split_takes_whole_groups_and_comes_as_near_to_its_size_as_they_can(
    groups: list[int], fraction: float, seed: int, by: str
) -> None:
    corpus = grouped(groups)
    data = DataSpec(inner_by=by, inner_fraction=fraction, inner_seed=seed)  # type: ignore[arg-type]
    fit, inner = inner_split(corpus, np.arange(len(groups)), data)
    names = corpus.clips["utterance" if by == "clip" else by].to_numpy()
    assert sorted([*fit, *inner]) == list(range(len(groups)))
    assert len(fit)
    assert len(inner)
    assert not set(names[fit]) & set(names[inner])
    sizes = np.unique(names, return_counts=True)[1]
    sums = {0}
    for size in sizes.tolist():
        sums |= {size + before for before in sums}
    target = fraction * len(groups)
    nearest = min(abs(size - target) for size in sums - {0, len(groups)})
    assert abs(len(inner) - target) == nearest
    again = inner_split(corpus, np.arange(len(groups)), data)
    assert (again[1] == inner).all()


def test_the_seed_decides_which_groups_are_held_out_and_rows_keep_their_numbers() -> None:
    corpus, indices = grouped([i % 20 for i in range(100)]), np.arange(10, 100)
    inner = [inner_split(corpus, indices, DataSpec(inner_seed=seed))[1] for seed in range(5)]
    assert len({tuple(rows) for rows in inner}) == 5
    assert all(len(rows) == 18 and set(rows) <= set(indices) and (np.diff(rows) > 0).all() for rows in inner)


def test_an_inner_split_of_one_group_is_a_mistake() -> None:
    with pytest.raises(InputError) as caught:
        inner_split(grouped([1, 1, 1]), np.arange(3), DataSpec(inner_by="system"))
    assert str(caught.value) == (
        "corpus 'grouped': an inner split by system needs at least 2 systems among the 3 clips, found 1. "
        "Choose another data.inner_by."
    )


def test_system_truth_comes_from_the_table_only_when_it_is_asked_for(folder: Path) -> None:
    corpus = read_corpus(folder)
    assert system_truth(corpus.name, corpus.system_mos, "clips", ["S001"]) is None
    assert system_truth(corpus.name, corpus.system_mos, "csv", ["S002", "S002"]) == {"S002": (4.4, 2.52)}
    with pytest.raises(InputError) as caught:
        system_truth(corpus.name, corpus.system_mos, "csv", ["S099", "S002", "S098"])
    assert list(caught.value.mistakes) == [
        f"corpus 'MusicEval-phase1': system_mos/*.csv has no row of system '{name}'. Add it."
        for name in ("S098", "S099")
    ]
    with pytest.raises(InputError) as caught:
        system_truth(corpus.name, None, "csv", ["S002"])
    assert str(caught.value) == (
        "corpus 'MusicEval-phase1': system truth 'csv' needs one system_mos/*.csv, found none. Use 'clips'."
    )


@pytest.mark.parametrize("by", ["clip", "prompt", "system"])
def test_folds_predict_every_clip_once_by_a_model_that_has_not_seen_its_group(folder: Path, by: str) -> None:
    corpus, data = read_corpus(folder), DataSpec(folds=3, fold_by=by)
    parts = splits(corpus, data, 0)
    used = used_clips(corpus, data)

    assert sorted(np.concatenate([part.score[FOLDS] for part in parts])) == list(used)
    for part in parts:
        assert sorted([*part.fit, *part.score[FOLDS]]) == list(used)
        if by != "clip":
            groups = corpus.clips[by]
            assert not set(groups.iloc[part.fit]) & set(groups.iloc[part.score[FOLDS]])
    sizes = [len(part.score[FOLDS]) for part in parts]
    assert max(sizes) - min(sizes) <= (1 if by == "clip" else corpus.clips[by].value_counts().max())


def test_each_seed_draws_folds_of_its_own(folder: Path) -> None:
    corpus, data = read_corpus(folder), DataSpec(folds=2)
    first = [splits(corpus, data, seed)[0].fit.tolist() for seed in (0, 0, 1)]

    assert first[0] == first[1] != first[2]


def test_more_folds_than_groups_is_a_mistake(folder: Path) -> None:
    with pytest.raises(InputError, match="99 folds by system need at least as many systems, found"):
        splits(read_corpus(folder), DataSpec(folds=99, fold_by="system"), 0)


def test_a_smaller_fraction_of_the_training_clips_is_part_of_a_larger_one(folder: Path) -> None:
    corpus = read_corpus(folder)
    small, large, whole = (splits(corpus, DataSpec(fraction=share), 3)[0] for share in (0.25, 0.5, 1.0))

    assert set(small.fit) < set(large.fit) < set(whole.fit)
    assert len(large.fit) == round(len(whole.fit) / 2)
    assert small.score["dev"].tolist() == whole.score["dev"].tolist()
