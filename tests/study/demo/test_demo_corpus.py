"""The demo corpus: official layout, same bytes each time, labels that follow from what was done to the audio."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from study.demo.corpus import MAX_CLIPS, RECIPE, plan, render_demo_corpus
from study.demo.music import ATTRIBUTE_NAMES, BASS_PROGRAM, SCALES, SOUNDS, TEMPI, Attributes, compose
from study.demo.render import Piece, render
from study.demo.systems import (
    HARMS,
    HOUSES,
    LOUDNESS,
    SYSTEMS,
    WEIGHTS,
    Performance,
    damage,
    draw_raters,
    perform,
    rate,
)
from whisq_core.corpus import Corpus, read_corpus
from whisq_core.errors import InputError

pytest.importorskip("pretty_midi", reason="the demo's packages are not installed")
pytest.importorskip("midirenderer", reason="the demo's packages are not installed")

NUM_TRAIN, NUM_DEV = 8, 5

ATTRIBUTES = st.builds(
    Attributes,
    sound=st.sampled_from(sorted(SOUNDS)),
    drums=st.booleans(),
    tempo=st.sampled_from(sorted(TEMPI)),
    texture=st.sampled_from(["sparse", "busy"]),
    mode=st.sampled_from(sorted(SCALES)),
    meter=st.sampled_from([3, 4]),
)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus: the beginning of the default one."""
    path = tmp_path_factory.mktemp("demo") / "corpus"
    render_demo_corpus(path, num_train=NUM_TRAIN, num_dev=NUM_DEV)
    return path


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return read_corpus(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def performances(num_clips: int) -> Iterator[tuple[str, Performance]]:
    """What each clip's system does, without rendering it."""
    for clip in plan(0, num_clips):
        yield clip.system.name, perform(clip.system, clip.prompt.asked, np.random.default_rng([7, clip.index]))


def test_the_demo_corpus_reads_as_an_official_folder_and_says_that_it_is_simulated(corpus: Corpus) -> None:
    assert corpus.simulated
    assert corpus.clips["split"].value_counts().to_dict() == {"train": NUM_TRAIN, "dev": NUM_DEV}
    assert corpus.system_mos is not None
    assert set(corpus.system_mos.index) == set(corpus.clips["system"])
    labels = corpus.clips[["omq", "ta"]].to_numpy()
    assert labels.min() >= 1
    assert labels.max() <= 5
    assert np.allclose(5 * labels, np.rint(5 * labels))


def test_clips_are_six_to_eight_seconds_of_16_bit_mono_at_16_khz_and_equally_loud(corpus: Corpus) -> None:
    for path in corpus.clips["audio"]:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 6 <= info.duration <= 8
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
    clips = plan(0, NUM_TRAIN + NUM_DEV)
    assert list(corpus.clips["utterance"]) == [clip.utterance for clip in clips]
    assert list(corpus.clips["prompt"]) == [clip.prompt.text for clip in clips]
    texts = {(clip.system.demo, clip.prompt.name): clip.prompt.text for clip in plan(0, 220)}
    assert any(texts.get((False, name), text) != text for (is_demo, name), text in texts.items() if is_demo)


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    render_demo_corpus(again, num_train=NUM_TRAIN, num_dev=NUM_DEV)
    assert contents(again) == contents(folder)


def test_several_processes_render_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    path, calls = tmp_path / "shared", list[int]()
    render_demo_corpus(
        path, num_train=NUM_TRAIN, num_dev=NUM_DEV, workers=3, progress=lambda done, total: calls.append(done)
    )
    assert contents(path) == contents(folder)
    assert calls == list(range(1, NUM_TRAIN + NUM_DEV + 1))


def test_what_stops_one_of_several_processes_reaches_the_caller(tmp_path: Path) -> None:
    clip = plan(0, 1)[0]
    performance = perform(clip.system, clip.prompt.asked, np.random.default_rng(0))
    pieces = [Piece(tmp_path / "missing" / f"{name}.wav", performance, np.random.default_rng(0)) for name in "ab"]
    with pytest.raises(OSError, match="missing"):
        render(pieces, workers=2, progress=lambda done: None)


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(folder: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller"
    render_demo_corpus(smaller, num_train=2, num_dev=1)
    assert all((folder / "wav" / path.name).read_bytes() == path.read_bytes() for path in smaller.glob("wav/*"))
    lines = (folder / "sets" / "train_mos_list.txt").read_text()
    assert lines.startswith((smaller / "sets" / "train_mos_list.txt").read_text())


def test_another_seed_gives_other_pieces_and_other_labels(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    render_demo_corpus(other, seed=1, num_train=1, num_dev=1)
    ours = set(contents(folder).values())
    assert all(path.read_bytes() not in ours for path in other.rglob("*.wav"))


def test_a_complete_corpus_is_kept_and_a_damaged_one_rendered_again(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    calls: list[tuple[int, int]] = []

    def render() -> int:
        calls.clear()
        render_demo_corpus(path, num_train=2, num_dev=1, progress=lambda done, total: calls.append((done, total)))
        return len(calls)

    assert render() == 3
    assert calls == [(1, 3), (2, 3), (3, 3)]
    before = contents(path)
    assert render() == 0
    next(path.glob("wav/*.wav")).unlink()
    assert render() == 3
    assert contents(path) == before


def test_another_recipe_replaces_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    render_demo_corpus(path, num_train=2, num_dev=1)
    render_demo_corpus(path, num_train=1, num_dev=1)
    assert len(list(path.glob("wav/*.wav"))) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus"]


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        render_demo_corpus(tmp_path, num_train=1, num_dev=1)
    assert str(caught.value) == (
        f"{tmp_path}: found something that is not a demo corpus. Give another folder or remove it."
    )
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        render_demo_corpus(tmp_path / "file" / "corpus", num_train=1, num_dev=1)
    assert str(caught.value) == (
        f"{tmp_path}/file/corpus: cannot be written (Not a directory). Give another folder with --out or free space."
    )


def test_more_clips_than_the_systems_have_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        render_demo_corpus(tmp_path / "corpus", num_train=MAX_CLIPS, num_dev=1)
    assert str(caught.value) == (
        f"the demo corpus: found {MAX_CLIPS} train and 1 dev clips, "
        f"allowed: at least 1 of each, at most {MAX_CLIPS} together."
    )
    assert len({clip.utterance for clip in plan(0, MAX_CLIPS)}) == MAX_CLIPS


def test_missing_packages_are_named_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pretty_midi", None)
    monkeypatch.setitem(sys.modules, "midirenderer", None)
    with pytest.raises(InputError) as caught:
        render_demo_corpus(tmp_path / "corpus")
    assert str(caught.value) == (
        "the demo corpus: pretty_midi and midirenderer not installed, needed to render it. "
        "Run: pip install 'whisq-study[demo]'"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_render_leaves_no_folder_and_the_next_one_clears_up(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "corpus"
    code = (
        "from pathlib import Path; from study.demo.corpus import *; "
        f"render_demo_corpus(Path({str(path)!r}), workers={workers})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".corpus.unfinished-*/wav/*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [entry.name for entry in tmp_path.iterdir()] == [f".corpus.unfinished-{process.pid}"]
    (tmp_path / f".corpus.unfinished-{os.getpid()}").mkdir()
    render_demo_corpus(path, num_train=1, num_dev=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus"]


def test_the_folder_explains_every_system_and_every_weight(folder: Path) -> None:
    text = (folder / "SIMULATED.txt").read_text()
    assert text.startswith("SIMULATED CORPUS: no clip, system or rating in this folder is real.\n")
    assert f"Recipe: recipe {RECIPE}, seed 0, num_train {NUM_TRAIN}, num_dev {NUM_DEV}." in text
    assert all(system.name in text for system in SYSTEMS)
    assert all(f"{name} {weight}" in text for name, weight in (HARMS | WEIGHTS).items())


def test_train_and_dev_share_all_systems_and_most_but_not_all_prompts() -> None:
    clips = plan(0, 220)
    train, dev = clips[:120], clips[120:]
    assert {clip.system for clip in train} == {clip.system for clip in dev} == set(SYSTEMS)
    seen, unseen = {clip.prompt for clip in train}, {clip.prompt for clip in dev}
    assert 0.5 < len(seen & unseen) / len(seen | unseen) < 1
    assert len({clip.prompt.text for clip in clips}) == 50


def test_prompts_name_every_attribute() -> None:
    for prompt in {clip.prompt for clip in plan(0, 220)}:
        text, asked = prompt.text.lower(), prompt.asked
        assert any(word in text for word in SOUNDS[asked.sound].words)
        assert ("with drums" if asked.drums else "no drums") in text
        assert ("waltz" if asked.meter == 3 else "4/4") in text
        assert all(word in text for word in (asked.tempo, asked.texture, asked.mode))


def test_both_traits_vary_between_and_within_systems_and_independently() -> None:
    traits = np.array([(system.damage, system.faithfulness) for system in SYSTEMS])
    assert abs(np.corrcoef(traits.T)[0, 1]) < 0.1
    truth: dict[str, list[tuple[float, float]]] = {}
    for name, performance in performances(MAX_CLIPS):
        truth.setdefault(name, []).append((performance.omq, performance.ta))
    means = np.array([np.mean(values, axis=0) for values in truth.values()])
    within = np.array([np.std(values, axis=0) for values in truth.values()])
    assert (means.std(axis=0) > 0.5).all()
    assert (within.mean(axis=0) > 0.25).all()
    assert abs(np.corrcoef(means.T)[0, 1]) < 0.35


def test_true_scores_stay_on_the_scale_and_fall_with_what_was_really_done() -> None:
    for _, performance in performances(MAX_CLIPS):
        assert 1 <= performance.ta <= 5
        assert 1 <= performance.omq <= 5
        clean = Performance(performance.asked, performance.asked, {})
        assert performance.omq <= clean.omq
        assert performance.ta <= clean.ta
    assert sum(WEIGHTS.values()) == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(asked=ATTRIBUTES, system=st.sampled_from(SYSTEMS), seed=SEEDS)
def test_a_system_plays_what_was_asked_or_what_its_house_plays(asked: Attributes, system, seed: int) -> None:
    performance = perform(system, asked, np.random.default_rng(seed))
    house = HOUSES[system.house]
    for name in ATTRIBUTE_NAMES:
        assert getattr(performance.played, name) in (getattr(asked, name), getattr(house, name))
    wrong = {name for name in ATTRIBUTE_NAMES if getattr(performance.played, name) != getattr(asked, name)}
    assert performance.mismatch == pytest.approx(sum(WEIGHTS[name] for name in wrong))
    assert set(performance.strengths) == set(system.kinds)


@settings(deadline=None, max_examples=30)
@given(asked=ATTRIBUTES, seed=SEEDS, jitter=st.sampled_from([0.0, 0.1]))
def test_a_piece_has_the_attributes_that_were_asked_for(asked: Attributes, seed: int, jitter: float) -> None:
    import pretty_midi

    score = pretty_midi.PrettyMIDI(io.BytesIO(compose(asked, 7.0, jitter, np.random.default_rng(seed))))
    assert any(part.is_drum for part in score.instruments) == asked.drums
    low, high = TEMPI[asked.tempo]
    assert low - 0.1 <= score.get_tempo_changes()[1][0] <= high + 0.1
    programs = {part.program for part in score.instruments if not part.is_drum}
    assert programs - {BASS_PROGRAM} <= set(SOUNDS[asked.sound].programs)
    pitches = {note.pitch for part in score.instruments if not part.is_drum for note in part.notes}
    assert any({(pitch - tonic) % 12 for pitch in pitches} <= set(SCALES[asked.mode]) for tonic in range(12))


def test_busy_pieces_have_more_notes_than_sparse_ones_at_either_tempo() -> None:
    import pretty_midi

    def notes(texture: str, tempo: str) -> int:
        asked = Attributes("piano", drums=False, tempo=tempo, texture=texture, mode="major", meter=4)
        score = pretty_midi.PrettyMIDI(io.BytesIO(compose(asked, 7.0, 0.0, np.random.default_rng(0))))
        return len(score.instruments[0].notes)

    assert min(notes("busy", tempo) for tempo in TEMPI) > 1.5 * max(notes("sparse", tempo) for tempo in TEMPI)


@settings(deadline=None, max_examples=40)
@given(strengths=st.dictionaries(st.sampled_from(sorted(HARMS)), st.floats(0, 1)), seed=SEEDS)
def test_damage_changes_neither_length_nor_loudness(strengths: dict[str, float], seed: int) -> None:
    generator = np.random.default_rng(seed)
    audio = np.sin(np.arange(16_000) * 0.17) * np.linspace(1, 0.2, 16_000)
    damaged = damage(audio, strengths, generator)
    assert damaged.shape == audio.shape
    assert np.abs(damaged).max() <= 1
    assert np.sqrt(np.mean(damaged**2)) <= LOUDNESS * 1.001
    assert np.sqrt(np.mean(damaged**2)) >= LOUDNESS * 0.9 or np.abs(damaged).max() == pytest.approx(1)


@pytest.mark.parametrize("kind", [kind for kind in HARMS if kind != "jitter"])
def test_stronger_damage_moves_the_audio_further_from_the_clean_one(kind: str) -> None:
    audio = np.random.default_rng(3).standard_normal(16_000).cumsum()
    audio -= np.convolve(audio, np.ones(99) / 99, mode="same")
    clean = damage(audio, {}, np.random.default_rng(0))
    weak, strong = (damage(audio, {kind: strength}, np.random.default_rng(0)) for strength in (0.2, 0.9))
    assert 0 < np.linalg.norm(weak - clean) < np.linalg.norm(strong - clean)


def test_raters_give_integers_on_the_scale_around_the_truth() -> None:
    asked = Attributes("piano", drums=False, tempo="slow", texture="sparse", mode="major", meter=4)
    performance = Performance(asked, asked, {"noise": 0.4})
    raters = draw_raters(200, np.random.default_rng(0))
    ratings = np.array([rate(performance, rater, np.random.default_rng([1, n])) for n, rater in enumerate(raters)])
    assert set(np.unique(ratings)) <= {1, 2, 3, 4, 5}
    assert ratings.mean(axis=0) == pytest.approx([performance.omq, performance.ta], abs=0.3)
