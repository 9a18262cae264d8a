"""The attention variants of Table II: two sides in, the TA head's input out (Eqs. 3-5).

Each variant has two forms. `forward` takes padded sides. `rows` and `embed` are its two ends around `kernel`,
which does what lies between clip by clip: what frames meet for given tokens, and the TA head's input from what
was found; they exist where the mean over queries commutes with what follows (`multihead`).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whisq_core.model.multihead import Contexts, MultiHead, Pooled, Rows, Side, find_in_audio, find_in_text
from whisq_core.spec import ModelSpec


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


class Attention(nn.Module):
    """What the variants share: residual, layer norm and pooling around attentions named after their queries."""

    directions: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.pool = POOL[spec.pool]
        self.commutes = spec.pool == "mean" and not spec.layer_norm
        for name in self.directions:
            self.add_module(name, MultiHead(spec.feature_dim, spec.heads))
            if spec.layer_norm:
                self.add_module(f"{name}_norm", nn.LayerNorm(spec.feature_dim))

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens: nothing, unless a variant says otherwise."""
        return Rows()

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """The TA head's input from what the mean queries found."""
        raise NotImplementedError

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

    def unpooled(self, direction: str, queries: Side, keys: Side) -> Float[Tensor, "batch dim"]:
        """Attend, finish every frame, then pool: the way of the paper's equations, taken where it is the only one."""
        frames, mask = queries.sequence
        return self.pool(self.finish(direction, self.of(direction).every_query(queries, keys), frames), mask)


class SequenceCoAttention(Attention):
    """The proposed model: each sequence attends to the other, both are pooled (Eqs. 3-5)."""

    directions = ("audio", "text")

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens."""
        return Rows(*self.of("audio").rows_of_keys(tokens), self.of("text").rows_of_queries(tokens))

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """[Pool(MHA(audio, text, text)); Pool(MHA(text, audio, audio))] from what was found."""
        assert contexts.of_text is not None
        assert contexts.of_audio is not None
        from_audio = self.finish("audio", self.of("audio").values(contexts.of_text), audio)
        from_text = self.finish("text", self.of("text").values(contexts.of_audio), text)
        return torch.cat([from_audio, from_text], dim=1)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(MHA(audio, text, text)); Pool(MHA(text, audio, audio))]."""
        if not self.commutes:
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

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """As `embed`: only the pooled vectors matter."""
        return self.embed(Contexts(), audio.pooled, text.pooled)

    def _attend(self, direction: str, query: Pooled, key: Pooled) -> Float[Tensor, "batch dim"]:
        attention = self.of(direction)
        context = key.unsqueeze(1).expand(-1, attention.heads, -1)
        return self.finish(direction, attention.values(context), query)


class PooledQueryCoAttention(Attention):
    """Vanilla co-attention, second reading: each pooled vector attends to the other sequence."""

    directions = ("audio", "text")

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[MHA(Pool(audio), text, text); MHA(Pool(text), audio, audio)]."""
        return torch.cat([self._attend("audio", audio, text), self._attend("text", text, audio)], dim=1)

    def _attend(self, direction: str, query: Side, keys: Side) -> Float[Tensor, "batch dim"]:
        attention = self.of(direction)
        single = torch.ones_like(query.pooled[:, :1], dtype=torch.bool)
        found = find_in_audio(attention.rows_of_queries(query.pooled.unsqueeze(1)), single, keys)
        return self.finish(direction, attention.values(found), query.pooled)


class CrossAttention(Attention):
    """Text queries audio; the other half of the embedding is the pooled audio."""

    directions = ("text",)

    def rows(self, tokens: Float[Tensor, "*tokens dim"]) -> Rows:
        """What frames meet, for these tokens."""
        return Rows(to_audio=self.of("text").rows_of_queries(tokens))

    def embed(self, contexts: Contexts, audio: Pooled, text: Pooled) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(MHA(text, audio, audio))] from what was found."""
        assert contexts.of_audio is not None
        return torch.cat([audio, self.finish("text", self.of("text").values(contexts.of_audio), text)], dim=1)

    def forward(self, audio: Side, text: Side) -> Float[Tensor, "batch two_dim"]:
        """[Pool(audio); Pool(MHA(text, audio, audio))]."""
        if not self.commutes:
            return torch.cat([audio.pooled, self.unpooled("text", text, audio)], dim=1)
        tokens, mask = text.sequence
        found = Contexts(of_audio=find_in_audio(self.of("text").rows_of_queries(tokens), mask, audio))
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
