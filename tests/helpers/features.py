"""Real feature stores with given numbers, for tests that need features and no encoder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from whisq_core.features import Dataset, FeatureKey, FeatureStore, FeatureTable


def write_table(
    root: Path,
    kind: Literal["audio", "text"],
    frames: Sequence[np.ndarray],
    valid: Sequence[int] | None = None,
    pooled: Sequence[np.ndarray] | None = None,
) -> FeatureTable:
    """A table whose row i holds `frames[i]` (rounded to float16), written to and opened from a real store."""
    content = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in frames)).hexdigest()
    store = FeatureStore(root, FeatureKey(kind, content, "given numbers", "float32"))
    keys = [hashlib.sha256(f"{kind} {row}".encode()).hexdigest() for row in range(len(frames))]
    for row, (key, array) in enumerate(zip(keys, frames, strict=True)):
        store.write(key, array, valid[row] if valid else len(array), pooled[row] if pooled else None)
    return store.open(keys)


def random_dataset(
    root: Path,
    num_clips: int = 12,
    num_prompts: int = 5,
    num_frames: int = 20,
    audio_dim: int = 16,
    text_dim: int = 12,
    seed: int = 0,
) -> Dataset:
    """Random features and labels that depend on them a little; a third of each clip's frames may be padding."""
    generator = np.random.default_rng(seed)
    valid = generator.integers(2 * num_frames // 3, num_frames + 1, num_clips)
    audio = generator.normal(size=(num_clips, num_frames, audio_dim)).astype(np.float32)
    audio += generator.normal(size=(num_clips, 1, audio_dim)).astype(np.float32)
    tokens = generator.integers(3, 9, num_prompts)
    text = [generator.normal(size=(count, text_dim)).astype(np.float32) for count in tokens]
    signal = audio.mean(axis=1)[:, :2] + 0.3 * generator.normal(size=(num_clips, 2))
    labels = np.clip(np.round((3 + signal) * 5) / 5, 1, 5)
    return Dataset(
        audio=write_table(root, "audio", list(audio), [int(count) for count in valid]),
        text=write_table(root, "text", text),
        prompt_of=np.arange(num_clips) % num_prompts,
        omq=labels[:, 0].astype(np.float64),
        ta=labels[:, 1].astype(np.float64),
    )
