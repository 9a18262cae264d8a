"""The attention variants of Table II: two sides in, the TA head's input out (Eqs. 3-5).

The TA head only sees the *mean* over queries of an attention's output, and the mean commutes with everything
after the softmax. So the projections of the long (audio) side are absorbed into the short (text) side, frames
meet a (heads x tokens) x dim matrix directly, and the value and output projections act on one vector per head.
This is exact; `attend_unpooled` is the same thing by `nn.MultiheadAttention`, for what does not commute
(layer norm, another pooling) and for the tests.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whisq_core.spec import ModelSpec


@dataclass(frozen=True)
class Side:
    """One modality of a batch, projected to the feature dimension.

    `frames` and `mask` (true where a frame counts) are None when only the pooled vector is needed.
    """

    pooled: Float[Tensor, "batch dim"]
    frames: Float[Tensor, "batch length dim"] | None = None
    mask: Bool[Tensor, "batch length"] | None = None

    @property
    def sequence(self) -> tuple[Float[Tensor, "batch length dim"], Bool[Tensor, "batch length"]]:
        """The frames and their mask, where a variant cannot do without them."""
        assert self.frames is not None, "this variant needs frames"
        assert self.mask is not None
        return self.frames, self.mask


def masked_mean(
    frames: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch dim"]:
    """The mean over frames that count."""
    weights = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1), frames).squeeze(1)


def masked_max(
    frames: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch dim"]:
    """The largest value of each dimension over frames that count."""
    return frames.masked_fill(~mask.unsqueeze(2), -math.inf).amax(dim=1)


POOL = {"mean": masked_mean, "max": masked_max}


@dataclass(frozen=True)
class Projections:
    """The parameters of one `nn.MultiheadAttention`, per head."""

    query: Float[Tensor, "heads head_dim dim"]
    key: Float[Tensor, "heads head_dim dim"]
    query_bias: Float[Tensor, "heads head_dim"]
    num_heads: int
    scale: float


def projections(attention: nn.MultiheadAttention) -> Projections:
    """The query and key projections per head; the key bias cancels in the softmax over keys."""
    dim, heads = attention.embed_dim, attention.num_heads
    query, key, _ = attention.in_proj_weight.chunk(3)
    query_bias, _, _ = attention.in_proj_bias.chunk(3)
    split = (heads, dim // heads)
    return Projections(
        query=query.view(*split, dim),
        key=key.view(*split, dim),
        query_bias=query_bias.view(split),
        num_heads=heads,
        scale=1 / math.sqrt(dim // heads),
    )


def values_out(
    attention: nn.MultiheadAttention, context: Float[Tensor, "batch heads dim"]
) -> Float[Tensor, "batch dim"]:
    """The value and output projections of each head's mean context."""
    dim, heads = attention.embed_dim, attention.num_heads
    weight = attention.in_proj_weight[2 * dim :].view(heads, dim // heads, dim)
    values = torch.einsum("bhd,hkd->bhk", context, weight).flatten(1) + attention.in_proj_bias[2 * dim :]
    return attention.out_proj(values)


def query_rows(
    attention: nn.MultiheadAttention, queries: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch heads dim"]:
    """Rows r with r . x = score of (query, key x), up to a constant per query that cancels over keys."""
    p = projections(attention)
    projected = torch.einsum("...d,hkd->...hk", queries, p.query) + p.query_bias
    return torch.einsum("...hk,hkd->...hd", projected * p.scale, p.key)


def key_rows(
    attention: nn.MultiheadAttention, keys: Float[Tensor, "*batch dim"]
) -> tuple[Float[Tensor, "*batch heads dim"], Float[Tensor, "*batch heads"]]:
    """Rows r and constants c with x . r + c = score of (query x, key), up to a constant per query."""
    p = projections(attention)
    projected = torch.einsum("...d,hkd->...hk", keys, p.key) * p.scale
    return torch.einsum("...hk,hkd->...hd", projected, p.query), torch.einsum("...hk,hk->...h", projected, p.query_bias)


def attend_to_long(attention: nn.MultiheadAttention, short: Side, long: Side) -> Float[Tensor, "batch dim"]:
    """Mean over the short side's frames of what they find in the long side (Eq. 4, pooled)."""
    queries, query_mask = short.sequence
    keys, key_mask = long.sequence
    rows = query_rows(attention, queries)
    scores = torch.einsum("bjhd,bid->bhji", rows, keys).float()
    probabilities = scores.masked_fill(~key_mask[:, None, None, :], -math.inf).softmax(dim=3)
    weights = query_mask.float() / query_mask.sum(dim=1, keepdim=True)
    mean = torch.einsum("bhji,bj->bhi", probabilities, weights)
    return values_out(attention, torch.einsum("bhi,bid->bhd", mean.to(keys.dtype), keys))


def attend_to_short(attention: nn.MultiheadAttention, long: Side, short: Side) -> Float[Tensor, "batch dim"]:
    """Mean over the long side's frames of what they find in the short side (Eq. 3, pooled)."""
    queries, query_mask = long.sequence
    keys, key_mask = short.sequence
    rows, constants = key_rows(attention, keys)
    scores = torch.einsum("bjhd,bid->bhji", rows, queries).float() + constants.float().transpose(1, 2).unsqueeze(3)
    probabilities = scores.masked_fill(~key_mask[:, None, :, None], -math.inf).softmax(dim=2)
    weights = query_mask.float() / query_mask.sum(dim=1, keepdim=True)
    mean = torch.einsum("bhji,bi->bhj", probabilities, weights)
    return values_out(attention, torch.einsum("bhj,bjd->bhd", mean.to(keys.dtype), keys))


def attend_unpooled(attention: nn.MultiheadAttention, queries: Side, keys: Side) -> Float[Tensor, "batch queries dim"]:
    """What every query finds: plain multi-head attention, padded keys masked."""
    key_frames, key_mask = keys.sequence
    found, _ = attention(queries.sequence[0], key_frames, key_frames, key_padding_mask=~key_mask, need_weights=False)
    return found


class _Attention(nn.Module):
    """What the variants share: residual, layer norm and pooling around attentions named after their queries."""

    directions: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.pool = POOL[spec.pool]
        self.pools_in_mean = spec.pool == "mean" and not spec.layer_norm
        for name in self.directions:
            self.add_module(name, nn.MultiheadAttention(spec.feature_dim, spec.heads, batch_first=True))
            if spec.layer_norm:
                self.add_module(f"{name}_norm", nn.LayerNorm(spec.feature_dim))

    def of(self, direction: str) -> nn.MultiheadAttention:
        """The attention whose queries are `direction`."""
        attention = self.get_submodule(direction)
        assert isinstance(attention, nn.MultiheadAttention)
        return attention

    def finish(
        self, direction: str, found: Float[Tensor, "*batch dim"], queries: Float[Tensor, "*batch dim"]
    ) -> Tensor:
        """Add the residual and normalise, where the spec says so."""
        total = found + queries if self.residual else found
        norm = f"{direction}_norm"
        return self.get_submodule(norm)(total) if hasattr(self, norm) else total

    def unpooled(self, direction: str, queries: Side, keys: Side) -> Float[Tensor, "batch dim"]:
        """Attend, finish every frame, then pool: the path that needs no identity."""
        found = attend_unpooled(self.of(direction), queries, keys)
        frames, mask = queries.sequence
        return self.pool(self.finish(direction, found, frames), mask)


class SequenceCoAttention(_Attention):
    """The proposed model: each sequence attends to the other, both are pooled (Eqs. 3-5)."""

    directions = ("audio", "text")

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(MHA(audio, text, text)); Pool(MHA(text, audio, audio))]."""
        if not self.pools_in_mean:
            return torch.cat([self.unpooled("audio", audio, text), self.unpooled("text", text, audio)], dim=1)
        from_audio = attend_to_short(self.of("audio"), audio, text)
        from_text = attend_to_long(self.of("text"), text, audio)
        return torch.cat(
            [self.finish("audio", from_audio, audio.pooled), self.finish("text", from_text, text.pooled)], 1
        )


class PooledCoAttention(_Attention):
    """Vanilla co-attention: pool first, then attend on single vectors.

    With one key the softmax is 1, so the query and key projections get no gradient.
    """

    directions = ("audio", "text")

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[MHA(Pool(audio), Pool(text), Pool(text)); MHA(Pool(text), Pool(audio), Pool(audio))]."""
        from_audio = self._attend("audio", audio, text)
        from_text = self._attend("text", text, audio)
        return torch.cat([from_audio, from_text], dim=1)

    def _attend(self, direction: str, query: Side, key: Side) -> Float[Tensor, "batch dim"]:
        attention = self.of(direction)
        context = key.pooled.unsqueeze(1).expand(-1, attention.num_heads, -1)
        return self.finish(direction, values_out(attention, context), query.pooled)


class PooledQueryCoAttention(_Attention):
    """Vanilla co-attention, second reading: each pooled vector attends to the other sequence."""

    directions = ("audio", "text")

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[MHA(Pool(audio), text, text); MHA(Pool(text), audio, audio)]."""
        return torch.cat([self._attend("audio", audio, text), self._attend("text", text, audio)], dim=1)

    def _attend(self, direction: str, query: Side, keys: Side) -> Float[Tensor, "batch dim"]:
        single = Side(query.pooled, query.pooled.unsqueeze(1), torch.ones_like(query.pooled[:, :1], dtype=torch.bool))
        return self.finish(direction, attend_to_long(self.of(direction), single, keys), query.pooled)


class CrossAttention(_Attention):
    """Text queries audio; the other half of the embedding is the pooled audio."""

    directions = ("text",)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(MHA(text, audio, audio))]."""
        if self.pools_in_mean:
            from_text = self.finish("text", attend_to_long(self.of("text"), text, audio), text.pooled)
        else:
            from_text = self.unpooled("text", text, audio)
        return torch.cat([audio.pooled, from_text], dim=1)


class NoAttention(_Attention):
    """MLP Only: the two pooled vectors."""

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(text)]."""
        return torch.cat([audio.pooled, text.pooled], dim=1)


ATTENTION: dict[str, type[_Attention]] = {
    "sequence": SequenceCoAttention,
    "pooled": PooledCoAttention,
    "pooled_query": PooledQueryCoAttention,
    "cross": CrossAttention,
    "none": NoAttention,
}
