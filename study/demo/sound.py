"""Sound of the demo corpus: short pieces with named attributes, synthesised with numpy, and what spoils them.

Everything here is composed and synthesised by this code; nothing is sampled from existing music.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.signal import butter, sosfilt

SAMPLE_RATE = 16_000  # Hz
SECONDS = (6.0, 7.5)  # length of a piece, its last notes included
LOUDNESS = 0.1  # root mean square of every clip: loudness tells nothing
RELEASE = 0.06  # seconds a note takes to end

Audio = Float64[np.ndarray, " samples"]


class Instrument(NamedTuple):
    """One timbre. Harmonic k has the amplitude k**-slope, times `even` where k is even."""

    words: tuple[str, str]  # its names in prompts
    slope: float
    even: float = 1.0
    attack: float = 0.003  # seconds
    decay: float = 0.0  # 1/s
    vibrato: float = 0.0  # cents
    bell: float = 0.0  # ratio of a short inharmonic partial to the fundamental; 0: none
    breath: float = 0.0  # amplitude of noise


INSTRUMENTS = {
    "piano": Instrument(("grand piano", "acoustic piano"), slope=1.6, decay=2.5),
    "organ": Instrument(("church organ", "pipe organ"), slope=0.8, even=1.6, attack=0.04),
    "guitar": Instrument(("acoustic guitar", "nylon guitar"), slope=1.2, decay=6.0),
    "distorted": Instrument(("distorted electric guitar", "overdriven electric guitar"), slope=0.25, decay=0.4),
    "strings": Instrument(("string orchestra", "violins and cellos"), slope=1.2, attack=0.2, vibrato=25),
    "brass": Instrument(("trumpets", "brass section"), slope=0.6, attack=0.06, vibrato=8),
    "flute": Instrument(("flute", "wooden flute"), slope=3.0, even=0.4, attack=0.08, vibrato=15, breath=0.1),
    "vibraphone": Instrument(("vibraphone", "marimba and vibraphone"), slope=4.0, decay=2.0, bell=4.0),
    "bells": Instrument(("tubular bells", "church bells"), slope=2.5, decay=1.2, bell=2.76),
    "synth": Instrument(("square-wave synthesizer", "8-bit video game synth"), slope=1.0, even=0.0),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {  # what every prompt names and every piece has
    "instrument": tuple(INSTRUMENTS),
    "drums": ("no drums", "with drums"),
    "tempo": ("slow", "fast"),
    "register": ("low", "high"),
    "mode": ("major", "minor"),
}
BEATS_PER_MINUTE = {"slow": (58.0, 70.0), "fast": (140.0, 164.0)}
LOWEST = {"low": 48, "high": 67}  # MIDI pitch of the lowest tonic of the melody
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CHORDS = {"major": (0, 4, 5, 3), "minor": (0, 5, 2, 6)}  # degree of the scale for each bar of four beats
DAMAGES = ("clipping", "low_pass", "dropouts", "noise")  # of the finished piece, in the order in which they are done

_CYCLE = 8192  # samples of one period of a waveform; a power of two
_SINE = np.sin(2 * np.pi * np.arange(_CYCLE) / _CYCLE)


def play(piece: Mapping[str, str], strengths: Mapping[str, float], generator: np.random.Generator) -> Audio:
    """A new piece with these attributes: a melody over chords on its instrument, and drums if it has them.

    Parameters
    ----------
    piece
        One value of each of `ATTRIBUTES`.
    strengths
        Of each kind of damage, 0 to 1; that of `wrong_notes` is the chance that a note misses its pitch by a semitone.
    generator
        Decides length, tempo, key, melody and touch.
    """
    audio = np.zeros(round(generator.uniform(*SECONDS) * SAMPLE_RATE))
    beat = 60 / generator.uniform(*BEATS_PER_MINUTE[piece["tempo"]])
    tonic = LOWEST[piece["register"]] + int(generator.integers(7))
    degree = 0

    def add(sound: Audio, start: float, amplitude: float) -> None:
        first = round(start * beat * SAMPLE_RATE)
        part = audio[first : first + len(sound)]
        part += amplitude * sound[: len(part)]

    def sing(degree: int, start: float, beats: float, amplitude: float) -> None:
        octave, step = divmod(degree, 7)
        pitch = tonic + 12 * octave + SCALES[piece["mode"]][step]
        if generator.random() < strengths.get("wrong_notes", 0.0):
            pitch += int(generator.choice((-1, 1)))
        tone = _tone(INSTRUMENTS[piece["instrument"]], pitch, beats * beat, generator)
        add(tone, start, amplitude * generator.uniform(0.8, 1.2))

    for start in range(int(len(audio) / SAMPLE_RATE / beat)):
        root = CHORDS[piece["mode"]][start // 4 % 4]
        if start % 4 == 0:
            degree = root + int(generator.choice((0, 2, 4)))
            for third in (0, 2, 4):
                sing(root + third - 7, start, 4, 0.5)
        sing(degree, start, 1, 1.0)
        degree = int(np.clip(degree + generator.choice((-2, -1, 1, 2)), 0, 10))
        if piece["drums"] == "with drums":
            add(_drum("snare" if start % 2 else "kick", generator), start, 2.0)
            for half in (0.0, 0.5):
                add(_drum("hat", generator), start + half, 0.7)
    return audio


def _tone(instrument: Instrument, pitch: int, seconds: float, generator: np.random.Generator) -> Audio:
    frequency = round(440 * 2 ** ((pitch - 69) / 12), 3)  # Hz; the last bit of a power is not the same on every machine
    time = np.arange(round((seconds + RELEASE) * SAMPLE_RATE)) / SAMPLE_RATE
    turns = frequency * time + generator.random()
    if instrument.vibrato:
        speed = generator.uniform(4.5, 6.0)  # Hz
        swing = (2 ** (instrument.vibrato / 1200) - 1) * frequency / (2 * np.pi * speed)  # turns
        turns += swing * _look_up(_SINE, speed * time)
    tone = _look_up(_period(instrument, int(0.45 * SAMPLE_RATE / frequency)), turns)
    if instrument.bell:
        tone += 0.8 * np.exp(-6.0 * time) * _look_up(_SINE, instrument.bell * turns)
    if instrument.breath:
        tone += instrument.breath * generator.standard_normal(len(time))
    tone *= np.minimum(time / instrument.attack, 1) * np.minimum((time[-1] - time) / RELEASE, 1)
    tone *= np.exp(-instrument.decay * time)
    return tone


@cache
def _period(instrument: Instrument, num_harmonics: int) -> Audio:
    """One period of the instrument's waveform, with the same power for every instrument."""
    orders = np.arange(1, min(num_harmonics, 24) + 1)
    amplitudes = orders**-instrument.slope * np.where(orders % 2 == 0, instrument.even, 1.0)
    spectrum = np.zeros(_CYCLE // 2 + 1, dtype=complex)
    spectrum[orders] = -0.5j * _CYCLE * amplitudes / np.sqrt(np.sum(amplitudes**2))
    return np.fft.irfft(spectrum)


def _look_up(period: Audio, turns: Audio) -> Audio:
    return np.asarray(period[(turns * _CYCLE).astype(np.int64) & (_CYCLE - 1)])


def _drum(kind: str, generator: np.random.Generator) -> Audio:
    time = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE
    if kind == "kick":
        return np.asarray(np.exp(-18 * time) * _look_up(_SINE, 50 * time + 2.5 * (1 - np.exp(-40 * time))))
    noise = generator.standard_normal(len(time))
    if kind == "snare":
        return np.asarray(0.5 * np.exp(-22 * time) * noise)
    return np.asarray(0.3 * np.exp(-70 * time) * np.diff(noise, prepend=0.0))


def spoil(audio: Audio, strengths: Mapping[str, float], generator: np.random.Generator) -> Audio:
    """`audio` with its damage done, each kind with a strength of 0 to 1, at the common loudness."""
    for kind in DAMAGES:
        strength = strengths.get(kind, 0.0)
        audio = audio / _rms(audio)
        if strength and kind == "clipping":
            audio = audio.clip(-2.5 * 0.06**strength, 2.5 * 0.06**strength)
        elif strength and kind == "low_pass":
            cutoff = 7500 * (500 / 7500) ** strength  # Hz
            audio = sosfilt(butter(4, cutoff, fs=SAMPLE_RATE, output="sos"), audio)
        elif strength and kind == "dropouts":
            for _ in range(round(strength * 4 * len(audio) / SAMPLE_RATE)):  # at most four a second
                start = int(generator.integers(0, len(audio)))
                audio[start : start + int(generator.uniform(0.03, 0.15) * SAMPLE_RATE)] = 0.0
        elif strength and kind == "noise":
            level = 10 ** ((-42 + 40 * strength) / 20)  # from 42 to 2 dB below the music
            audio = audio + level * generator.standard_normal(len(audio))
    audio = LOUDNESS * audio / _rms(audio)
    return audio / max(1.0, float(np.abs(audio).max()))


def _rms(audio: Audio) -> float:
    return float(np.sqrt(np.mean(audio**2))) + 1e-9
