"""Checkpoints: a name to weights on this disk, looked up without loading them, and refused where they are not data.

`resolve(name, cache)` gives a `Checkpoint`; what loading one needs beside transformers is here too. Nothing here
computes a feature: that is `encoders`, which never asks where weights come from.
"""

from whisq_core.checkpoints.ctranslate2_file import whisper_settings, whisper_weights
from whisq_core.checkpoints.resolve import Checkpoint, resolve
from whisq_core.checkpoints.untrained import ARCHITECTURES, ENCODER_ONLY_WHISPER, UNTRAINED_SEED, hashed_tokens

__all__ = [
    "ARCHITECTURES",
    "ENCODER_ONLY_WHISPER",
    "UNTRAINED_SEED",
    "Checkpoint",
    "hashed_tokens",
    "resolve",
    "whisper_settings",
    "whisper_weights",
]
