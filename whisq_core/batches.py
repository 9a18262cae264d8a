"""What a step of training eats: the features and labels of some clips, padded to one length, with masks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisq_core.features import Dataset, FeatureTable


@dataclass(frozen=True)
class Sequences:
    """Encoder features padded to one length; `mask` is true where a frame or token counts."""

    frames: Float[Tensor, "batch length dim"]
    mask: Bool[Tensor, "batch length"]


@dataclass(frozen=True)
class Batch:
    """Some clips. The sequences are None where a run needs pooled features only."""

    audio_pooled: Float[Tensor, "batch audio_dim"]
    text_pooled: Float[Tensor, "batch text_dim"]
    audio: Sequences | None
    text: Sequences | None

    def __len__(self) -> int:
        return len(self.audio_pooled)


def gather(
    data: Dataset,
    clips: Int[np.ndarray, " batch"],
    audio_frames: Literal["all", "valid"],
    with_sequences: bool,
    device: torch.device,
) -> Batch:
    """The batch of these clips on `device`, in float32.

    Text is always cut to its valid tokens; audio to its valid frames when `audio_frames` says so.
    """
    prompts = data.prompt_of[clips]
    audio_pooled = data.audio.pooled(audio_frames)[torch.from_numpy(np.asarray(clips))]
    text_pooled = data.text.pooled("valid")[torch.from_numpy(np.asarray(prompts))]
    audio = text = None
    if with_sequences:
        audio = _pad(data.audio, clips, lengths(data.audio, audio_frames)[clips], device)
        text = _pad(data.text, prompts, data.text.num_valid[prompts], device)
    return Batch(audio_pooled.to(device), text_pooled.to(device), audio, text)


def lengths(table: FeatureTable, frames: Literal["all", "valid"]) -> Int[np.ndarray, " rows"]:
    """How many frames of each row count."""
    return table.num_frames if frames == "all" else table.num_valid


def _pad(
    table: FeatureTable, rows: Int[np.ndarray, " batch"], counts: Int[np.ndarray, " batch"], device: torch.device
) -> Sequences:
    padded = torch.zeros(len(rows), int(counts.max()), table.dim)
    for position, (row, count) in enumerate(zip(rows, counts, strict=True)):
        padded[position, :count] = table.frames(int(row))[: int(count)]
    mask = torch.arange(padded.shape[1]) < torch.from_numpy(np.asarray(counts)).unsqueeze(1)
    return Sequences(padded.to(device), mask.to(device))
