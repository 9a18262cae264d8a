"""WhisQ: project, attend, pool, two heads (Eqs. 2-7). It takes features of frozen encoders, not audio."""

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whisq_core.model.alignment import at_least_float32
from whisq_core.model.attention import ATTENTION, POOL, Attention, MultiHead, Side
from whisq_core.model.interaction import Contexts, Interact, Rows, interact
from whisq_core.model.plugged import PluginAttention
from whisq_core.spec import LossSpec, ModelSpec

HIDDEN = (256, 64)  # Sec. II.A


def stream(seed: int, name: str) -> torch.Generator:
    """A random stream of its own for each use, so that rows with the same module start from the same numbers."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Dropout(nn.Module):
    """Dropout that draws from a stream of its own, so that one head's masks do not depend on the other's."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator = torch.Generator()

    def forward(self, values: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Zero each value with the probability and scale the others up; identity in evaluation."""
        if not self.training or self.probability == 0:
            return values
        if self.generator.device != values.device:  # the model has moved since it was made
            self.generator = torch.Generator(values.device).manual_seed(self.generator.initial_seed())
        kept = torch.rand(values.shape, generator=self.generator, device=values.device) >= self.probability
        return values * kept.to(values) / (1 - self.probability)


def head(input_dim: int, spec: ModelSpec) -> nn.Sequential:
    """input_dim -> 256 -> 64 -> 1 (Eqs. 6-7); `linear` leaves the activations out, as the official baseline does."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip((input_dim, *HIDDEN), HIDDEN, strict=False):
        layers.append(nn.Linear(width_in, width_out))
        if spec.head == "mlp":
            layers.append(nn.ReLU())
        layers.append(Dropout(spec.dropout))
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))


@dataclass(frozen=True)
class Batch:
    """Features of some clips. Masks are true for valid positions, half precision is widened where it is read.

    `tokens` are None where a run needs pooled features only, `frames` also where `interact` has frames of its own.
    """

    audio_pooled: Float[Tensor, "batch audio_dim"]
    text_pooled: Float[Tensor, "batch text_dim"]
    tokens: Float[Tensor, "*tokens text_dim"] | None = None
    token_mask: Bool[Tensor, "batch tokens"] | None = None
    frames: Float[Tensor, "batch frames audio_dim"] | None = None
    frame_mask: Bool[Tensor, "batch frames"] | None = None
    interact: Interact = interact


@dataclass(frozen=True)
class TaResult:
    """TA of each clip; with a loss that aligns also its divergence, and the tokens as the OT term saw them."""

    ta: Float[Tensor, " batch"]
    divergence: Float[Tensor, " batch"] | None = None
    points: Float[Tensor, "*tokens dim"] | None = None


class WhisQ(nn.Module):
    """The trainable part of the model for features of the given sizes.

    Audio is projected only where its size is not `feature_dim` (Eq. 1 gives Whisper-base's 512 as they are).
    """

    def __init__(self, spec: ModelSpec, audio_dim: int, text_dim: int, seed: int) -> None:
        super().__init__()
        self.spec, self.audio_dim, self.text_dim = spec, audio_dim, text_dim
        dim = spec.feature_dim
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights that `_initialise` replaces
            self.text_projection = nn.Linear(text_dim, dim)
            self.audio_projection = nn.Linear(audio_dim, dim) if audio_dim != dim else None
            own = ATTENTION.get(spec.attention)
            torch.default_generator.manual_seed(stream(seed, "plug-in").initial_seed())
            self.attention: Attention = own(spec) if own else PluginAttention(spec)
            self.omq_head = head(dim, spec)
            self.ta_head = head(2 * dim, spec)
        for name, module in self.named_modules():
            if own or not name.startswith("attention."):  # a plug-in's weights are its own affair
                _initialise(module, stream(seed, f"initialise {name}"))
            if isinstance(module, Dropout):
                module.generator = stream(seed, f"dropout {name}")

    def omq(self, audio_pooled: Float[Tensor, "batch audio_dim"]) -> Float[Tensor, " batch"]:
        """Eq. 6, on the mean of the projected frames: the mean of projections is the projection of the mean."""
        with _exact(audio_pooled):
            return self.omq_head(self._project_audio(audio_pooled)).squeeze(1)

    def ta(self, batch: Batch, loss: LossSpec | None = None) -> TaResult:
        """Eq. 7, and the divergence of frames and tokens for a `loss` with an OT term.

        Whatever the precision around it, pooled vectors and the head are not rounded: that would round scores to ties.
        """
        with _exact(batch.audio_pooled):
            audio, text = self._project_audio(batch.audio_pooled), self.text_projection(batch.text_pooled)
        if batch.tokens is None:
            return TaResult(self._score(self.attention.embed(Contexts(), audio, text)))
        tokens = self.text_projection(batch.tokens.to(text.dtype))
        points = None if loss is None or loss.ot_weight == 0 else at_least_float32(tokens).view_as(tokens)
        frames = None if batch.frames is None else self._project_audio(batch.frames)
        rows = replace(self.attention.rows(tokens) if self.attention.commutes else Rows(), points=points)
        contexts, divergence = batch.interact(frames, batch.frame_mask, audio, tokens, batch.token_mask, rows, loss)
        if self.attention.commutes:
            with _exact(audio):
                joint = self.attention.embed(contexts, audio, text)
        else:
            sides = self._side(audio, frames, batch.frame_mask), self._side(text, tokens, batch.token_mask)
            joint = self.attention.unpooled(*sides)
        return TaResult(self._score(joint), divergence, points)

    def _score(self, joint: Float[Tensor, "batch two_dim"]) -> Float[Tensor, " batch"]:
        with _exact(joint):
            return self.ta_head(at_least_float32(joint)).squeeze(1)

    def _project_audio(self, frames: Float[Tensor, "*batch audio_dim"]) -> Float[Tensor, "*batch dim"]:
        if self.audio_projection is None:
            return frames
        return self.audio_projection(frames.to(self.audio_projection.weight.dtype))

    def _side(self, pooled: Tensor, frames: Tensor | None, mask: Tensor | None) -> Side:
        assert frames is not None
        assert mask is not None
        frames = at_least_float32(frames)
        return Side(POOL["max"](frames, mask) if self.spec.pool == "max" else pooled, frames, mask)


def _exact(values: Tensor) -> torch.autocast:
    """Inside, nothing is rounded to half precision."""
    return torch.autocast(values.device.type, enabled=False)


@torch.no_grad()
def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own initial distributions, drawn from `generator`; modules without parameters draw nothing."""
    if isinstance(module, MultiHead):
        module.reset(generator)
    elif isinstance(module, nn.LayerNorm):
        module.weight.fill_(1)
        module.bias.zero_()
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        module.weight.uniform_(-bound, bound, generator=generator)
        module.bias.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True)
class Counts:
    """Trainable parameters, and multiply-accumulates of one clip's prediction; None with a plug-in's attention."""

    trainable: int
    macs: int | None


def count(spec: ModelSpec, audio_dim: int, text_dim: int, frames: int, tokens: int) -> Counts:
    """Parameters and MACs of the trainable part for a clip of `frames` frames and a prompt of `tokens` tokens.

    MACs are counted as is customary, for Eqs. 2-7 as written (every frame projected and attended), so that they
    can be compared with published ones; the exact pooled form needs fewer.
    """
    model = WhisQ(spec, audio_dim, text_dim, seed=0)
    dim = spec.feature_dim
    trainable = sum(parameter.numel() for parameter in model.parameters())
    heads = sum(module.weight.numel() for module in [*model.omq_head, *model.ta_head] if isinstance(module, nn.Linear))
    projected = tokens * text_dim * dim + (frames * audio_dim * dim if audio_dim != dim else 0)
    attended = {
        "sequence": _attention_macs(frames, tokens, dim) + _attention_macs(tokens, frames, dim),
        "pooled": 2 * _attention_macs(1, 1, dim),
        "pooled_query": _attention_macs(1, tokens, dim) + _attention_macs(1, frames, dim),
        "cross": _attention_macs(tokens, frames, dim),
        "none": 0,
    }.get(spec.attention)
    return Counts(trainable, None if attended is None else projected + attended + heads)


def _attention_macs(queries: int, keys: int, dim: int) -> int:
    """Query, key, value and output projections, scores, and weighted values."""
    return (2 * queries + 2 * keys) * dim * dim + 2 * queries * keys * dim
