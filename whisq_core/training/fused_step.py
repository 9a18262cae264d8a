"""The gradient of the TA loss and the OT term on a CPU, near the speed of its matrix products.

A batch goes through four stages: prompts become rows, frames meet them (`fused_frames`), the head eats what was
found, and the gradients go the same way back. Clips go in waves, so that memory does not grow with the batch.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core.features.store import Dataset
from whisq_core.model.alignment import raw
from whisq_core.model.multihead import Rows
from whisq_core.model.whisq import WhisQ
from whisq_core.training.fused_frames import FusedFrames, Part, Worker
from whisq_core.training.losses import TaTerms, gradient_share, task_loss
from whisq_core.training.text_side import Prompts, TextSide

WAVE = 16  # clips of a thread between two visits of the head


class FusedStep:
    """`accumulate` as `PlainStep`'s, for runs that `can_fuse` and whose OT term has p = 2."""

    def __init__(self, model: WhisQ, data: Dataset, truth: Float[Tensor, " clips"]) -> None:
        self._frames = FusedFrames(model, data)
        self._projection = list(model.text_projection.parameters())
        self._loss, self._truth, self._prompt_of = model.spec.loss, truth, data.prompt_of

    def accumulate(self, clips: Int[Tensor, " batch"], with_share: bool) -> TaTerms:
        """Add the gradients of these clips' TA loss (halved, Eq. 9) and OT term to the parameters'."""
        rows, workers = clips.numpy(), self._frames.workers
        distinct, prompt_of = np.unique(self._prompt_of[rows], return_inverse=True)
        tokens, met, prompts = self._frames.project(distinct, align=self._loss.ot_weight > 0)
        for worker in workers:
            worker.begin_gradient()
        ta = ot = 0.0
        for wave in np.array_split(np.arange(len(rows)), -(-len(rows) // (WAVE * len(workers)))):
            terms = self._wave(rows[wave], prompt_of[wave], len(rows))
            ta, ot = ta + terms[0], ot + terms[1]
        gradient = workers[0].gradient
        for worker in workers[1:]:
            gradient.add_(worker.gradient)
        if gradient.aligned is not None:
            ot -= self._add_text_term(prompts, gradient.aligned, np.bincount(prompt_of) / len(rows))
        return TaTerms(ta, ot, self._backward(tokens, met, gradient, with_share))

    def _wave(
        self, rows: Int[np.ndarray, " wave"], prompts: Int[np.ndarray, " wave"], whole: int
    ) -> tuple[float, float]:
        """Some clips of a batch of `whole`, forward and back: their parts of the TA loss and of the OT term."""
        contexts = self._frames.meet(rows, prompts, keep=True)
        parts, ot, weight = self._frames.parts(len(rows)), 0.0, self._loss.ot_weight / whole
        if weight > 0:
            ot = sum(self._frames.each(lambda worker, _: worker.align(weight), parts))
        clips = torch.from_numpy(rows)
        loss = task_loss(self._frames.ta(contexts, rows), self._truth[clips], self._loss, whole)
        torch.autograd.backward(loss / 2)

        def backward(worker: Worker, part: Part) -> None:
            worker.backward(_gradients(contexts.of_text, part), _gradients(contexts.of_audio, part))

        self._frames.each(backward, parts)
        return float(loss.detach()), ot

    def _add_text_term(
        self, prompts: Prompts, gradient: Float[Tensor, "tokens dim"], shares: Float[np.ndarray, " prompts"]
    ) -> float:
        """The text's own term raw(y, y) / 2 of every prompt, `shares` of a batch each: its value; and its gradient."""
        counts = torch.from_numpy(np.diff(prompts.starts))
        mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)
        padded = torch.zeros(*mask.shape, gradient.shape[1])
        padded[mask] = prompts.side.tokens
        text = raw(padded, mask, padded, mask, self._loss)
        weights = torch.from_numpy(shares).float() * self._loss.ot_weight
        gradient.sub_((text.towards_tokens * weights[:, None, None])[mask])
        return float(weights @ text.value / 2)

    def _backward(self, tokens: Tensor, met: Rows, gradient: TextSide, with_share: bool) -> float | None:
        """Take the gradients of what frames met back to the parameters; the OT term's share where asked for."""
        outputs, gradients = [tokens], [gradient.tokens]
        for rows, towards in (
            (met.to_text, gradient.to_text),
            (met.to_text_constants, gradient.to_text_constants),
            (met.to_audio, gradient.to_audio),
        ):
            if rows is not None:
                assert towards is not None
                outputs.append(rows)
                gradients.append(towards.transpose(0, 1).to(rows.dtype))
        share = None
        if gradient.aligned is not None and with_share:
            ot = torch.autograd.grad(tokens, self._projection, gradient.aligned, retain_graph=True)
            torch.autograd.backward(outputs, gradients)
            share = gradient_share(ot, [parameter.grad for parameter in self._projection if parameter.grad is not None])
            torch.autograd.backward(self._projection, ot)
        else:
            if gradient.aligned is not None:
                gradient.tokens.add_(gradient.aligned)
            torch.autograd.backward(outputs, gradients)
        return share


def _gradients(contexts: Tensor | None, part: Part) -> list[Tensor | None]:
    if contexts is None:
        return [None] * len(part)
    assert contexts.grad is not None
    return [contexts.grad[clip].contiguous() for clip in part]
