"""`interact` over the compiled kernels: clips as long as they are, a thread for each share of them, nothing padded.

A batch's distinct prompts are projected and turned into rows once, one after the other in one array; then each thread
takes its clips through the kernels, one at a time, so that a clip stays in cache. Between forward and backward lies one
array of scores per clip. In bf16 the two large products are PyTorch's; all else is in float32 there too.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import BFloat16, Float, Float16, Int
from torch import Tensor

from whisq_core.features import Dataset, FeatureTable
from whisq_core.kernels import FRAME_PAD, Interaction, chosen
from whisq_core.model import Batch
from whisq_core.model.alignment import entropic_ot, self_transport, updates
from whisq_core.model.interaction import Contexts, Rows
from whisq_core.spec import LossSpec, RunSpec

MICRO_BATCH = 64  # clips whose scores are kept between forward and backward: 1.4 MB each at paper size
_ALIASED = 512  # floats: rows this far apart, or a multiple of it, share few places of the first cache


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
        self.workers = [_Worker(data.audio, spec) for _ in range(spec.train.threads)]
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
        places = [(clip, slice(starts[at], starts[at + 1])) for clip, at in zip(clips.tolist(), place_of, strict=True)]
        interact = partial(self._interact, places, place_of, starts)
        tokens = self._tokens[torch.from_numpy(np.concatenate(spans))]
        pooled = self.audio_pooled[clips], self._text_pooled[torch.from_numpy(prompts)]
        return Batch(*pooled, tokens, interact=interact)

    def each(self, task: Callable[["_Worker", np.ndarray], None], count: int) -> None:
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


class _Text(NamedTuple):
    """The tokens of a batch's distinct prompts, one after the other, and their rows; or the gradients of these."""

    tokens: Float[Tensor, "tokens dim"]
    to_text: Float[Tensor, "heads tokens dim"] | None
    constants: Float[Tensor, "heads tokens"] | None
    to_audio: Float[Tensor, "heads tokens dim"] | None
    points: Float[Tensor, "tokens dim"] | None

    @property
    def heads(self) -> int:
        """Of the directions taken; 0 where there is none."""
        return next((len(rows) for rows in (self.to_text, self.to_audio) if rows is not None), 0)

    @property
    def rows_per_token(self) -> int:
        """How many rows of attention each token has."""
        return self.heads * sum(rows is not None for rows in (self.to_text, self.to_audio))


class _Found(NamedTuple):
    """What leaves `interact` for each clip of a batch: contexts and raw(x, y); or the gradients of these."""

    of_text: Float[Tensor, "batch heads dim"] | None
    of_audio: Float[Tensor, "batch heads dim"] | None
    between: Float[Tensor, " batch"] | None


class _Interact(torch.autograd.Function):
    """What `_Worker` does for its clips, as one node of the graph. Only the last forward has a way back."""

    @staticmethod
    def forward(
        ctx: Any, clips: RaggedClips, places: list[tuple[int, slice]], *arrays: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tokens, to_text, constants, to_audio, points = arrays
        rows = (None if each is None else each.transpose(0, 1) for each in (to_text, constants, to_audio))
        text = _Text(*(None if each is None else each.float().contiguous() for each in (tokens, *rows, points)))  # type: ignore[arg-type]
        count = len(places)
        shape = count, text.heads, text.tokens.shape[1]
        sizes = (to_text, shape), (to_audio, shape), (points, (count,))
        found = _Found(*(None if each is None else torch.empty(size) for each, size in sizes))
        keep = any(ctx.needs_input_grad)
        clips.each(lambda worker, share: worker.forward(places, share, text, found, keep), count)
        ctx.clips, ctx.text, ctx.count = clips, text, count
        return found

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        towards = _Found(*(None if slope is None else slope.contiguous() for slope in slopes))
        ctx.clips.each(lambda worker, share: worker.backward(share, ctx.text, towards), ctx.count)
        first, *others = (worker.gradient for worker in ctx.clips.workers)
        for other in others:
            for array, more in zip(first, other, strict=True):
                if array is not None:
                    array.add_(more)
        tokens, *rows, points = first
        return None, None, tokens, *(None if each is None else each.transpose(0, 1) for each in rows), points


@dataclass
class _Kept:
    """A clip between forward and backward. `stored` keeps its frames mapped as long as they are pointed at.

    `exact` is the gradient towards the points where the kernels' transport is not to be trusted.
    """

    tokens: slice
    interaction: Interaction
    stored: Float16[Tensor, "frames dim"]
    rounded: BFloat16[Tensor, "frames dim"] | None
    exact: Float[Tensor, "tokens dim"] | None = None


class _Worker:
    """One thread's share of the clips: takes them forward, keeps what lies in between, takes their gradients back."""

    gradient: _Text

    def __init__(self, audio: FeatureTable, spec: RunSpec) -> None:
        kernels = chosen()[1]
        assert kernels is not None
        self._kernels = kernels
        self._audio, self._centres = audio, audio.pooled(spec.model.audio_frames)
        self._frame_counts = audio.num_frames if spec.model.audio_frames == "all" else audio.num_valid
        self._loss = spec.loss
        self._rounds = spec.train.precision == "bf16"
        self._half_norms: dict[int, Float[Tensor, " frames"]] = {}
        self._per_epsilon = torch.tensor([1 / (epsilon * math.log(2)) for epsilon in updates(spec.loss)])
        self._scratch: dict[str, Tensor] = {}
        self._kept: list[_Kept] = []

    @torch.no_grad()
    def forward(
        self, places: list[tuple[int, slice]], share: np.ndarray, text: _Text, found: _Found, keep: bool
    ) -> None:
        """Fill `found` for the clips of the share; `places` says which clip it is, and its prompt's tokens.

        Only with `keep` is there a way back.
        """
        self._kept = []
        for slot, place in enumerate(share.tolist()):
            clip, tokens = places[place]
            kept = self._begin(clip, tokens, text, slot if keep else 0)
            self._score(kept, text)
            self._kernels.attend(kept.interaction, _address(found.of_text, place), _address(found.of_audio, place))
            if found.between is not None:
                found.between[place] = self._align(kept, clip, text)
            if keep:
                self._kept.append(kept)

    @torch.no_grad()
    def backward(self, share: np.ndarray, text: _Text, towards: _Found) -> None:
        """Gather `gradient`, given those of what was found."""
        gradient = self.gradient = _Text(*(None if array is None else torch.zeros_like(array) for array in text))  # type: ignore[arg-type]
        for kept, place in zip(self._kept, share.tolist(), strict=True):
            self._lend_work(kept.interaction)
            first, slope, product = kept.tokens.start, 0.0, None
            to_text, to_audio = _address(gradient.to_text, 0, first), _address(gradient.to_audio, 0, first)
            points = _address(gradient.points, first)
            if gradient.points is not None and towards.between is not None:
                slope = float(towards.between[place])
                if kept.exact is not None:
                    gradient.points[kept.tokens].add_(kept.exact, alpha=slope)
                    slope = 0.0
            scores = None if kept.rounded is None else self._rounded_scores(kept, text)
            self._kernels.slopes(
                kept.interaction, _address(towards.of_text, place), _address(towards.of_audio, place), slope,
                _address(gradient.tokens, first), to_text, _address(gradient.constants, 0, first), points,
            )  # fmt: skip
            if kept.rounded is not None and scores is not None:
                product = self._take("product", len(scores), kept.interaction.dim, dtype=torch.bfloat16)
                torch.mm(scores, kept.rounded, out=product)
            self._kernels.collect(kept.interaction, _address(product), to_text, to_audio, points)

    def _begin(self, clip: int, tokens: slice, text: _Text, slot: int) -> _Kept:
        """The clip with arrays that stay its own until the slot is taken again."""
        stored, first = self._audio.frames(clip)[: int(self._frame_counts[clip])], tokens.start
        num_frames, dim = stored.shape
        stride = -(-num_frames // FRAME_PAD) * FRAME_PAD
        interaction = Interaction(
            num_frames=num_frames, dim=dim, num_tokens=tokens.stop - first, heads=text.heads,
            stride=stride + (FRAME_PAD if stride % _ALIASED == 0 else 0), head_step=len(text.tokens),
            attends_text=text.to_text is not None, attends_audio=text.to_audio is not None,
            aligns=text.points is not None,
            frames=_address(stored), centre=_address(self._centres, clip), tokens=_address(text.tokens, first),
            to_text=_address(text.to_text, 0, first), to_audio=_address(text.to_audio, 0, first),
            to_text_constants=_address(text.constants, 0, first),
        )  # fmt: skip
        interaction.state = _address(self._take(f"state {slot}", self._kernels.state_floats(interaction)))
        self._lend_work(interaction)
        rounded = self._take(f"rounded {slot}", num_frames, dim, dtype=torch.bfloat16) if self._rounds else None
        interaction.rounded_frames = _address(rounded)
        return _Kept(tokens, interaction, stored, rounded)

    def _lend_work(self, interaction: Interaction) -> None:
        """An array for the moment, which all clips share: it may be another one when a later clip needs more."""
        interaction.work = _address(self._take("work", self._kernels.work_floats(interaction)))

    def _score(self, kept: _Kept, text: _Text) -> None:
        if kept.rounded is None:
            self._kernels.score(kept.interaction)
            return
        count = text.rows_per_token * kept.interaction.num_tokens
        rows = self._take("rows", count, kept.interaction.dim, dtype=torch.bfloat16)
        self._kernels.round(kept.interaction, _address(rows))
        torch.mm(rows, kept.rounded.t(), out=self._rounded_scores(kept, text)[:count])

    def _rounded_scores(self, kept: _Kept, text: _Text) -> BFloat16[Tensor, "rows frames"]:
        """The array in which the large products come and go, which all clips share, at hand for the kernels."""
        num_rows = (text.rows_per_token + kept.interaction.aligns) * kept.interaction.num_tokens
        scores = self._take("scores", num_rows, kept.interaction.num_frames, dtype=torch.bfloat16)
        kept.interaction.rounded_scores = _address(scores)
        return scores

    def _align(self, kept: _Kept, clip: int, text: _Text) -> float:
        """raw(x, y) of the clip; by the reference form where the kernels' numbers underflow."""
        if clip not in self._half_norms:
            self._half_norms[clip] = torch.empty(kept.interaction.num_frames)
            self._kernels.half_norms(kept.interaction, _address(self._half_norms[clip]))
        addresses = _address(self._half_norms[clip]), _address(self._per_epsilon)
        value: float = self._kernels.align(kept.interaction, *addresses, len(self._per_epsilon))
        tokens, centre = text.tokens[kept.tokens], self._centres[clip]
        if not math.isnan(value) or not tokens.isfinite().all():
            return value
        frames, points = (kept.stored - centre).unsqueeze(0), (tokens - centre).unsqueeze(0)
        masks = [torch.ones(each.shape[:2], dtype=torch.bool) for each in (frames, points)]
        with torch.enable_grad():
            exact = entropic_ot(frames, masks[0], points.requires_grad_(), masks[1], self._loss)
            kept.exact = torch.autograd.grad(exact, points)[0].squeeze(0)
        return float(exact)

    def _take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A named array that is kept and grows, with whatever it held: nothing is allocated per clip."""
        size = math.prod(shape)
        if name not in self._scratch or self._scratch[name].numel() < size:
            self._scratch[name] = torch.empty(size, dtype=dtype)
        return self._scratch[name][:size].view(shape)


def _address(array: Tensor | None, *index: int) -> int | None:
    """Where an array, or an item of it, begins; null where there is none."""
    if array is None:
        return None
    steps = zip(index, array.stride(), strict=False)
    return array.data_ptr() + sum(at * step for at, step in steps) * array.element_size()
