"""One thread's share of a fused step by the kernels of `csrc`: what `FrameWorker` does in PyTorch, and faster.

A clip goes through the kernels alone, and what lies between forward and backward is one array of scores. In bf16 the
two large products are PyTorch's; everything else is in float32 here too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import BFloat16, Float, Float16, Int
from torch import Tensor

from whisq_core.features.store import FeatureTable
from whisq_core.model.alignment import annealing, raw_by_geomloss
from whisq_core.spec import LossSpec
from whisq_core.training.clip_share import ClipShare
from whisq_core.training.compiled import FRAME_PAD, Meeting, chosen

_ALIASED = 512  # floats: rows this far apart, or a multiple of it, share few places of the first cache


@dataclass(frozen=True)
class _Clip:
    """A clip on its way. `stored` keeps the frames mapped as long as the meeting points at them."""

    row: int
    tokens: slice
    meeting: Meeting
    stored: Float16[Tensor, "frames dim"]
    state: Float[Tensor, " floats"]
    rounded: BFloat16[Tensor, "frames dim"] | None


class CompiledWorker(ClipShare):
    """Takes some clips forward, keeps what lies in between, and takes their gradients back."""

    def __init__(self, audio: FeatureTable, frames: Literal["all", "valid"], loss: LossSpec, rounded: bool) -> None:
        _, kernels = chosen()
        assert kernels is not None
        self._kernels = kernels
        super().__init__(audio, frames, loss)
        self._rounded = rounded
        self._per_epsilon = torch.tensor(annealing(loss))
        self._clips: list[_Clip] = []

    @torch.no_grad()
    def forward(self, rows: Int[np.ndarray, " clips"], prompts: Int[np.ndarray, " clips"], keep: bool) -> None:
        """What each clip's mean query finds goes to `found_in_text` and `found_in_audio`, None where not asked.

        Only with `keep` is there a way back.
        """
        side = self._prompts.side
        shape = len(rows), side.heads, side.tokens.shape[1]
        of_text = None if side.to_text is None else torch.empty(shape)
        of_audio = None if side.to_audio is None else torch.empty(shape)
        stored = [self._stored(row) for row in rows.tolist()]
        meetings = [self._meeting(row, frames, self._prompts.span(prompt))
                    for row, frames, prompt in zip(rows.tolist(), stored, prompts.tolist(), strict=True)]  # fmt: skip
        work = self._scratch.take("work", max(self._kernels.work_floats(meeting) for meeting in meetings))
        self._clips = []
        for position, meeting in enumerate(meetings):
            meeting.work = _address(work)
            tokens = self._prompts.span(int(prompts[position]))
            clip = self._clip(int(rows[position]), tokens, meeting, stored[position], position if keep else 0)
            self._score(clip)
            self._kernels.attend(meeting, _address(of_text, position), _address(of_audio, position))
            if keep:
                self._clips.append(clip)
        self.found_in_text = [None] * len(rows) if of_text is None else list(of_text)
        self.found_in_audio = [None] * len(rows) if of_audio is None else list(of_audio)

    @torch.no_grad()
    def align(self, weight: float) -> float:
        """`weight` x the sum of raw(frames, tokens) over the clips; prepares its gradient for `backward`."""
        return weight * sum(self._align(clip, weight) for clip in self._clips)

    def _align(self, clip: _Clip, weight: float) -> float:
        aligned, gradient = self._prompts.side.aligned, self.gradient.aligned
        assert aligned is not None
        assert gradient is not None
        value: float = self._kernels.align(
            clip.meeting,
            _address(self._half_norms_of(clip)),
            _address(self._per_epsilon),
            len(self._per_epsilon),
            weight,
            _address(gradient, clip.tokens.start),
        )
        if math.isnan(value):
            exact, towards_tokens, _ = raw_by_geomloss(clip.stored.float(), aligned[clip.tokens], self._loss)
            self._scores(clip)[self._prompts.side.span(clip.tokens).num_attending :].zero_()
            gradient[clip.tokens].add_(towards_tokens, alpha=weight)
            value = float(exact)
        return value

    @torch.no_grad()
    def backward(self, of_text: Sequence[Tensor | None], of_audio: Sequence[Tensor | None]) -> None:
        """Gather gradients, given those of what was found."""
        gradient = self.gradient
        for clip, to_text, to_audio in zip(self._clips, of_text, of_audio, strict=True):
            first = clip.tokens.start
            rows_to_text, rows_to_audio = _address(gradient.to_text, 0, first), _address(gradient.to_audio, 0, first)
            rounded_scores = None if clip.rounded is None else self._rounded_scores(clip)
            self._kernels.slopes(
                clip.meeting,
                _address(to_text),
                _address(to_audio),
                _address(gradient.tokens, first),
                rows_to_text,
                _address(gradient.to_text_constants, 0, first),
            )
            product = None
            if clip.rounded is not None and rounded_scores is not None:
                shape = len(rounded_scores), clip.meeting.dim
                product = self._scratch.take("rounded product", *shape, dtype=torch.bfloat16)
                torch.mm(rounded_scores, clip.rounded, out=product)
            self._kernels.collect(
                clip.meeting, _address(product), rows_to_text, rows_to_audio, _address(gradient.aligned, first)
            )

    def _meeting(self, row: int, stored: Float16[Tensor, "frames dim"], tokens: slice) -> Meeting:
        side, first = self._prompts.side, tokens.start
        num_frames, dim = stored.shape
        stride = -(-num_frames // FRAME_PAD) * FRAME_PAD
        return Meeting(
            num_frames=num_frames,
            dim=dim,
            num_tokens=tokens.stop - first,
            heads=side.heads,
            stride=stride + (FRAME_PAD if stride % _ALIASED == 0 else 0),
            head_step=len(side.tokens),
            attends_text=side.to_text is not None,
            attends_audio=side.to_audio is not None,
            aligns=side.aligned is not None,
            frames=_address(stored),
            centre=_address(self._centres, row),
            tokens=_address(side.tokens, first),
            to_text=_address(side.to_text, 0, first),
            to_audio=_address(side.to_audio, 0, first),
            to_text_constants=_address(side.to_text_constants, 0, first),
        )

    def _clip(
        self, row: int, tokens: slice, meeting: Meeting, stored: Float16[Tensor, "frames dim"], slot: int
    ) -> _Clip:
        """The clip with its state and rounded frames, which stay until the slot is taken again."""
        state = self._scratch.take(f"state {slot}", self._kernels.state_floats(meeting))
        meeting.state = _address(state)
        rounded = None
        if self._rounded:
            rounded = self._scratch.take(f"rounded frames {slot}", *stored.shape, dtype=torch.bfloat16)
            meeting.rounded_frames = _address(rounded)
        return _Clip(row, tokens, meeting, stored, state, rounded)

    def _score(self, clip: _Clip) -> None:
        if clip.rounded is None:
            self._kernels.score(clip.meeting)
            return
        count = self._prompts.side.span(clip.tokens).num_attending
        rows = self._scratch.take("rounded rows", count, clip.meeting.dim, dtype=torch.bfloat16)
        self._kernels.round(clip.meeting, _address(rows))
        torch.mm(rows, clip.rounded.t(), out=self._rounded_scores(clip)[:count])

    def _rounded_scores(self, clip: _Clip) -> BFloat16[Tensor, "rows frames"]:
        """The array in which the large products come and go, which all clips share, at hand for the kernels."""
        num_rows = self._prompts.side.span(clip.tokens).num_rows
        scores = self._scratch.take("rounded scores", num_rows, clip.meeting.num_frames, dtype=torch.bfloat16)
        clip.meeting.rounded_scores = _address(scores)
        return scores

    def _scores(self, clip: _Clip) -> Float[Tensor, "rows frames"]:
        num_rows, stride = self._prompts.side.span(clip.tokens).num_rows, clip.meeting.stride
        return clip.state[: num_rows * stride].view(num_rows, stride)[:, : clip.meeting.num_frames]

    def _half_norms_of(self, clip: _Clip) -> Float[Tensor, " frames"]:
        if clip.row not in self._half_norms:
            values = torch.empty(clip.meeting.num_frames)
            self._kernels.half_norms(clip.meeting, values.data_ptr())
            self._half_norms[clip.row] = values
        return self._half_norms[clip.row]


def _address(array: Tensor | None, *index: int) -> int | None:
    """Where an array, or an item of it, begins; null where there is none."""
    if array is None:
        return None
    steps = zip(index, array.stride(), strict=False)
    return array.data_ptr() + sum(at * step for at, step in steps) * array.element_size()
