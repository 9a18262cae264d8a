"""The attention variants of Table II (Eqs. 3-5), and multi-head attention in its exact short form.

`rows` and `embed` are a variant's two ends around `interact`: what is multiplied with frames for given tokens, and the
TA head's input from the contexts. They serve where the mean over queries commutes with what follows; `unpooled` takes
whole sequences and serves where it does not (layer norm, max pooling, pooled queries).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from whisq_core.model.interaction import Contexts, Rows, attend_to_audio
from whisq_core.spec import ModelSpec

Pooled = Float[Tensor, "batch dim"]
Joint = Float[Tensor, "batch two_dim"]


def masked_mean(
    frames: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch dim"]:
    """The mean over valid frames."""
    weights = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1), frames).squeeze(1)


def masked_max(
    frames: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch dim"]:
    """The largest value of each dimension over valid frames."""
    return frames.masked_fill(~mask.unsqueeze(2), -math.inf).amax(dim=1)


POOL = {"mean": masked_mean, "max": masked_max}


@dataclass(frozen=True)
class Side:
    """One modality of a batch, projected to the feature dimension.

    `frames` and `mask` (true for valid ones) are None when only the pooled vector is needed.
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


class Attention(nn.Module):
    """What the variants share: residual, layer norm and pooling around attentions named after their queries.

    A side that is not one of the `directions` enters the TA head as it was pooled. `commutes` says whether the mean
    over queries does with all that follows.
    """

    directions: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.pool = POOL[spec.pool]
        self.commutes = spec.pool == "mean" and not spec.layer_norm and spec.attention != "pooled_query"
        for name in self.directions:
            self.add_module(name, MultiHead(spec.feature_dim, spec.heads))
            if spec.layer_norm:
                self.add_module(f"{name}_norm", nn.LayerNorm(spec.feature_dim))

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What is multiplied with frames, for these tokens."""
        to_text, constants = self.of("audio").rows_of_keys(tokens) if "audio" in self.directions else (None, None)
        return Rows(to_text, constants, self.of("text").rows_of_queries(tokens) if "text" in self.directions else None)

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Joint:
        """The TA head's input from the contexts of the mean queries: their values and output projections."""
        sides = ("audio", contexts.of_text, audio), ("text", contexts.of_audio, text)
        return torch.cat([self._attended(*side) for side in sides], dim=1)

    def _attended(self, direction: str, context: Float[Tensor, "batch heads dim"] | None, query: Pooled) -> Pooled:
        if direction not in self.directions:
            return query
        assert context is not None
        return self.finish(direction, self.of(direction).values(context), query)

    def unpooled(self, audio: Side, text: Side) -> Joint:
        """The TA head's input from whole sequences, by the paper's equations as written."""
        return torch.cat([self.every_query("audio", audio, text), self.every_query("text", text, audio)], dim=1)

    def of(self, direction: str) -> MultiHead:
        """The attention whose queries are `direction`."""
        attention = self.get_submodule(direction)
        assert isinstance(attention, MultiHead)
        return attention

    def finish(
        self, direction: str, found: Float[Tensor, "*batch dim"], queries: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """Add the residual and normalise, where the spec says so."""
        total = found + queries if self.residual else found
        norm = f"{direction}_norm"
        return self.get_submodule(norm)(total) if hasattr(self, norm) else total

    def every_query(self, direction: str, queries: Side, keys: Side) -> Pooled:
        """Attend with every query, finish each result, then pool."""
        if direction not in self.directions:
            return queries.pooled
        frames, mask = queries.sequence
        return self.pool(self.finish(direction, self.of(direction).every_query(queries, keys), frames), mask)


class SequenceCoAttention(Attention):
    """The proposed model: each sequence attends to the other, both are pooled (Eqs. 3-5).

    The TA head's input is [Pool(MHA(audio, text, text)); Pool(MHA(text, audio, audio))].
    """

    directions = ("audio", "text")


class PooledCoAttention(Attention):
    """Vanilla co-attention: pool first, then attend on single vectors.

    The TA head's input is [MHA(Pool(audio), Pool(text), Pool(text)); MHA(Pool(text), Pool(audio), Pool(audio))]. With
    one key the softmax is 1, so the query and key projections get no gradient.
    """

    directions = ("audio", "text")

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """None: no token attends to a frame."""
        return Rows()

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Joint:
        """The other side's pooled vector is the context of every head."""
        heads = self.of("audio").heads
        return super().embed(
            Contexts(*(each.unsqueeze(1).expand(-1, heads, -1) for each in (text, audio))), audio, text
        )

    def unpooled(self, audio: Side, text: Side) -> Joint:
        """The same: there are no sequences to pool after."""
        return self.embed(Contexts(), audio.pooled, text.pooled)


class PooledQueryCoAttention(Attention):
    """Vanilla co-attention, second reading: each pooled vector attends to the other sequence.

    The TA head's input is [MHA(Pool(audio), text, text); MHA(Pool(text), audio, audio)].
    """

    directions = ("audio", "text")

    def every_query(self, direction: str, queries: Side, keys: Side) -> Pooled:
        """One query, the pooled one."""
        attention = self.of(direction)
        single = torch.ones_like(queries.pooled[:, :1], dtype=torch.bool)
        found = attend_to_audio(attention.rows_of_queries(queries.pooled.unsqueeze(1)), single, *keys.sequence)
        return self.finish(direction, attention.values(found), queries.pooled)


class CrossAttention(Attention):
    """Text queries audio; the TA head's input is [Pool(audio); Pool(MHA(text, audio, audio))]."""

    directions = ("text",)


class NoAttention(Attention):
    """MLP Only: [Pool(audio); Pool(text)]."""


ATTENTION: dict[str, type[Attention]] = {
    "sequence": SequenceCoAttention,
    "pooled": PooledCoAttention,
    "pooled_query": PooledQueryCoAttention,
    "cross": CrossAttention,
    "none": NoAttention,
}
