"""Decoding, mixing down, resampling, and telling broken files from good ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core.corpus.audio import CLAP_SAMPLE_RATE, SAMPLE_RATE, inspect, load, read
from whisq_core.errors import InputError


def tone(rate: int, hertz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def test_a_mono_file_is_read_as_it_is(tmp_path: Path) -> None:
    wave = tone(16_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    ours, rate = read(tmp_path / "a.wav")
    assert rate == SAMPLE_RATE
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, wave)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(22_050), tone(22_050, 700)
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1), 22_050)
    ours, rate = read(tmp_path / "a.flac")
    assert rate == 22_050
    np.testing.assert_allclose(ours, (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("target", [SAMPLE_RATE, CLAP_SAMPLE_RATE])
def test_a_tone_stays_the_same_tone_at_another_rate(tmp_path: Path, rate: int, target: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate), rate)
    ours = load(tmp_path / "a.wav", target)
    assert ours.dtype == np.float32
    assert len(ours) == -(-int(rate * 0.5) * target // rate)
    middle = slice(len(ours) // 10, -len(ours) // 10)  # the filter rings at the ends
    np.testing.assert_allclose(ours[middle], tone(target, seconds=1)[: len(ours)][middle], atol=5e-3)


def test_what_lies_above_half_the_new_rate_is_filtered_and_not_folded_back(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(48_000, 11_000), 48_000)
    assert np.abs(load(tmp_path / "a.wav", 16_000)[500:-500]).max() < 2e-3


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_every_usual_format_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    soundfile.write(path, tone(44_100), 44_100)
    assert inspect(path) is None
    assert abs(len(load(path, 16_000)) - 8_000) < 1_200  # mp3 pads


@given(st.integers(400, 3_000), st.sampled_from(["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]), st.data())
@settings(deadline=None, max_examples=40)
def test_a_wav_cut_anywhere_is_reported(
    tmp_path_factory: pytest.TempPathFactory, frames: int, subtype: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.wav"
    soundfile.write(path, np.zeros(frames), 16_000, subtype=subtype)
    assert inspect(path) is None
    content = path.read_bytes()
    start = content.index(b"data") + 8
    size = struct.unpack("<I", content[start - 4 : start])[0]
    path.write_bytes(content[: data.draw(st.integers(1, start + size - 1))])
    mistake = inspect(path)
    assert mistake is not None
    assert "truncated" in mistake or "not a sound file" in mistake


def test_a_truncated_wav_says_what_it_announced(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 16_000, subtype="PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1_000])
    assert inspect(path) == (
        "truncated: its header announces 32000 bytes of samples, the file holds 31000. Fetch the clip again."
    )
    path.write_bytes(whole[:36])
    assert inspect(path) == (
        "truncated: its header announces 32044 bytes, the file holds 36, and no samples. Fetch the clip again."
    )


def test_a_wav_from_a_pipe_and_one_with_further_chunks_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16_000), 16_000, subtype="PCM_16")
    content = path.read_bytes()
    start = content.index(b"data") + 4
    path.write_bytes(content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :])
    assert inspect(path) is None
    path.write_bytes(content[: start - 4] + b"LIST\x03\x00\x00\x00abc\x00" + content[start - 4 :] + b"trailing")
    assert inspect(path) is None
    assert len(read(path)[0]) == 8_000


def test_a_truncated_flac_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 16_000), 16_000)
    path.write_bytes(path.read_bytes()[:-10_000])
    mistake = inspect(path)
    assert mistake is not None
    assert "truncated" in mistake or "not a sound file" in mistake


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_reported_wherever_they_are(tmp_path: Path, bad: float) -> None:
    wave = np.zeros(16_000)
    wave[3] = bad
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    expected = "1 samples are NaN or infinite, allowed: finite samples."
    assert inspect(tmp_path / "a.wav") == expected
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.wav", 16_000)
    assert str(caught.value) == f"{tmp_path / 'a.wav'}: {expected}"


def test_a_folder_in_the_place_of_a_file_is_reported(tmp_path: Path) -> None:
    assert inspect(tmp_path) == (
        "cannot be read (it is a folder, allowed: a file). Check the permissions and the disk."
    )


def test_silence_of_one_frame_is_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(400), 16_000)
    assert inspect(tmp_path / "a.wav") is None
    soundfile.write(tmp_path / "b.wav", np.zeros(1_199), 48_000)
    assert inspect(tmp_path / "b.wav") == (
        "found 24.9 ms of sound (1199 samples), allowed: at least 25 ms. Fetch the clip again."
    )
