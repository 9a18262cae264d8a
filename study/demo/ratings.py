"""Simulated text-to-music systems and the simulated raters of their clips.

A system has two independent traits: how clean its audio is and how faithfully it follows a prompt. Both vary from clip
to clip. What a rater perceives is a known function of what was really done to the clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from study.demo.sound import ATTRIBUTES

# What a system plays when it loses the prompt, whatever was asked for: a generator's mode collapse.
HOUSE_STYLES = {
    "film": {"instrument": "strings", "drums": "no drums", "tempo": "slow", "register": "low", "mode": "major"},
    "arcade": {"instrument": "synth", "drums": "with drums", "tempo": "fast", "register": "high", "mode": "major"},
}
# Largest harm of each kind of damage, on a scale where 1 is unbearable.
HARMS = {"noise": 1.0, "low_pass": 0.9, "clipping": 0.9, "dropouts": 0.8, "wrong_notes": 0.5}
# How much of the alignment is lost with each attribute that differs from the prompt; together 1.
WEIGHTS = {"instrument": 0.55, "drums": 0.18, "tempo": 0.13, "register": 0.09, "mode": 0.05}

SLIP = 0.12  # chance of the house style's attribute in a prompt that is not lost, times (1 - faithfulness)
BEST = 4.6  # true score of a flawless clip
HARM_COSTS_OMQ, HARM_COSTS_TA, MISMATCH_COSTS_TA = 3.4, 0.4, 3.2
NUM_RATERS, RATERS_PER_CLIP = 15, 5


@dataclass(frozen=True)
class System:
    """One simulated generator."""

    name: str
    faithfulness: float  # probability that it does not lose the prompt
    damage: float  # mean strength of its damage, 0..1
    kinds: tuple[str, str]  # its kinds of damage
    house: str  # the style it plays when it loses the prompt


KINDS = (
    ("noise", "low_pass"),
    ("clipping", "noise"),
    ("low_pass", "wrong_notes"),
    ("noise", "dropouts"),
    ("low_pass", "clipping"),
)


def _systems() -> tuple[System, ...]:
    """Every pair of the two traits; kinds of damage and house styles in turn, independent of them."""
    numbers = (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18)  # four of them demo systems, as in MusicEval
    traits = product((0.95, 0.70, 0.40, 0.12), (0.05, 0.65, 0.22, 0.42))
    return tuple(
        System(f"S{number:03d}", *pair, KINDS[place % len(KINDS)], ("film", "arcade")[(place + place // 4) % 2])
        for place, (number, pair) in enumerate(zip(numbers, traits, strict=True))
    )


SYSTEMS = _systems()


@dataclass(frozen=True)
class Performance:
    """What a system really did with one prompt."""

    asked: Mapping[str, str]
    played: Mapping[str, str]
    strengths: Mapping[str, float]  # of each kind of damage, 0..1

    @property
    def harm(self) -> float:
        """0 for clean audio, towards 1 with damage; kinds add up like independent losses."""
        return 1 - float(np.prod([1 - HARMS[kind] * strength for kind, strength in self.strengths.items()]))

    @property
    def mismatch(self) -> float:
        """0 when everything asked for is there, 1 when nothing is."""
        return sum(weight for name, weight in WEIGHTS.items() if self.asked[name] != self.played[name])

    @property
    def truth(self) -> tuple[float, float]:
        """True OMQ and TA, 1..5; bad audio costs a little of the alignment too."""
        harm = self.harm
        return BEST - HARM_COSTS_OMQ * harm, BEST - MISMATCH_COSTS_TA * self.mismatch - HARM_COSTS_TA * harm


def perform(system: System, asked: Mapping[str, str], generator: np.random.Generator) -> Performance:
    """Decide what `system` plays for a prompt and how damaged it comes out."""
    lost = generator.random() > system.faithfulness
    slips = generator.random(len(ATTRIBUTES)) < SLIP * (1 - system.faithfulness)
    played = {
        name: HOUSE_STYLES[system.house][name] if lost or slip else asked[name]
        for name, slip in zip(ATTRIBUTES, slips, strict=True)
    }
    strengths = system.damage * generator.uniform(0.2, 1.6, size=2) + generator.normal(0.04, 0.08, size=2)
    return Performance(asked, played, dict(zip(system.kinds, strengths.clip(0, 1).tolist(), strict=True)))


class Panel:
    """Simulated people who are a little too strict or too kind, and more or less steady."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.bias = generator.normal(0.0, 0.3, size=(NUM_RATERS, 2))  # of OMQ and TA, in points
        self.noise = generator.uniform(0.45, 0.8, size=(NUM_RATERS, 1))  # standard deviation in points

    def rate(self, truth: tuple[float, float], generator: np.random.Generator) -> dict[str, tuple[int, int]]:
        """OMQ and TA, integers 1..5, by the name of each of the clip's raters."""
        people = generator.choice(NUM_RATERS, RATERS_PER_CLIP, replace=False)
        perceived = truth + self.bias[people] + self.noise[people] * generator.normal(size=(RATERS_PER_CLIP, 2))
        scores = np.clip(np.rint(perceived), 1, 5).astype(int).tolist()
        return {f"R{person + 1:02d}": (omq, ta) for person, (omq, ta) in zip(people, scores, strict=True)}
