"""What a step over padded pieces eats: features of some clips, padded to one length, with masks, on a device."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from whisq_core.features.store import Dataset, FeatureTable

_Item = TypeVar("_Item")
_Prepared = TypeVar("_Prepared")
_KEPT_SHARE = 0.6  # of a device's free memory: a store that needs more is streamed


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


def lengths(table: FeatureTable, frames: Literal["all", "valid"]) -> Int[np.ndarray, " rows"]:
    """How many frames of each row count."""
    return table.num_frames if frames == "all" else table.num_valid


class Loader:
    """Batches of a data set on `device`, in float32.

    Text is always cut to its valid tokens; audio to its valid frames when `audio_frames` says so. A GPU keeps the
    clips it has seen where all of them fit; otherwise they are streamed through pinned memory, the next piece while
    the last one is at work.
    """

    def __init__(self, data: Dataset, audio_frames: Literal["all", "valid"], device: torch.device) -> None:
        self._data, self._device = data, device
        self._audio_pooled = data.audio.pooled(audio_frames)
        self._text_pooled = data.text.pooled("valid")
        self._audio_counts = lengths(data.audio, audio_frames)
        self._kept: dict[int, Float16[Tensor, "frames dim"]] | None = None
        if device.type == "cuda":
            num_bytes = 2 * data.audio.dim * int(self._audio_counts.sum())
            free, _ = torch.cuda.mem_get_info(device)
            self._kept = {} if num_bytes < _KEPT_SHARE * free else None

    def batches(self, pieces: Sequence[Int[np.ndarray, " _"]], with_sequences: bool) -> Iterator[Batch]:
        """One batch per piece."""
        if self._device.type == "cuda":
            yield from one_ahead(lambda piece: self.batch(piece, with_sequences), pieces)
        else:
            yield from (self.batch(piece, with_sequences) for piece in pieces)

    def batch(self, clips: Int[np.ndarray, " piece"], with_sequences: bool) -> Batch:
        """The batch of these clips."""
        prompts = self._data.prompt_of[clips]
        audio = text = None
        if with_sequences:
            audio_table, text_table = self._data.audio, self._data.text
            audio = self._pad([self._clip(row) for row in clips.tolist()], audio_table.dim)
            tokens = [text_table.frames(row)[: int(text_table.num_valid[row])] for row in prompts.tolist()]
            text = self._pad(tokens, text_table.dim)
        return Batch(
            self._audio_pooled[torch.from_numpy(clips)].to(self._device),
            self._text_pooled[torch.from_numpy(prompts)].to(self._device),
            audio,
            text,
        )

    def _clip(self, row: int) -> Float16[Tensor, "frames dim"]:
        """The frames of one clip that count: on the device where it keeps them, else in the mapped file."""
        frames = self._data.audio.frames(row)[: int(self._audio_counts[row])]
        if self._kept is None:
            return frames
        if row not in self._kept:
            self._kept[row] = frames.to(self._device)
        return self._kept[row]

    def _pad(self, sequences: list[Float16[Tensor, "_ dim"]], dim: int) -> Sequences:
        counts = torch.tensor([len(sequence) for sequence in sequences])
        on_device = sequences[0].device.type != "cpu"
        padded = torch.zeros(
            len(sequences),
            int(counts.max()),
            dim,
            dtype=torch.float16,
            device=self._device if on_device else None,
            pin_memory=self._device.type == "cuda" and not on_device,
        )
        for position, sequence in enumerate(sequences):
            padded[position, : len(sequence)] = sequence
        mask = torch.arange(padded.shape[1]) < counts.unsqueeze(1)
        return Sequences(padded.to(self._device, non_blocking=True).float(), mask.to(self._device))


def one_ahead(prepare: Callable[[_Item], _Prepared], items: Sequence[_Item]) -> Iterator[_Prepared]:
    """`prepare` each item in order, the next one in a thread while the last one is at work."""
    with ThreadPoolExecutor(1) as thread:
        waiting = [thread.submit(prepare, item) for item in items[:1]]
        for item in items[1:]:
            prepared = waiting.pop().result()
            waiting.append(thread.submit(prepare, item))
            yield prepared
        yield from (last.result() for last in waiting)
