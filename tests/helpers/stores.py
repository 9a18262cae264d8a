"""A feature store of a few items, and how a bit of a file flips."""

import hashlib
from pathlib import Path

import numpy as np

from whisq_core.features import FeatureKey, StoreMeta

KEY = FeatureKey("audio", "weights", "mono 16 kHz", "float32")
META = StoreMeta("openai/whisper-base", 8, 20_590_592, 43_683_840_000, 50.0, False)


def item(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def random_frames(num_frames: int = 20, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, dim)).astype(np.float32)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
