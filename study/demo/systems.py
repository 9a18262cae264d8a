"""Simulated text-to-music systems and the simulated people who rate them.

A system has two independent traits: how clean its audio is and how faithfully it follows a prompt. Both vary
from clip to clip. What a rater hears of them is a known function of what was really done to the clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import butter, sosfilt

from study.demo.music import ATTRIBUTE_NAMES, Attributes

SAMPLE_RATE = 16_000  # Hz
LOUDNESS = 0.1  # root mean square of every clip: loudness tells nothing
MAX_JITTER = 0.12  # seconds

# What a system plays when it loses the prompt, whatever was asked: a generator's mode collapse.
HOUSES = {
    "film": Attributes("strings", drums=False, tempo="slow", texture="sparse", mode="major", meter=4),
    "island": Attributes("steel", drums=True, tempo="fast", texture="busy", mode="major", meter=4),
}

# Largest harm of each kind of damage, on a scale where 1 is unbearable.
HARMS = {"low_pass": 0.9, "noise": 1.0, "clipping": 0.9, "crush": 1.0, "wobble": 0.7, "dropouts": 0.8, "jitter": 0.5}

# How much of the alignment is lost with each attribute that differs from the prompt; together 1.
WEIGHTS = {"sound": 0.55, "drums": 0.16, "tempo": 0.12, "texture": 0.09, "mode": 0.04, "meter": 0.04}

LOST = {
    "sound": 1.0,
    "drums": 0.9,
    "tempo": 0.9,
    "texture": 0.9,
    "mode": 0.9,
    "meter": 0.9,
}  # chance of the house's own
SLIP = 0.12  # the same chance in a prompt that is not lost, times (1 - faithfulness)
BEST = 4.6  # true score of a flawless clip
HARM_COSTS_OMQ, HARM_COSTS_TA, MISMATCH_COSTS_TA = 3.4, 0.4, 3.2


@dataclass(frozen=True)
class System:
    """One simulated generator."""

    name: str
    damage: float  # mean strength of its damage, 0..1
    faithfulness: float  # probability that it does not lose the prompt
    house: str  # what it plays otherwise
    kinds: tuple[str, ...]  # its kinds of damage
    demo: bool = False  # its prompts stand in demo_prompt_info.txt under the full name


SYSTEMS = (
    System("S001", 0.05, 0.95, "film", ("noise", "low_pass"), demo=True),
    System("S002", 0.22, 0.90, "island", ("low_pass", "wobble")),
    System("S003", 0.42, 0.95, "film", ("clipping", "noise")),
    System("S004", 0.65, 0.90, "island", ("crush", "low_pass")),
    System("S006", 0.22, 0.70, "film", ("noise", "dropouts"), demo=True),
    System("S007", 0.05, 0.68, "island", ("low_pass", "jitter")),
    System("S008", 0.65, 0.72, "film", ("noise", "clipping")),
    System("S009", 0.42, 0.65, "island", ("low_pass", "dropouts")),
    System("S010", 0.42, 0.42, "film", ("crush", "noise")),
    System("S011", 0.65, 0.38, "island", ("low_pass", "noise")),
    System("S012", 0.05, 0.40, "film", ("clipping", "wobble")),
    System("S013", 0.22, 0.36, "island", ("clipping", "low_pass"), demo=True),
    System("S014", 0.65, 0.12, "film", ("noise", "crush")),
    System("S015", 0.42, 0.10, "island", ("noise", "low_pass")),
    System("S016", 0.22, 0.15, "film", ("crush", "jitter")),
    System("S018", 0.05, 0.10, "island", ("noise", "wobble"), demo=True),
)


@dataclass(frozen=True)
class Performance:
    """What a system really did with one prompt."""

    asked: Attributes
    played: Attributes
    strengths: Mapping[str, float]  # of each kind of damage, 0..1

    @property
    def harm(self) -> float:
        """0 for clean audio, towards 1 with damage; kinds add up like independent losses."""
        return 1 - float(np.prod([1 - HARMS[kind] * strength for kind, strength in self.strengths.items()]))

    @property
    def jitter(self) -> float:
        """Standard deviation in seconds by which every note misses its time."""
        return MAX_JITTER * self.strengths.get("jitter", 0.0)

    @property
    def mismatch(self) -> float:
        """0 when everything asked for is there, 1 when nothing is."""
        return sum(WEIGHTS[name] for name in ATTRIBUTE_NAMES if getattr(self.asked, name) != getattr(self.played, name))

    @property
    def omq(self) -> float:
        """True overall musical quality, 1..5."""
        return BEST - HARM_COSTS_OMQ * self.harm

    @property
    def ta(self) -> float:
        """True textual alignment, 1..5; bad audio costs a little of it."""
        return BEST - MISMATCH_COSTS_TA * self.mismatch - HARM_COSTS_TA * self.harm


def perform(system: System, asked: Attributes, generator: np.random.Generator) -> Performance:
    """Decide what `system` plays for this prompt and how damaged it comes out."""
    played = asked
    lost = generator.random() > system.faithfulness
    for name in ATTRIBUTE_NAMES:
        if generator.random() < (LOST[name] if lost else SLIP * (1 - system.faithfulness)):
            played = replace(played, **{name: getattr(HOUSES[system.house], name)})
    strengths = {}
    for kind in system.kinds:
        strength = system.damage * generator.uniform(0.2, 1.6) + generator.normal(0.04, 0.08)
        strengths[kind] = float(np.clip(strength, 0.0, 1.0))
    return Performance(asked, played, strengths)


def damage(audio: np.ndarray, strengths: Mapping[str, float], generator: np.random.Generator) -> np.ndarray:
    """`audio` (mono, 16 kHz) with its damage done, at the common loudness; `jitter` has happened in the score."""
    for kind, spoil in _DAMAGES.items():
        if strengths.get(kind, 0.0) > 0:
            audio = spoil(audio / _rms(audio), strengths[kind], generator)
    audio = LOUDNESS * audio / _rms(audio)
    return audio / max(1.0, float(np.abs(audio).max()))


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(audio**2))) + 1e-9


def _low_pass(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    cutoff = 7500 * (500 / 7500) ** strength  # Hz
    return np.asarray(sosfilt(butter(4, cutoff, fs=SAMPLE_RATE, output="sos"), audio))


def _noise(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    level: float = 10 ** ((-42 + 40 * strength) / 20)  # from 42 to 2 dB below the music
    return audio + level * generator.standard_normal(len(audio))


def _clipping(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    ceiling: float = 2.5 * 0.06**strength  # in units of the root mean square
    return np.asarray(np.clip(audio, -ceiling, ceiling))


def _crush(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    step: float = 0.01 * 120**strength  # in units of the root mean square
    hold = 1 + round(5 * strength)  # samples
    held = np.repeat(audio[::hold], hold)[: len(audio)]
    return np.asarray(step * np.round(held / step))


def _wobble(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    cents, rate = 90 * strength, generator.uniform(2.0, 5.0)  # depth, Hz
    time = np.arange(len(audio)) / SAMPLE_RATE
    swing = (2 ** (cents / 1200) - 1) / (2 * np.pi * rate) * np.sin(2 * np.pi * rate * time)
    return np.asarray(np.interp(time + swing, time, audio))


def _dropouts(audio: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    gate = np.ones(len(audio))
    for _ in range(round(strength * 4 * len(audio) / SAMPLE_RATE)):  # at most four a second
        start = int(generator.integers(0, len(audio)))
        gate[start : start + int(generator.uniform(0.03, 0.15) * SAMPLE_RATE)] = 0.0
    return audio * gate


_DAMAGES = {  # in the order in which they are done
    "wobble": _wobble,
    "clipping": _clipping,
    "crush": _crush,
    "low_pass": _low_pass,
    "dropouts": _dropouts,
    "noise": _noise,
}


@dataclass(frozen=True)
class Rater:
    """One simulated person."""

    name: str
    bias: tuple[float, float]  # omq, ta; in points
    noise: float  # standard deviation in points


def draw_raters(count: int, generator: np.random.Generator) -> tuple[Rater, ...]:
    """People who are a little too strict or too kind, and more or less steady."""
    raters = []
    for number in range(1, count + 1):
        omq_bias, ta_bias = generator.normal(0.0, 0.3, size=2).tolist()
        raters.append(Rater(f"R{number:02d}", (omq_bias, ta_bias), float(generator.uniform(0.45, 0.8))))
    return tuple(raters)


def rate(performance: Performance, rater: Rater, generator: np.random.Generator) -> tuple[int, int]:
    """(omq, ta), each an integer 1..5."""
    heard = np.array([performance.omq, performance.ta]) + rater.bias + generator.normal(0.0, rater.noise, size=2)
    omq, ta = np.clip(np.rint(heard), 1, 5).astype(int).tolist()
    return omq, ta
