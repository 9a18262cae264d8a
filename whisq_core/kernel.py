"""The frame-sized part of a training step on a CPU: one product with a clip's frames forward, one backward.

Everything of the size frames x tokens happens here, clip by clip, so that nothing is padded and a clip stays in
cache. The text side arrives as rows (`attention.Rows`), the result leaves as one vector per head
(`attention.Contexts`); what lies before and after is small and left to autograd. So forward and backward are
written out: the softmax's normalisation never touches an array of that size, exponentials are taken in base 2
(twice as fast), and arrays are kept from clip to clip.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

_LOG2_E = 1 / math.log(2)


class Scratch:
    """Named arrays that are kept and grow: nothing is allocated per clip."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The array of this name, with this shape and whatever it held. A name belongs to one dtype."""
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept[name] = torch.empty(size, dtype=dtype)
        return self._kept[name][:size].view(shape)


@dataclass(frozen=True)
class TextSide:
    """The tokens of some prompts, one after the other, and the rows that frames meet; or the gradients of these.

    `aligned` are the tokens again, as the OT term meets them: its gradient can be told from that of the task.
    """

    tokens: Float[Tensor, "tokens dim"]
    aligned: Float[Tensor, "tokens dim"] | None = None
    to_text: Float[Tensor, "heads tokens dim"] | None = None
    to_text_constants: Float[Tensor, "heads tokens"] | None = None
    to_audio: Float[Tensor, "heads tokens dim"] | None = None

    def zeros(self, scratch: Scratch) -> "TextSide":
        """Room for the gradients."""

        def room(name: str, values: Tensor | None) -> Tensor | None:
            return None if values is None else scratch.take(f"gradient of {name}", *values.shape).zero_()

        return TextSide(
            scratch.take("gradient of tokens", *self.tokens.shape).zero_(),
            room("aligned", self.aligned),
            room("to_text", self.to_text),
            room("to_text_constants", self.to_text_constants),
            room("to_audio", self.to_audio),
        )

    def span(self, tokens: slice) -> "TextSide":
        """Views of the arrays for these tokens."""
        return TextSide(
            self.tokens[tokens],
            None if self.aligned is None else self.aligned[tokens],
            None if self.to_text is None else self.to_text[:, tokens],
            None if self.to_text_constants is None else self.to_text_constants[:, tokens],
            None if self.to_audio is None else self.to_audio[:, tokens],
        )

    def add_(self, other: "TextSide") -> None:
        """Add another part of the same gradients."""
        for name in ("tokens", "aligned", "to_text", "to_text_constants", "to_audio"):
            if getattr(self, name) is not None:
                getattr(self, name).add_(getattr(other, name))


@dataclass(frozen=True)
class Frames:
    """One clip's frames relative to `centre`; once more in bf16 where the large products are done in it.

    `centre` is any vector in their midst. Exactly, it changes nothing: distances do not depend on it, a softmax over
    frames ignores what is added to all of them, and elsewhere its share is added back in float32. But what is
    rounded then is how frames differ, not what they share, which is most of an encoder's output.
    """

    centre: Float[Tensor, " dim"]
    exact: Float[Tensor, "frames dim"]
    rounded: BFloat16[Tensor, "frames dim"] | None = None

    @property
    def multiplied(self) -> Float[Tensor, "frames dim"] | BFloat16[Tensor, "frames dim"]:
        """What the large products take; all that `Meeting.backward` needs."""
        return self.exact if self.rounded is None else self.rounded


class Meeting:
    """One clip's frames and its prompt's rows: `forward`, and later `backward` from the state in between.

    `slot` names the score array that is occupied in between. In bf16, what attention multiplies with frames is
    rounded, and so are the gradients of rows; inner products for the OT term, softmax and sums stay in float32.
    """

    def __init__(self, scratch: Scratch, slot: int, text: TextSide) -> None:
        self._scratch, self._slot, self._text = scratch, slot, text
        self._blocks = [block for block in (text.to_text, text.to_audio) if block is not None]
        self._num_attending = sum(block.shape[0] * block.shape[1] for block in self._blocks)
        self._num_rows = self._num_attending + (0 if text.aligned is None else len(text.aligned))
        self._in_text: _InText | None = None
        self._in_audio: _InAudio | None = None

    @property
    def products(self) -> Float[Tensor, "tokens frames"]:
        """Inner products of `points` and frames after `forward`; the OT term leaves its gradient's plan here."""
        return self._scores[self._num_attending :]

    def forward(self, frames: Frames) -> tuple[Tensor | None, Tensor | None]:
        """What the mean query finds in text, and in audio: [heads, dim] each, None for a direction not taken."""
        self._centre = frames.centre
        if self._text.aligned is not None:
            self.points = self._text.aligned - frames.centre  # the tokens that the OT term sees
        self._scores = self._scratch.take(f"scores {self._slot}", self._num_rows, len(frames.exact))
        self._score(frames)
        views = self._per_block(self._scores)
        of_text = of_audio = None
        if self._text.to_text is not None:
            assert self._text.to_text_constants is not None
            constants = self._text.to_text_constants.float() + self._text.to_text.float() @ frames.centre
            self._in_text = _InText(views.pop(0), constants)
            of_text = self._in_text.mean @ self._text.tokens
        if self._text.to_audio is not None:
            self._in_audio = _InAudio(views.pop(0))
            of_audio = _product(self._in_audio.mean, frames.multiplied) + frames.centre
        return of_text, of_audio

    def backward(self, frames: Tensor, of_text: Tensor | None, of_audio: Tensor | None, gradient: TextSide) -> None:
        """Add to the prompt's `gradient`, given those of what was found; `frames` as `Frames.multiplied`."""
        work = self._scratch.take("work", self._num_rows, len(frames))
        if self._in_text is not None:
            assert of_text is not None
            assert gradient.to_text is not None
            assert gradient.to_text_constants is not None
            gradient.tokens.addmm_(self._in_text.mean.t(), of_text)
            of_constants = self._in_text.to_gradient(of_text @ self._text.tokens.t(), work)
            gradient.to_text_constants.add_(of_constants)
            gradient.to_text.addcmul_(of_constants.unsqueeze(2), self._centre)
        if self._in_audio is not None:
            assert of_audio is not None
            self._in_audio.to_gradient(_product(of_audio, frames.t()), work)
        rows = self._row_gradients(frames)
        blocks = [block for block in (gradient.to_text, gradient.to_audio) if block is not None]
        for block, values in zip(blocks, self._per_block(rows), strict=True):
            block.add_(values)
        if gradient.aligned is not None:
            gradient.aligned.add_(rows[self._num_attending :])

    def _per_block(self, rows: Float[Tensor, "rows columns"]) -> list[Float[Tensor, "heads tokens columns"]]:
        """The parts of an array of rows that belong to each direction."""
        views, at = [], 0
        for heads, num_tokens, _ in (block.shape for block in self._blocks):
            views.append(rows[at : at + heads * num_tokens].view(heads, num_tokens, -1))
            at += heads * num_tokens
        return views

    def _score(self, frames: Frames) -> None:
        """Rows times frames; those of attention in base 2."""
        count, (num_frames, dim), dtype = self._num_attending, frames.exact.shape, frames.multiplied.dtype
        rows = self._scratch.take(f"rows in {dtype}", self._num_rows, dim, dtype=dtype)
        for block, values in zip(self._blocks, self._per_block(rows), strict=True):
            torch.mul(block, _LOG2_E, out=values)
        if frames.rounded is None:
            if self._text.aligned is not None:
                rows[count:].copy_(self.points)
            torch.mm(rows, frames.exact.t(), out=self._scores)
            return
        scores = self._scratch.take("rounded scores", count, num_frames, dtype=dtype)
        self._scores[:count].copy_(torch.mm(rows[:count], frames.rounded.t(), out=scores))
        if self._text.aligned is not None:
            torch.mm(self.points, frames.exact.t(), out=self._scores[count:])

    def _row_gradients(self, frames: Tensor) -> Float[Tensor, "rows dim"]:
        """The gradients of scores times frames."""
        num_frames, dim = frames.shape
        rows = self._scratch.take("gradient of rows", self._num_rows, dim)
        if frames.dtype == torch.float32:
            return torch.mm(self._scores, frames, out=rows)
        slopes = self._scratch.take("rounded slopes", self._num_rows, num_frames, dtype=torch.bfloat16)
        products = self._scratch.take("rounded products", self._num_rows, dim, dtype=torch.bfloat16)
        return rows.copy_(torch.mm(slopes.copy_(self._scores), frames, out=products))


def _product(left: Float[Tensor, "rows inner"], right: Tensor) -> Float[Tensor, "rows columns"]:
    """The product in the precision of `right`."""
    return (left.to(right.dtype) @ right).float()


class _InText:
    """Frames query tokens: the softmax runs over tokens, the mean over frames.

    The scores become exp(scores - maximum) in place; `per_frame` = 1 / (frames x their sums) normalises them.
    """

    def __init__(self, scores: Float[Tensor, "heads tokens frames"], constants: Float[Tensor, "heads tokens"]) -> None:
        scores.add_((constants * _LOG2_E).unsqueeze(2))
        self._weights = scores.sub_(scores.amax(dim=1, keepdim=True)).exp2_()
        self._per_frame = scores.sum(dim=1).mul_(scores.shape[2]).reciprocal_()
        self.mean = torch.bmm(self._per_frame.unsqueeze(1), scores.mT).squeeze(1)

    def to_gradient(self, means: Float[Tensor, "heads tokens"], work: Tensor) -> Float[Tensor, "heads tokens"]:
        """Turn the weights into the gradient of the scores, given that of `mean`; return that of the constants."""
        heads, num_tokens, num_frames = self._weights.shape
        sums = torch.bmm(means.unsqueeze(1), self._weights).squeeze(1)
        sums.mul_(self._per_frame.square()).mul_(-num_frames)
        slopes = work[: heads * num_tokens].view(self._weights.shape)
        torch.addcmul(sums.unsqueeze(1), means.unsqueeze(2), self._per_frame.unsqueeze(1), out=slopes)
        return self._weights.mul_(slopes).sum(dim=2)


class _InAudio:
    """Tokens query frames: the softmax runs over frames, the mean over tokens.

    The scores become exp(scores - maximum) in place; `per_token` = 1 / (tokens x their sums) normalises them.
    """

    def __init__(self, scores: Float[Tensor, "heads tokens frames"]) -> None:
        self._weights = scores.sub_(scores.amax(dim=2, keepdim=True)).exp2_()
        self._per_token = scores.sum(dim=2).mul_(scores.shape[1]).reciprocal_()
        self.mean = torch.bmm(self._per_token.unsqueeze(1), scores).squeeze(1)

    def to_gradient(self, means: Float[Tensor, "heads frames"], work: Tensor) -> None:
        """Turn the weights into the gradient of the scores, given that of `mean`."""
        heads, num_tokens, _ = self._weights.shape
        sums = torch.bmm(means.unsqueeze(1), self._weights.mT).squeeze(1)
        sums.mul_(self._per_token.square()).mul_(-num_tokens)
        slopes = work[: heads * num_tokens].view(self._weights.shape)
        torch.addcmul(sums.unsqueeze(2), self._per_token.unsqueeze(2), means.unsqueeze(1), out=slopes)
        self._weights.mul_(slopes)
