"""Sound of the demo corpus: each attribute can be measured in it, and each damage goes as far as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.demo.ratings import HARMS
from study.demo.sound import ATTRIBUTES, DAMAGES, LOUDNESS, SAMPLE_RATE, SCALES, play, spoil

PIECES = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in ATTRIBUTES.items()})
SEEDS = st.integers(0, 2**32 - 1)
PIECE = {"instrument": "vibraphone", "drums": "no drums", "tempo": "fast", "register": "low", "mode": "major"}


def spectrum(wrong_notes: float = 0.0, **changes: str) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz, and the share of each in the power of a piece."""
    audio = play(PIECE | changes, {"wrong_notes": wrong_notes}, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(audio)) ** 2
    return np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE), power / power.sum()


@settings(deadline=None, max_examples=15)
@given(piece=PIECES, seed=SEEDS)
def test_every_combination_of_attributes_sounds_from_beginning_to_end(piece: dict[str, str], seed: int) -> None:
    audio = play(piece, {"wrong_notes": 0.3}, np.random.default_rng(seed))
    assert 6 <= len(audio) / SAMPLE_RATE <= 7.5
    assert np.isfinite(audio).all()
    seconds = audio[: 6 * SAMPLE_RATE].reshape(6, -1)
    assert (np.abs(seconds).max(axis=1) > 0.001).all()


def test_a_fast_piece_has_more_notes_than_a_slow_one() -> None:
    def onsets(tempo: str) -> int:
        audio = play(PIECE | {"instrument": "guitar", "tempo": tempo}, {}, np.random.default_rng(0))
        levels = np.abs(audio[: len(audio) // 400 * 400]).reshape(-1, 400).max(axis=1)  # 25 ms each
        return int(np.sum(levels[1:] > 1.5 * levels[:-1] + 0.05))

    assert onsets("fast") > 1.5 * onsets("slow") > 5


def test_the_high_register_lies_above_the_low_one() -> None:
    low, high = (np.dot(*spectrum(register=register)) for register in ("low", "high"))
    assert high > 1.8 * low


def test_drums_add_sound_above_the_instrument() -> None:
    def treble(drums: str) -> float:
        frequency, power = spectrum(drums=drums)
        return float(power[frequency > 5000].sum())

    assert treble("with drums") > 100 * treble("no drums")


@pytest.mark.parametrize("mode", SCALES)
def test_notes_belong_to_the_mode_until_they_are_wrong(mode: str) -> None:
    def foreign(wrong_notes: float) -> float:
        """Share of the power outside the notes of the best-fitting key."""
        frequency, power = spectrum(wrong_notes, mode=mode)
        keep = (frequency > 60) & (frequency < 1200)
        classes = np.rint(12 * np.log2(frequency[keep] / 440)).astype(int) % 12
        chroma = np.bincount(classes, power[keep], 12) / power[keep].sum()
        return 1 - max(sum(chroma[(tonic + step) % 12] for step in SCALES[mode]) for tonic in range(12))

    assert foreign(0.0) < 0.03
    assert foreign(0.5) > 0.1


@settings(deadline=None, max_examples=25)
@given(strengths=st.dictionaries(st.sampled_from(sorted(HARMS)), st.floats(0, 1)), seed=SEEDS)
def test_damage_changes_neither_length_nor_loudness(strengths: dict[str, float], seed: int) -> None:
    audio = np.sin(np.arange(16_000) * 0.17) * np.linspace(1, 0.2, 16_000)
    damaged = spoil(audio, strengths, np.random.default_rng(seed))
    assert damaged.shape == audio.shape
    assert np.abs(damaged).max() <= 1
    assert np.sqrt(np.mean(damaged**2)) <= LOUDNESS * 1.001
    assert np.sqrt(np.mean(damaged**2)) >= LOUDNESS * 0.9 or np.abs(damaged).max() == pytest.approx(1)


@pytest.mark.parametrize("kind", DAMAGES)
def test_stronger_damage_moves_the_audio_further_from_the_clean_one(kind: str) -> None:
    audio = np.random.default_rng(3).standard_normal(16_000).cumsum()
    audio -= np.convolve(audio, np.ones(99) / 99, mode="same")
    clean = spoil(audio, {}, np.random.default_rng(0))
    weak, strong = (spoil(audio, {kind: strength}, np.random.default_rng(0)) for strength in (0.2, 0.9))
    assert 0 < np.linalg.norm(weak - clean) < np.linalg.norm(strong - clean)
