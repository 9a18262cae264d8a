"""The gradient of the TA loss and the OT term by autograd over padded pieces: any device, precision and model."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core.features.store import Dataset
from whisq_core.model.alignment import sinkhorn
from whisq_core.model.batches import Loader
from whisq_core.model.whisq import WhisQ
from whisq_core.training.losses import TaTerms, gradient_share, task_loss
from whisq_core.training.optimisation import Updater, autocast

PIECE = {"cpu": 8, "cuda": 32}  # clips whose sequences are in memory at once, by device


class PlainStep:
    """The reference for `FusedStep`, and what runs on CUDA."""

    def __init__(self, model: WhisQ, data: Dataset, truth: Float[Tensor, " clips"], updater: Updater) -> None:
        self._model, self._truth, self._updater = model, truth, updater
        self._spec = model.spec
        self._loader = Loader(data, model.spec.model.audio_frames, truth.device)

    def accumulate(self, clips: Int[Tensor, " batch"], with_share: bool) -> TaTerms:
        """Add the gradients of these clips' TA loss (halved, Eq. 9) and OT term to the parameters'."""
        share = self._share(clips) if with_share else None
        total_ta = total_ot = 0.0
        for ta, ot in self._pieces(clips):
            torch.autograd.backward(self._updater.scale(ta / 2 + ot))
            total_ta, total_ot = total_ta + float(ta.detach()), total_ot + float(ot.detach())
        return TaTerms(total_ta, total_ot, share)

    def _pieces(self, clips: Int[Tensor, " batch"]) -> Iterator[tuple[Float[Tensor, ""], Float[Tensor, ""]]]:
        """The TA loss and the OT term of each piece of a batch; the pieces add up."""
        spec = self._spec
        size = PIECE[self._truth.device.type] if spec.needs_frames else len(clips)
        pieces = torch.split(clips, size)
        batches = self._loader.batches([piece.numpy() for piece in pieces], spec.needs_frames)
        for piece, batch in zip(pieces, batches, strict=True):
            with autocast(spec.train):
                audio, text = self._model.sides(batch)
                predicted = self._model.ta(audio, text).float()
            ta = task_loss(predicted, self._truth[piece], spec.loss, len(clips))
            ot = torch.zeros_like(ta)
            if spec.loss.ot_weight > 0:
                divergence = sinkhorn(*audio.sequence, *text.sequence, spec.loss)
                ot = spec.loss.ot_weight * divergence.sum() / len(clips)
            yield ta, ot

    def _share(self, clips: Int[Tensor, " batch"]) -> float:
        """How the OT term pulls at the text projection, relative to the task."""
        parameters = list(self._model.text_projection.parameters())
        totals = [[torch.zeros_like(parameter) for parameter in parameters] for _ in range(2)]
        for ta, ot in self._pieces(clips):
            for total, term in zip(totals, (ot, ta / 2), strict=True):
                parts = torch.autograd.grad(term, parameters, retain_graph=True)
                for whole, part in zip(total, parts, strict=True):
                    whole.add_(part)
        return gradient_share(*totals)
