"""`interact` over the compiled kernels: clips as long as they are, a thread for each share of them, nothing padded.

A batch's distinct prompts are projected and turned into rows once, one after the other in one array; then each thread
takes its clips through the kernels (`worker`).
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core import kernels
from whisq_core.features.store import Dataset
from whisq_core.model import Batch
from whisq_core.model.alignment import self_transport
from whisq_core.model.interaction import Contexts, Rows
from whisq_core.plugins import is_plugin
from whisq_core.spec import LossSpec, RunSpec
from whisq_core.training.worker import Found, Text, Worker

MICRO_BATCH = 64  # clips whose scores are kept between forward and backward: 1.4 MB each at paper size


def serve(spec: RunSpec, audio_dim: int) -> bool:
    """Whether the kernels do what this run asks; the reference form does any run."""
    return (
        spec.train.device == "cpu"
        and spec.train.precision in ("float32", "bf16")
        and audio_dim == spec.model.feature_dim
        and audio_dim % kernels.DIM_STEP == 0
        and spec.model.attention != "pooled_query"
        and not is_plugin(spec.model.attention)
        and spec.model.pool == "mean"
        and not spec.model.layer_norm
        and (spec.loss.ot_weight == 0 or (spec.loss.p == 2 and not is_plugin(spec.loss.alignment)))
        and kernels.chosen()[1] is not None
    )


class RaggedClips:
    """Batches of a data set whose `interact` is that of the kernels, on `train.threads` threads.

    Frames stay in their mapped files; text is cut to its valid tokens, audio to what `audio_frames` says.
    """

    def __init__(self, data: Dataset, spec: RunSpec) -> None:
        self.audio_pooled = data.audio.pooled(spec.model.audio_frames)
        self.micro_batch = MICRO_BATCH
        self._text_pooled, self._prompt_of = data.text.pooled("valid"), data.prompt_of
        self._tokens = torch.cat([data.text.frames(row)[: int(n)] for row, n in enumerate(data.text.num_valid)])
        self._starts = np.concatenate([[0], np.cumsum(data.text.num_valid)])
        self.workers = [Worker(data.audio, spec) for _ in range(spec.train.threads)]
        self._pool = ThreadPoolExecutor(len(self.workers), initializer=torch.set_num_threads, initargs=(1,))

    def __len__(self) -> int:
        return len(self.audio_pooled)

    def batches(self, order: Int[Tensor, " clips"], size: int) -> Iterator[Int[Tensor, " batch"]]:
        """The clips of `order`, `size` at a time."""
        return iter(torch.split(order, size))

    def batch(self, clips: Int[Tensor, " batch"]) -> Batch:
        """The batch of these clips, with the tokens of their distinct prompts one after the other."""
        prompts = self._prompt_of[clips.numpy()]
        distinct, place_of = np.unique(prompts, return_inverse=True)
        spans = [np.arange(self._starts[prompt], self._starts[prompt + 1]) for prompt in distinct]
        starts = [0, *itertools.accumulate(len(span) for span in spans)]
        places = [
            (clip, slice(*starts[place : place + 2])) for clip, place in zip(clips.tolist(), place_of, strict=True)
        ]
        interact = partial(self._interact, places, place_of, starts)
        tokens = self._tokens[torch.from_numpy(np.concatenate(spans))]
        pooled = self.audio_pooled[clips], self._text_pooled[torch.from_numpy(prompts)]
        return Batch(*pooled, tokens, interact=interact)

    def each(self, task: Callable[[Worker, np.ndarray], None], count: int) -> None:
        """The task on every worker and its share of `count` clips, at the same time."""
        shares = np.array_split(np.arange(count), len(self.workers))
        if len(shares) == 1:
            task(self.workers[0], shares[0])
        else:
            list(self._pool.map(task, self.workers, shares))

    def _interact(
        self, places: list[tuple[int, slice]], prompt_of: Int[np.ndarray, " batch"], starts: list[int],
        _frames: None, _frame_mask: None, _centre: Tensor, tokens: Tensor, _token_mask: None,
        rows: Rows, loss: LossSpec,
    ) -> tuple[Contexts, Float[Tensor, " batch"] | None]:  # fmt: skip
        """`model.interaction.interact` for clips whose frames and masks are known here."""
        arrays = tokens, rows.to_text, rows.to_text_constants, rows.to_audio, rows.points
        of_text, of_audio, between = _Interact.apply(self, places, *arrays)  # type: ignore[no-untyped-call]
        if rows.points is None:
            return Contexts(of_text, of_audio), None
        counts = torch.from_numpy(np.diff(starts))
        mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)
        points = rows.points.new_zeros(*mask.shape, rows.points.shape[1])
        points[mask] = rows.points
        of_prompts = self_transport(points, mask, loss)
        return Contexts(of_text, of_audio), between - of_prompts[torch.from_numpy(prompt_of)]


class _Interact(torch.autograd.Function):
    """What `Worker` does for its clips, as one node of the graph. Only the last forward has a way back."""

    @staticmethod
    def forward(
        ctx: Any, clips: RaggedClips, places: list[tuple[int, slice]], *arrays: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tokens, to_text, constants, to_audio, points = arrays
        assert tokens is not None
        heads_first = (None if rows is None else rows.transpose(0, 1) for rows in (to_text, constants, to_audio))
        text, count = Text.of(tokens, *heads_first, points), len(places)
        shape = count, text.heads, tokens.shape[1]
        found = Found(
            None if text.to_text is None else torch.empty(shape),
            None if text.to_audio is None else torch.empty(shape),
            None if points is None else torch.empty(count),
        )
        keep = any(ctx.needs_input_grad)
        clips.each(lambda worker, share: worker.forward(places, share, text, found, keep), count)
        ctx.clips, ctx.text, ctx.count = clips, text, count
        return found.of_text, found.of_audio, found.between

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        towards = Found(*(None if slope is None else slope.contiguous() for slope in slopes))
        workers = ctx.clips.workers
        ctx.clips.each(lambda worker, share: worker.backward(share, ctx.text, towards), ctx.count)
        for worker in workers[1:]:
            workers[0].gradient.add_(worker.gradient)
        tokens, *rows, points = workers[0].gradient.arrays
        return None, None, tokens, *(None if each is None else each.transpose(0, 1) for each in rows), points
