"""The features of a data set where a step finds them: padded on the run's device, for the reference form.

Lengths are the same in every batch, so that a step can be replayed: the longest of the data set, tokens rounded up to a
multiple of 8.
"""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from whisq_core.features import Dataset
from whisq_core.features.on_device import frames_on, padded, sent
from whisq_core.model import Batch
from whisq_core.model.interaction import interact
from whisq_core.spec import RunSpec

MICRO_BATCH = {"cpu": 8, "cuda": 128, "mps": 32}  # clips whose sequences are at work at once, by device
TOKEN_STEP = 8


class Clips:
    """Batches of a data set on a device. Text is cut to its valid tokens, audio to what `audio_frames` says."""

    def __init__(self, data: Dataset, spec: RunSpec, device: torch.device, with_frames: bool) -> None:
        self.audio_pooled = data.audio.pooled(spec.model.audio_frames).to(device)
        self._text_pooled = data.text.pooled("valid").to(device)
        self._prompt_of = torch.from_numpy(data.prompt_of).to(device)
        self._with_frames = with_frames
        self.near: Int[Tensor, ""] | None = None  # where there is one, clips near themselves are counted (`alignment`)
        self.micro_batch = MICRO_BATCH[device.type] if with_frames else max(1, len(data))
        if with_frames:
            counts = data.audio.num_frames if spec.model.audio_frames == "all" else data.audio.num_valid
            self._frames = frames_on(device, data.audio, counts, max(spec.train.batch_size, self.micro_batch))
            self._num_frames = torch.from_numpy(counts).to(device)
            tokens, num_tokens = padded(data.text, data.text.num_valid, TOKEN_STEP)
            self._tokens, self._num_tokens = tokens.to(device), num_tokens.to(device)

    def __len__(self) -> int:
        return len(self.audio_pooled)

    def batches(self, order: Int[Tensor, " clips"], size: int) -> Iterator[Int[Tensor, " batch"]]:
        """The clips of `order`, given on the host, `size` at a time, as `batch` takes them: on the device."""
        if self._with_frames:
            return self._frames.batches(order, size)
        return iter(torch.split(sent(order, self.audio_pooled.device), size))

    def batch(self, clips: Int[Tensor, " batch"]) -> Batch:
        """The batch of these clips, or of a part of the last ones that `batches` gave. Asks the device nothing."""
        prompts = self._prompt_of[clips]
        pooled = self.audio_pooled[clips], self._text_pooled[prompts]
        if not self._with_frames:
            return Batch(*pooled)
        tokens, frames = self._tokens[prompts], self._frames.frames[self._frames.places(clips)]
        token_mask, frame_mask = _mask(tokens, self._num_tokens[prompts]), _mask(frames, self._num_frames[clips])
        return Batch(*pooled, tokens, token_mask, frames, frame_mask, partial(interact, near=self.near))


def _mask(sequences: Tensor, counts: Int[Tensor, " batch"]) -> Bool[Tensor, "batch length"]:
    """True for the first `counts` positions."""
    return torch.arange(sequences.shape[1], device=counts.device) < counts.unsqueeze(1)
