"""The frame-sized part of a training step on a CPU: one product with a clip's frames forward, one backward.

Everything of the size frames x tokens happens here, clip by clip, so that nothing is padded and a clip stays in
cache. The text side arrives as rows (`attention.Rows`), the result leaves as one vector per head
(`attention.Contexts`); what lies before and after is small and left to autograd. So forward and backward are
written out: the softmax's normalisation never touches an array of that size, exponentials are taken in base 2
(twice as fast), and arrays are kept from clip to clip.
"""

from dataclasses import dataclass

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from whisq_core.training.rounded import LOG2_E, RoundedProducts
from whisq_core.training.text_side import Scratch, TextSide


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
        self._num_attending, self._num_rows = text.num_attending, text.num_rows
        self._rounded = RoundedProducts(scratch)
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
        views = [values for _, values in self._text.blocks(self._scores)]
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
        if frames.dtype == torch.bfloat16:
            self._rounded.backward(self._scores, frames, gradient)
            return
        rows = self._scratch.take("gradient of rows", self._num_rows, frames.shape[1])
        torch.mm(self._scores, frames, out=rows)
        for block, values in gradient.blocks(rows):
            block.add_(values)
        if gradient.aligned is not None:
            gradient.aligned.add_(rows[self._num_attending :])

    def _score(self, frames: Frames) -> None:
        """Rows times frames; those of attention in base 2."""
        if frames.rounded is not None:
            self._rounded.forward(self._text, frames.rounded, self._scores)
            if self._text.aligned is not None:
                torch.mm(self.points, frames.exact.t(), out=self._scores[self._num_attending :])
            return
        rows = self._scratch.take("rows", self._num_rows, frames.exact.shape[1])
        for block, values in self._text.blocks(rows):
            torch.mul(block, LOG2_E, out=values)
        if self._text.aligned is not None:
            rows[self._num_attending :].copy_(self.points)
        torch.mm(rows, frames.exact.t(), out=self._scores)


def _product(left: Float[Tensor, "rows inner"], right: Tensor) -> Float[Tensor, "rows columns"]:
    """The product in the precision of `right`."""
    return (left.to(right.dtype) @ right).float()


class _InText:
    """Frames query tokens: the softmax runs over tokens, the mean over frames.

    The scores become exp(scores - maximum) in place; `per_frame` = 1 / (frames x their sums) normalises them.
    """

    def __init__(self, scores: Float[Tensor, "heads tokens frames"], constants: Float[Tensor, "heads tokens"]) -> None:
        scores.add_((constants * LOG2_E).unsqueeze(2))
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
