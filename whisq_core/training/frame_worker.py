"""One thread's share of a fused step: the clips whose frames it reads, and the gradients it gathers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from whisq_core.features.store import FeatureTable
from whisq_core.model.alignment import Points, Solution, half_squared_norms, raw_by_geomloss, solve
from whisq_core.spec import LossSpec
from whisq_core.training.clip_share import ClipShare
from whisq_core.training.kernel import Frames, Meeting

_SOLVED_TOGETHER = 300_000  # scores of clips whose transport is solved in one go: as many as stay in cache


@dataclass(frozen=True)
class _Clip:
    row: int
    tokens: slice
    num_frames: int
    meeting: Meeting
    rounded: BFloat16[Tensor, "frames dim"] | None


class FrameWorker(ClipShare):
    """Takes some clips forward, keeps what lies in between, and takes their gradients back."""

    def __init__(self, audio: FeatureTable, frames: Literal["all", "valid"], loss: LossSpec, rounded: bool) -> None:
        super().__init__(audio, frames, loss)
        self._rounded = rounded
        self._clips: list[_Clip] = []

    @torch.no_grad()
    def forward(self, rows: Int[np.ndarray, " clips"], prompts: Int[np.ndarray, " clips"], keep: bool) -> None:
        """What each clip's mean query finds goes to `found_in_text` and `found_in_audio`, None where not asked.

        Only with `keep` is there a way back.
        """
        self._clips, self.found_in_text, self.found_in_audio = [], [], []
        for slot, (row, prompt) in enumerate(zip(rows.tolist(), prompts.tolist(), strict=True)):
            tokens = self._prompts.span(prompt)
            slot = slot if keep else 0
            frames = self._frames(row, slot)
            meeting = Meeting(self._scratch, slot, self._prompts.side.span(tokens))
            self._clips.append(_Clip(row, tokens, int(self._num_frames[row]), meeting, frames.rounded))
            of_text, of_audio = meeting.forward(frames)
            self.found_in_text.append(of_text)
            self.found_in_audio.append(of_audio)

    @torch.no_grad()
    def backward(self, of_text: Sequence[Tensor | None], of_audio: Sequence[Tensor | None]) -> None:
        """Gather gradients, given those of what was found."""
        for clip, to_text, to_audio in zip(self._clips, of_text, of_audio, strict=True):
            frames = self._exact_frames(clip.row) if clip.rounded is None else clip.rounded
            clip.meeting.backward(frames, to_text, to_audio, self.gradient.span(clip.tokens))

    @torch.no_grad()
    def align(self, weight: float) -> float:
        """`weight` x the sum of raw(frames, tokens) over the clips; prepares its gradient for `backward`."""
        total, group = 0.0, list[_Clip]()
        for clip in self._clips:
            if group and _padded_size([*group, clip]) > _SOLVED_TOGETHER:
                total += self._align(group, weight)
                group = []
            group.append(clip)
        return total + (self._align(group, weight) if group else 0.0)

    def _align(self, group: list[_Clip], weight: float) -> float:
        solution, tokens = self._solve(group)
        trusted = solution.trusted.tolist()
        plan = solution.plan_of_tokens(tokens).mul_(-weight)
        total, gradient, values = 0.0, self.gradient.aligned, self._prompts.side.aligned
        assert gradient is not None
        assert values is not None
        for clip, value, one_plan, is_trusted in zip(group, solution.value.tolist(), plan, trusted, strict=True):
            products, points = clip.meeting.products, clip.meeting.points
            if is_trusted:
                products.copy_(one_plan[: products.shape[0], : products.shape[1]])
                gradient[clip.tokens].add_(points, alpha=weight / len(points))
                total += weight * value
            else:
                frames = self._stored(clip.row).float()
                exact, towards_tokens, _ = raw_by_geomloss(frames, values[clip.tokens], self._loss)
                products.zero_()
                gradient[clip.tokens].add_(towards_tokens, alpha=weight)
                total += weight * float(exact)
        return total

    def _solve(self, group: list[_Clip]) -> tuple[Solution, Points]:
        """The transport of some clips, padded to one size."""
        shape = len(group), max(clip.meeting.products.shape[0] for clip in group), max(c.num_frames for c in group)
        products = self._scratch.take("products", *shape).zero_()
        frames = Points(torch.zeros(shape[0], shape[2]), torch.full((shape[0], shape[2]), -math.inf))
        tokens = Points(torch.zeros(shape[:2]), torch.full(shape[:2], -math.inf))
        for position, clip in enumerate(group):
            found = clip.meeting.products
            num_tokens, num_frames = found.shape
            products[position, :num_tokens, :num_frames] = found
            frames.half_norms[position, :num_frames] = self._half_norms[clip.row]
            frames.log2_weights[position, :num_frames] = -math.log2(num_frames)
            tokens.half_norms[position, :num_tokens] = half_squared_norms(clip.meeting.points)
            tokens.log2_weights[position, :num_tokens] = -math.log2(num_tokens)
        return solve(products, frames, tokens, self._loss, self._scratch.take("kernel", *shape)), tokens

    def _frames(self, row: int, slot: int) -> Frames:
        """The clip's frames: exact ones until the next call, rounded ones until the slot is taken again."""
        exact = self._exact_frames(row)
        if self._prompts.side.aligned is not None and row not in self._half_norms:
            self._half_norms[row] = half_squared_norms(exact)
        if not self._rounded:
            return Frames(self._centres[row], exact)
        # Straight from the stored float16, PyTorch takes five times as long.
        rounded = self._scratch.take(f"rounded frames {slot}", *exact.shape, dtype=torch.bfloat16).copy_(exact)
        return Frames(self._centres[row], exact, rounded)

    def _exact_frames(self, row: int) -> Float[Tensor, "frames dim"]:
        """The clip's frames relative to its centre, in float32, in an array that the next call overwrites."""
        stored = self._stored(row)
        return self._scratch.take("frames", *stored.shape).copy_(stored).sub_(self._centres[row])


def _padded_size(clips: list[_Clip]) -> int:
    num_tokens = max(clip.tokens.stop - clip.tokens.start for clip in clips)
    return len(clips) * num_tokens * max(clip.num_frames for clip in clips)
