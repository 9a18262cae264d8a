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

Pooled = Float[Tensor, "batch dim"]


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


def key_rows(
    attention: nn.MultiheadAttention, tokens: Float[Tensor, "*tokens dim"]
) -> tuple[Float[Tensor, "*tokens heads dim"], Float[Tensor, "*tokens heads"]]:
    """`Rows.to_text` and its constants: tokens are the keys. The key bias cancels."""
    query, key, query_bias = _per_head(attention)
    projected = torch.einsum("...d,hkd->...hk", tokens, key) / math.sqrt(key.shape[1])
    return torch.einsum("...hk,hkd->...hd", projected, query), torch.einsum("...hk,hk->...h", projected, query_bias)


def query_rows(
    attention: nn.MultiheadAttention, tokens: Float[Tensor, "*tokens dim"]
) -> Float[Tensor, "*tokens heads dim"]:
    """`Rows.to_audio`: tokens are the queries."""
    query, key, query_bias = _per_head(attention)
    projected = torch.einsum("...d,hkd->...hk", tokens, query) + query_bias
    return torch.einsum("...hk,hkd->...hd", projected / math.sqrt(key.shape[1]), key)


def _per_head(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key projections [heads, head_dim, dim], and the query bias [heads, head_dim]."""
    heads = attention.num_heads
    query, key, _ = attention.in_proj_weight.view(3, heads, -1, attention.embed_dim).unbind(0)
    return query, key, attention.in_proj_bias.view(3, heads, -1)[0]


def values_out(
    attention: nn.MultiheadAttention, context: Float[Tensor, "batch heads dim"]
) -> Float[Tensor, "batch dim"]:
    """The value and output projections of each head's context."""
    value = attention.in_proj_weight.view(3, attention.num_heads, -1, attention.embed_dim)[2]
    projected = torch.einsum("bhd,hkd->bhk", context, value).flatten(1)
    return attention.out_proj(projected + attention.in_proj_bias[2 * attention.embed_dim :])


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


def attend_unpooled(attention: nn.MultiheadAttention, queries: Side, keys: Side) -> Float[Tensor, "batch queries dim"]:
    """What every query finds: plain multi-head attention, padded keys masked."""
    key_frames, key_mask = keys.sequence
    found, _ = attention(queries.sequence[0], key_frames, key_frames, key_padding_mask=~key_mask, need_weights=False)
    return found


class Attention(nn.Module):
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

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens: nothing, unless a variant says otherwise."""
        return Rows()

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """The TA head's input from what the mean queries found, where the exact pooled form applies."""
        raise NotImplementedError

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


class SequenceCoAttention(Attention):
    """The proposed model: each sequence attends to the other, both are pooled (Eqs. 3-5)."""

    directions = ("audio", "text")

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens."""
        return Rows(*key_rows(self.of("audio"), tokens), query_rows(self.of("text"), tokens))

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """The TA head's input from what was found."""
        assert contexts.of_text is not None
        assert contexts.of_audio is not None
        from_audio = self.finish("audio", values_out(self.of("audio"), contexts.of_text), audio)
        from_text = self.finish("text", values_out(self.of("text"), contexts.of_audio), text)
        return torch.cat([from_audio, from_text], dim=1)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(MHA(audio, text, text)); Pool(MHA(text, audio, audio))]."""
        if not self.pools_in_mean:
            return torch.cat([self.unpooled("audio", audio, text), self.unpooled("text", text, audio)], dim=1)
        rows = self.rows(text.sequence[0])
        assert rows.to_audio is not None
        found = Contexts(find_in_text(rows, audio, text), find_in_audio(rows.to_audio, text.sequence[1], audio))
        return self.embed(found, audio.pooled, text.pooled)


class PooledCoAttention(Attention):
    """Vanilla co-attention: pool first, then attend on single vectors.

    With one key the softmax is 1, so the query and key projections get no gradient.
    """

    directions = ("audio", "text")

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """[MHA(Pool(audio), Pool(text), Pool(text)); MHA(Pool(text), Pool(audio), Pool(audio))]."""
        return torch.cat([self._attend("audio", audio, text), self._attend("text", text, audio)], dim=1)

    def _attend(self, direction: str, query: Pooled, key: Pooled) -> Float[Tensor, "batch dim"]:
        attention = self.of(direction)
        context = key.unsqueeze(1).expand(-1, attention.num_heads, -1)
        return self.finish(direction, values_out(attention, context), query)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """As `embed`: only the pooled vectors matter."""
        return self.embed(Contexts(), audio.pooled, text.pooled)


class PooledQueryCoAttention(Attention):
    """Vanilla co-attention, second reading: each pooled vector attends to the other sequence."""

    directions = ("audio", "text")

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[MHA(Pool(audio), text, text); MHA(Pool(text), audio, audio)]."""
        return torch.cat([self._attend("audio", audio, text), self._attend("text", text, audio)], dim=1)

    def _attend(self, direction: str, query: Side, keys: Side) -> Float[Tensor, "batch dim"]:
        attention = self.of(direction)
        single = torch.ones_like(query.pooled[:, :1], dtype=torch.bool)
        found = find_in_audio(query_rows(attention, query.pooled.unsqueeze(1)), single, keys)
        return self.finish(direction, values_out(attention, found), query.pooled)


class CrossAttention(Attention):
    """Text queries audio; the other half of the embedding is the pooled audio."""

    directions = ("text",)

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens."""
        return Rows(to_audio=query_rows(self.of("text"), tokens))

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """The TA head's input from what was found."""
        assert contexts.of_audio is not None
        return torch.cat([audio, self.finish("text", values_out(self.of("text"), contexts.of_audio), text)], dim=1)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(MHA(text, audio, audio))]."""
        if not self.pools_in_mean:
            return torch.cat([audio.pooled, self.unpooled("text", text, audio)], dim=1)
        tokens, mask = text.sequence
        found = Contexts(of_audio=find_in_audio(query_rows(self.of("text"), tokens), mask, audio))
        return self.embed(found, audio.pooled, text.pooled)


class NoAttention(Attention):
    """MLP Only: the two pooled vectors."""

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(text)]."""
        return torch.cat([audio, text], dim=1)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """As `embed`."""
        return self.embed(Contexts(), audio.pooled, text.pooled)


ATTENTION: dict[str, type[Attention]] = {
    "sequence": SequenceCoAttention,
    "pooled": PooledCoAttention,
    "pooled_query": PooledQueryCoAttention,
    "cross": CrossAttention,
    "none": NoAttention,
}
