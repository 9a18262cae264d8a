"""Multi-head attention of which only the mean over queries is used, in its exact short form.

The mean over queries commutes with everything after the softmax. So the projections of the long (audio) side are
absorbed into the short (text) side, frames meet a (heads x tokens) x dim matrix directly, and the value and output
projections act on one vector per head. No frame is ever projected.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Pooled = Float[Tensor, "batch dim"]


@dataclass(frozen=True)
class Side:
    """One modality of a batch, projected to the feature dimension.

    `frames` and `mask` (true where a frame counts) are None when only the pooled vector is needed.
    """

    pooled: Pooled
    frames: Float[Tensor, "batch length dim"] | None = None
    mask: Bool[Tensor, "batch length"] | None = None

    @property
    def sequence(self) -> tuple[Float[Tensor, "batch length dim"], Bool[Tensor, "batch length"]]:
        """The frames and their mask, where there is no way without them."""
        assert self.frames is not None, "this model needs frames"
        assert self.mask is not None
        return self.frames, self.mask


@dataclass(frozen=True)
class Rows:
    """The text side of the scores, with the audio side's projections absorbed; None for a direction not taken.

    Scores of frame x are `to_text` . x + `to_text_constants` where x queries tokens, and `to_audio` . x where
    tokens query frames; each up to what cancels in the softmax.
    """

    to_text: Float[Tensor, "*tokens heads dim"] | None = None
    to_text_constants: Float[Tensor, "*tokens heads"] | None = None
    to_audio: Float[Tensor, "*tokens heads dim"] | None = None


@dataclass(frozen=True)
class Contexts:
    """What the mean query of each direction finds, per head, before value and output projections."""

    of_text: Float[Tensor, "batch heads dim"] | None = None
    of_audio: Float[Tensor, "batch heads dim"] | None = None


class MultiHead(nn.Module):
    """The parameters of `nn.MultiheadAttention`, initialised as there, each projection its own.

    (One array for three projections would have every gradient of one of them fill all three.)
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.query_weight, self.query_bias = _parameters(dim)
        self.key_weight, self.key_bias = _parameters(dim)
        self.value_weight, self.value_bias = _parameters(dim)
        self.out_weight, self.out_bias = _parameters(dim)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """As `nn.MultiheadAttention` does: Xavier over the three stacked input projections, biases zero."""
        dim = len(self.out_weight)
        bound = math.sqrt(6 / (dim + 3 * dim))
        for weight in (self.query_weight, self.key_weight, self.value_weight):
            weight.uniform_(-bound, bound, generator=generator)
        self.out_weight.uniform_(-1 / math.sqrt(dim), 1 / math.sqrt(dim), generator=generator)
        for bias in (self.query_bias, self.key_bias, self.value_bias, self.out_bias):
            bias.zero_()

    def rows_of_keys(
        self, tokens: Float[Tensor, "*tokens dim"]
    ) -> tuple[Float[Tensor, "*tokens heads dim"], Float[Tensor, "*tokens heads"]]:
        """`Rows.to_text` and its constants: tokens are the keys. The key bias cancels."""
        keys = self._split(functional.linear(tokens, self.key_weight)) / math.sqrt(self.head_dim)
        rows = torch.einsum("...hk,hkd->...hd", keys, self._per_head(self.query_weight))
        return rows, torch.einsum("...hk,hk->...h", keys, self.query_bias.view(self.heads, -1))

    def rows_of_queries(self, tokens: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens heads dim"]:
        """`Rows.to_audio`: tokens are the queries."""
        queries = self._split(functional.linear(tokens, self.query_weight, self.query_bias)) / math.sqrt(self.head_dim)
        return torch.einsum("...hk,hkd->...hd", queries, self._per_head(self.key_weight))

    def values(self, context: Float[Tensor, "batch heads dim"]) -> Float[Tensor, "batch dim"]:
        """The value and output projections of each head's context."""
        found = torch.einsum("bhd,hkd->bhk", context, self._per_head(self.value_weight)).flatten(1) + self.value_bias
        return functional.linear(found, self.out_weight, self.out_bias)

    def every_query(self, queries: Side, keys: Side) -> Float[Tensor, "batch queries dim"]:
        """What each single query finds: for what does not commute with the mean."""
        frames, mask = keys.sequence
        query, key, value = (
            self._split(functional.linear(sequence, weight, bias)).transpose(1, 2)
            for sequence, weight, bias in (
                (queries.sequence[0], self.query_weight, self.query_bias),
                (frames, self.key_weight, self.key_bias),
                (frames, self.value_weight, self.value_bias),
            )
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return functional.linear(found.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)

    def _split(self, projected: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens heads head_dim"]:
        return projected.view(*projected.shape[:-1], self.heads, self.head_dim)

    def _per_head(self, weight: Float[Tensor, "dim dim"]) -> Float[Tensor, "heads head_dim dim"]:
        return weight.view(self.heads, self.head_dim, -1)


def _parameters(dim: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.empty(dim, dim)), nn.Parameter(torch.empty(dim))


def find_in_text(rows: Rows, audio: Side, text: Side) -> Float[Tensor, "batch heads dim"]:
    """`Contexts.of_text`: frames query tokens."""
    assert rows.to_text is not None
    assert rows.to_text_constants is not None
    (frames, frame_mask), (tokens, token_mask) = audio.sequence, text.sequence
    scores = torch.einsum("bjhd,bid->bhji", rows.to_text, frames) + rows.to_text_constants.mT.unsqueeze(3)
    probabilities = scores.float().masked_fill(~token_mask[:, None, :, None], -math.inf).softmax(dim=2)
    mean = torch.einsum("bhji,bi->bhj", probabilities, _uniform(frame_mask))
    return torch.einsum("bhj,bjd->bhd", mean.to(tokens.dtype), tokens)


def find_in_audio(
    to_audio: Float[Tensor, "batch queries heads dim"], query_mask: Bool[Tensor, "batch queries"], audio: Side
) -> Float[Tensor, "batch heads dim"]:
    """`Contexts.of_audio`: tokens, or one pooled vector, query frames."""
    frames, frame_mask = audio.sequence
    scores = torch.einsum("bjhd,bid->bhji", to_audio, frames)
    probabilities = scores.float().masked_fill(~frame_mask[:, None, None, :], -math.inf).softmax(dim=3)
    mean = torch.einsum("bhji,bj->bhi", probabilities, _uniform(query_mask))
    return torch.einsum("bhi,bid->bhd", mean.to(frames.dtype), frames)


def _uniform(mask: Bool[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
    return mask.float() / mask.sum(dim=1, keepdim=True)
