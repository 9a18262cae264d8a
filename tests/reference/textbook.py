"""The same training step as a good researcher writes it from the paper: `nn.MultiheadAttention` and geomloss.

It shares no code with `whisq_core` but the parameters and their initial values, and is what `benchmarks/step.py`
measures against and what the tests beside it compare with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from geomloss import SamplesLoss
from torch import Tensor, nn
from torch.nn import functional

from whisq_core.model import WhisQ
from whisq_core.spec import LossSpec


@dataclass(frozen=True)
class PaddedBatch:
    """Features of some clips, padded; masks are true for valid frames and tokens."""

    audio: Tensor  # [batch, frames, audio_dim]
    audio_mask: Tensor
    text: Tensor  # [batch, tokens, text_dim]
    text_mask: Tensor
    labels: Tensor  # [batch, 2]: OMQ, TA


def pad(audio: Sequence[Tensor], text: Sequence[Tensor], labels: Tensor) -> PaddedBatch:
    """One batch from the frames and tokens of each clip."""
    return PaddedBatch(*_pad(audio), *_pad(text), labels)


def _pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    padded = nn.utils.rnn.pad_sequence([sequence.float() for sequence in sequences], batch_first=True)
    counts = torch.tensor([len(sequence) for sequence in sequences])
    return padded, torch.arange(padded.shape[1]) < counts.unsqueeze(1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over valid positions."""
    return (values * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


class TextbookWhisQ(nn.Module):
    """Eqs. 2-7 with sequence co-attention, cross-attention or none.

    Projections and heads are those of a `WhisQ`; attentions start from the same numbers as its own.
    """

    def __init__(self, model: WhisQ) -> None:
        super().__init__()
        self.kind = model.spec.attention
        self.text_projection = model.text_projection
        self.audio_projection = model.audio_projection or nn.Identity()
        self.attentions = nn.ModuleDict({name: _multihead(model, name) for name in model.attention.directions})
        self.omq_head, self.ta_head = model.omq_head, model.ta_head

    def forward(self, batch: PaddedBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """OMQ, TA, and the projected audio and text."""
        audio, text = self.audio_projection(batch.audio), self.text_projection(batch.text)
        audio_pooled, text_pooled = masked_mean(audio, batch.audio_mask), masked_mean(text, batch.text_mask)
        if self.kind in ("sequence", "cross"):
            masked = {"key_padding_mask": ~batch.audio_mask, "need_weights": False}
            found, _ = self.attentions["text"](text, audio, audio, **masked)  # Eq. 4
            text_pooled = masked_mean(found, batch.text_mask)
        joint = audio_pooled
        if self.kind == "sequence":
            masked = {"key_padding_mask": ~batch.text_mask, "need_weights": False}
            found, _ = self.attentions["audio"](audio, text, text, **masked)  # Eq. 3
            joint = masked_mean(found, batch.audio_mask)
        ta = self.ta_head(torch.cat([joint, text_pooled], dim=1))
        return self.omq_head(audio_pooled).squeeze(1), ta.squeeze(1), audio, text


@torch.no_grad()
def _multihead(model: WhisQ, direction: str) -> nn.MultiheadAttention:
    ours = model.attention.of(direction)
    theirs = nn.MultiheadAttention(len(ours.out_weight), ours.heads, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.query_weight, ours.key_weight, ours.value_weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query_bias, ours.key_bias, ours.value_bias]))
    theirs.out_proj.weight.copy_(ours.out_weight)
    theirs.out_proj.bias.copy_(ours.out_bias)
    return theirs


class TextbookLoss:
    """Eqs. 8-10 with Huber losses and geomloss' debiased divergence, its diameter fixed."""

    def __init__(self, spec: LossSpec) -> None:
        self.spec = spec
        self.divergence = SamplesLoss(
            "sinkhorn", p=spec.p, blur=spec.blur, diameter=spec.diameter, scaling=spec.scaling, backend="tensorized"
        )

    def __call__(self, model: TextbookWhisQ, batch: PaddedBatch) -> Tensor:
        """The loss of a batch."""
        omq, ta, audio, text = model(batch)
        delta = self.spec.huber_delta
        task = (
            functional.huber_loss(omq, batch.labels[:, 0], delta=delta)
            + functional.huber_loss(ta, batch.labels[:, 1], delta=delta)
        ) / 2
        if self.spec.ot_weight == 0:
            return task
        return task + self.spec.ot_weight * self.alignment(batch, audio, text).mean()

    def alignment(self, batch: PaddedBatch, audio: Tensor, text: Tensor) -> Tensor:
        """The divergence of each clip; padded positions weigh nothing."""
        weights = [mask.float() / mask.sum(dim=1, keepdim=True) for mask in (batch.audio_mask, batch.text_mask)]
        return self.divergence(weights[0], audio, weights[1], text)
