"""WhisQ: project, attend, pool, two heads (Eqs. 2-7). It eats features of frozen encoders, not audio."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whisq_core.model.attention import ATTENTION, POOL, Attention
from whisq_core.model.batches import Batch, Sequences
from whisq_core.model.multihead import MultiHead, Side
from whisq_core.spec import ModelSpec, RunSpec

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
        kept = torch.rand(values.shape, generator=self.generator) >= self.probability
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


class WhisQ(nn.Module):
    """The trainable part of the model for features of the given sizes.

    Audio is projected only where its size is not `feature_dim` (Eq. 1 gives Whisper-base's 512 as they are).
    """

    def __init__(self, spec: RunSpec, audio_dim: int, text_dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.audio_dim, self.text_dim = audio_dim, text_dim
        dim = spec.model.feature_dim
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights that `_initialise` replaces
            self.text_projection = nn.Linear(text_dim, dim)
            self.audio_projection = nn.Linear(audio_dim, dim) if audio_dim != dim else None
            self.attention: Attention = ATTENTION[spec.model.attention](spec.model)
            self.omq_head = head(dim, spec.model)
            self.ta_head = head(2 * dim, spec.model)
        for name, module in self.named_modules():
            _initialise(module, stream(spec.seed, f"initialise {name}"))
            if isinstance(module, Dropout):
                module.generator = stream(spec.seed, f"dropout {name}")

    def omq(self, audio_pooled: Float[Tensor, "batch audio_dim"]) -> Float[Tensor, " batch"]:
        """Eq. 6, on the mean of the projected frames: the mean of projections is the projection of the mean."""
        return _in_float32(self.omq_head, self._project_audio(audio_pooled))

    def sides(self, batch: Batch) -> tuple[Side, Side]:
        """Audio and text in the feature dimension, pooled and as sequences where the batch has them."""
        audio = self._side(batch.audio, batch.audio_pooled, self._project_audio)
        return audio, self._side(batch.text, batch.text_pooled, self.text_projection)

    def ta(self, audio: Side, text: Side) -> Float[Tensor, " batch"]:
        """Eq. 7."""
        return _in_float32(self.ta_head, self.attention(audio, text))

    def forward(self, batch: Batch) -> Float[Tensor, "batch 2"]:
        """Predicted OMQ and TA of each clip."""
        return torch.stack([self.omq(batch.audio_pooled), self.ta(*self.sides(batch))], dim=1)

    def _project_audio(self, frames: Float[Tensor, "*batch audio_dim"]) -> Float[Tensor, "*batch dim"]:
        return frames if self.audio_projection is None else self.audio_projection(frames)

    def _side(self, sequences: Sequences | None, pooled: Tensor, project: Callable[[Tensor], Tensor]) -> Side:
        if sequences is None:
            return Side(project(pooled))
        frames = project(sequences.frames)
        if self.spec.model.pool == "max":
            return Side(POOL["max"](frames, sequences.mask), frames, sequences.mask)
        return Side(project(pooled), frames, sequences.mask)


def _in_float32(head: nn.Sequential, values: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
    """A head's output whatever the precision around it: half precision would round scores to ties."""
    with torch.autocast(values.device.type, enabled=False):
        return head(values.float()).squeeze(1)


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
    """Trainable parameters, and multiply-accumulates of one clip's prediction."""

    trainable: int
    macs: int


def count(spec: ModelSpec, audio_dim: int, text_dim: int, frames: int, tokens: int) -> Counts:
    """Parameters and MACs of the trainable part for a clip of `frames` frames and a prompt of `tokens` tokens.

    MACs are counted as is customary, for Eqs. 2-7 as written (every frame projected and attended), so that they
    can be compared with published ones; the exact pooled form needs fewer.
    """
    run = RunSpec(model=spec)
    model = WhisQ(run, audio_dim, text_dim)
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
    }[spec.attention]
    return Counts(trainable, projected + attended + heads)


def _attention_macs(queries: int, keys: int, dim: int) -> int:
    """Query, key, value and output projections, scores, and weighted values."""
    return (2 * queries + 2 * keys) * dim * dim + 2 * queries * keys * dim
