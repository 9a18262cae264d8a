"""Encoders loaded, run and refused, as the tests of every family need them."""

from pathlib import Path

import numpy as np
import pytest

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.corpus import Corpus, check_audio_files, read_corpus
from whisq_core.encoders import Backbone, resolve_backbone
from whisq_core.encoders.encoder import Encoded, Encoder
from whisq_core.encoders.families import load_encoder
from whisq_core.errors import InputError
from whisq_core.spec import BackboneSpec

PROMPTS = ["a slow sad piano", "fast", "the happy flute plays a high tone over a low organ"]

# By hand: two convolutions, and per layer 4 d^2 + 2 d f for each frame and 2 d for each pair of frames.
WHISPER_MACS = 3000 * 240 * 512 + 1500 * 1536 * 512 + 6 * (1500 * (4 * 512**2 + 2 * 512 * 2048) + 2 * 512 * 1500**2)


def audio_encoder(checkpoint: Checkpoint, precision: str) -> Encoder:
    return load_encoder(checkpoint, "audio", precision)


def text_encoder(checkpoint: Checkpoint, precision: str) -> Encoder:
    return load_encoder(checkpoint, "text", precision)


def run(encoder: Encoder, items: list) -> list[Encoded]:
    return encoder.run([encoder.prepare(item) for item in items])


def sound(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate))).astype(np.float32)


def failure(load, folder: Path, cache: Path) -> str:
    with pytest.raises(InputError) as raised:
        load(resolve(str(folder), cache), "float32")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def opened(data: Path, spec: BackboneSpec, root: Path) -> tuple[Corpus, np.ndarray, Backbone, Path]:
    """The arguments of everything in `encoding`."""
    corpus = read_corpus(data)
    digests = check_audio_files(corpus, root / "cache/audio.json")
    return corpus, digests, resolve_backbone(spec, root / "cache"), root
