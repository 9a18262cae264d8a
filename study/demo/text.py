"""`SIMULATED.txt` of the demo corpus: what is not real in it, written from the numbers that made it."""

from collections.abc import Mapping
from dataclasses import asdict

from study.demo.music import SOUNDS
from study.demo.systems import (
    BEST,
    HARM_COSTS_OMQ,
    HARM_COSTS_TA,
    HARMS,
    HOUSES,
    LOST,
    MISMATCH_COSTS_TA,
    SLIP,
    SYSTEMS,
    WEIGHTS,
)


def explanation(recipe: Mapping[str, int]) -> str:
    """The whole text for a corpus of this recipe."""
    return _TEXT.format(
        recipe=", ".join(f"{name} {value}" for name, value in recipe.items()),
        sounds=", ".join(SOUNDS),
        systems="\n".join(
            f"  {system.name}{'*' if system.demo else ' '}  damage {system.damage:.2f} ({', '.join(system.kinds)}), "
            f"faithfulness {system.faithfulness:.2f}, house style {system.house}"
            for system in SYSTEMS
        ),
        houses="\n".join(
            f"  {name}: " + ", ".join(f"{key} {value}" for key, value in asdict(style).items())
            for name, style in HOUSES.items()
        ),
        harms=", ".join(f"{name} {value}" for name, value in HARMS.items()),
        weights=", ".join(f"{name} {value}" for name, value in WEIGHTS.items()),
        lost=", ".join(f"{name} {value}" for name, value in LOST.items()),
        slip=SLIP,
        best=BEST,
        harm_omq=HARM_COSTS_OMQ,
        harm_ta=HARM_COSTS_TA,
        mismatch_ta=MISMATCH_COSTS_TA,
    )


_TEXT = """\
SIMULATED CORPUS: no clip, system or rating in this folder is real.

It is the built-in demonstration of whisq-study, in the layout of MusicEval (AudioMOS Challenge 2025, Track 1). Numbers
measured on it show that the software works and learns. They say nothing about real systems or real listeners, and must
not be compared with published results. The pieces are composed by the software (CC0), on General MIDI instruments.

Recipe: {recipe}.

Prompts ask for a sound, drums or none, a slow or fast tempo, a sparse or busy texture, a major or minor key, and a
meter of 3 or 4; every prompt names all six. Sounds:
  {sounds}

Systems are 16 simulated generators with two independent traits (* marks demo systems, with prompts of their own):
{systems}

With the probability of its faithfulness a system follows a prompt; an attribute then still becomes that of its house
style with probability {slip} x (1 - faithfulness). Otherwise it loses the prompt, and each attribute becomes that of
the house style with these probabilities:
  {lost}
Systems share two house styles, as real generators collapse to a few modes:
{houses}
This makes a lost prompt easier to hear than it may be in real music, on purpose: 120 clips have to be enough to learn.

Damage is drawn for every clip around the system's own: each kind has a strength of 0 to 1.
  harm = 1 - product over kinds of (1 - weight x strength), with the weights
    {harms}
  mismatch = sum of the weights of the attributes that differ from the prompt, which are
    {weights}
  true OMQ = {best} - {harm_omq} x harm
  true TA  = {best} - {mismatch_ta} x mismatch - {harm_ta} x harm
Loudness is the same in every clip. Nothing else ties a label to the audio.

Ratings: each clip is rated by 5 of 15 simulated raters: truth + the rater's bias + noise, rounded to an integer from 1
to 5. A label is the mean of the 5 ratings. person_mos/train_person_mos.txt has a line "clip,rater,omq,ta" for each
rating (the columns of the real file are not documented). system_mos holds each system's mean over train and dev.
"""
