"""The features of a data set where a step finds them: padded on the run's device, for the reference form.

A device keeps all frames as one half-precision array where they fit, and gathers a batch by its clips' places. Lengths
are the same in every batch: the longest of the data set, tokens rounded up to a multiple of 8.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float16, Int
from torch import Tensor

from whisq_core.features.store import Dataset, FeatureTable
from whisq_core.model import Batch
from whisq_core.spec import RunSpec

MICRO_BATCH = {"cpu": 8, "cuda": 64}  # clips whose sequences are at work at once, by device
TOKEN_STEP = 8
_KEPT_SHARE = 0.6  # of a GPU's free memory
_KEPT_BYTES = 512 * 2**20  # of any other device's: a process stays below 1.5 GB


class Clips:
    """Batches of a data set on a device. Text is cut to its valid tokens, audio to what `audio_frames` says."""

    def __init__(self, data: Dataset, spec: RunSpec, device: torch.device, with_frames: bool) -> None:
        self._audio, self._device = data.audio, device
        self._frame_counts = data.audio.num_frames if spec.model.audio_frames == "all" else data.audio.num_valid
        self.audio_pooled = data.audio.pooled(spec.model.audio_frames).to(device)
        self._text_pooled = data.text.pooled("valid").to(device)
        self._prompt_of = torch.from_numpy(data.prompt_of).to(device)
        self._with_frames = with_frames
        self.micro_batch = MICRO_BATCH[device.type] if with_frames else max(1, len(data))
        if with_frames:
            self._read(data)

    def __len__(self) -> int:
        return len(self.audio_pooled)

    def batch(self, clips: Int[Tensor, " batch"]) -> Batch:
        """The batch of these clips, which are places on the device."""
        prompts = self._prompt_of[clips]
        pooled = self.audio_pooled[clips], self._text_pooled[prompts]
        if not self._with_frames:
            return Batch(*pooled)
        frames, frame_mask = self._frames_of(clips)
        return Batch(*pooled, self._tokens[prompts], self._token_mask[prompts], frames, frame_mask)

    def _read(self, data: Dataset) -> None:
        """Put on the device what stays there."""
        tokens, mask = padded(data.text, np.arange(len(data.text)), data.text.num_valid, TOKEN_STEP)
        self._tokens, self._token_mask = tokens.to(self._device), mask.to(self._device)
        self._frame_mask = self._kept = None
        size = 2 * len(data) * int(self._frame_counts.max()) * data.audio.dim
        if size <= (_KEPT_SHARE * torch.cuda.mem_get_info()[0] if self._device.type == "cuda" else _KEPT_BYTES):
            frames, mask = padded(data.audio, np.arange(len(data)), self._frame_counts)
            self._kept, self._frame_mask = frames.to(self._device), mask.to(self._device)

    def _frames_of(
        self, clips: Int[Tensor, " batch"]
    ) -> tuple[Float16[Tensor, "batch frames dim"], Bool[Tensor, "batch frames"]]:
        if self._kept is not None and self._frame_mask is not None:
            return self._kept[clips], self._frame_mask[clips]
        frames, mask = padded(self._audio, clips.cpu().numpy(), self._frame_counts)
        return frames.to(self._device), mask.to(self._device)


def padded(
    table: FeatureTable, rows: Int[np.ndarray, " rows"], counts: Int[np.ndarray, " all"], step: int = 1
) -> tuple[Float16[Tensor, "rows longest dim"], Bool[Tensor, "rows longest"]]:
    """The first `counts[row]` frames of each row, zeros up to the table's longest rounded up to `step`, and a mask."""
    longest = -(-int(counts.max()) // step) * step
    frames = torch.zeros(len(rows), longest, table.dim, dtype=torch.float16)
    for place, row in enumerate(rows.tolist()):
        frames[place, : int(counts[row])] = table.frames(row)[: int(counts[row])]
    return frames, torch.arange(longest) < torch.from_numpy(counts[rows]).unsqueeze(1)
