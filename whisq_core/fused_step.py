"""The gradient of the TA loss and the OT term on a CPU, near the speed of its matrix products.

A batch goes through four stages: its distinct prompts are projected and turned into rows, once; every clip's
frames meet their prompt's rows (`kernel`); the head eats what was found; the gradients go the same way back.
Clips go in waves, short enough for the scores in between to stay in cache. Each thread has clips of its own
(`frame_worker`), so that no thread waits for another inside a clip.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core.alignment import raw
from whisq_core.batches import lengths
from whisq_core.features import Dataset
from whisq_core.frame_worker import FrameWorker, Prompts
from whisq_core.kernel import TextSide
from whisq_core.losses import TaTerms, gradient_share, task_loss
from whisq_core.model import WhisQ
from whisq_core.multihead import Contexts, Rows
from whisq_core.optimisation import autocast
from whisq_core.spec import RunSpec

WAVE = 32  # clips of a thread between two visits of the head
_Result = TypeVar("_Result")
Part = np.ndarray


def can_fuse(spec: RunSpec, audio_dim: int) -> bool:
    """Whether `FusedStep` does this run; `PlainStep` does any."""
    model, loss = spec.model, spec.loss
    return (
        spec.needs_frames
        and spec.train.device == "cpu"
        and spec.train.precision in ("float32", "bf16")
        and audio_dim == model.feature_dim
        and model.attention != "pooled_query"
        and model.pool == "mean"
        and not model.layer_norm
        and (loss.p == 2 or loss.ot_weight == 0)
    )


class FusedStep:
    """`accumulate` as `PlainStep`'s, for the runs that `can_fuse`."""

    def __init__(self, model: WhisQ, data: Dataset, truth: Float[Tensor, " clips"]) -> None:
        self._model, self._data, self._truth = model, data, truth
        self._loss, audio_frames = model.spec.loss, model.spec.model.audio_frames
        self._audio_pooled, self._text_pooled = data.audio.pooled(audio_frames), data.text.pooled("valid")
        valid = [data.text.frames(row)[: int(count)] for row, count in enumerate(data.text.num_valid)]
        self._tokens = torch.cat(valid).float()
        self._starts = np.concatenate([[0], np.cumsum(data.text.num_valid)])
        num_frames = lengths(data.audio, audio_frames)
        threads = model.spec.train.threads
        rounded = model.spec.train.precision == "bf16"
        self._workers = [FrameWorker(data.audio, num_frames, self._loss, rounded) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def accumulate(self, clips: Int[Tensor, " batch"], with_share: bool) -> TaTerms:
        """Add the gradients of these clips' TA loss (halved, Eq. 9) and OT term to the parameters'."""
        rows = clips.numpy()
        distinct, prompt_of = np.unique(self._data.prompt_of[rows], return_inverse=True)
        tokens, met, prompts = self._project(distinct)
        for worker in self._workers:
            worker.begin(prompts)
        ta = ot = 0.0
        for wave in np.array_split(np.arange(len(rows)), -(-len(rows) // (WAVE * len(self._workers)))):
            terms = self._wave(rows[wave], prompt_of[wave], len(rows))
            ta, ot = ta + terms[0], ot + terms[1]
        gradient = self._workers[0].gradient
        for worker in self._workers[1:]:
            gradient.add_(worker.gradient)
        if gradient.aligned is not None:
            ot -= self._add_text_term(prompts, gradient.aligned, np.bincount(prompt_of) / len(rows))
        return TaTerms(ta, ot, self._backward(tokens, met, gradient, with_share))

    def _project(self, distinct: Int[np.ndarray, " prompts"]) -> tuple[Tensor, Rows, Prompts]:
        """The tokens of some prompts, projected, and the rows that frames meet: with a graph, and detached."""
        spans = [np.arange(self._starts[prompt], self._starts[prompt + 1]) for prompt in distinct]
        with autocast(self._model.spec.train):
            tokens = self._model.text_projection(self._tokens[torch.from_numpy(np.concatenate(spans))])
            met = self._model.attention.rows(tokens)
        tokens = tokens.float()
        values = tokens.detach()
        side = TextSide(
            values,
            values if self._loss.ot_weight > 0 else None,
            _heads_first(met.to_text),
            _heads_first(met.to_text_constants),
            _heads_first(met.to_audio),
        )
        starts = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        return tokens, met, Prompts(side, starts, values.square().sum(dim=1) / 2)

    def _wave(
        self, rows: Int[np.ndarray, " wave"], prompts: Int[np.ndarray, " wave"], whole: int
    ) -> tuple[float, float]:
        """Some clips of a batch of `whole`, forward and back: their parts of the TA loss and of the OT term."""
        parts = np.array_split(np.arange(len(rows)), len(self._workers))
        weight = self._loss.ot_weight / whole

        def forward(worker: FrameWorker, part: Part) -> float:
            worker.forward(rows[part], prompts[part])
            return worker.align(weight) if weight > 0 else 0.0

        def backward(worker: FrameWorker, part: Part) -> None:
            worker.backward(_gradients(contexts.of_text, part), _gradients(contexts.of_audio, part))

        ot = sum(self._each(forward, parts))
        contexts = Contexts(
            _leaf([found for worker in self._workers for found in worker.found_in_text]),
            _leaf([found for worker in self._workers for found in worker.found_in_audio]),
        )
        ta = self._head(contexts, rows, whole)
        self._each(backward, parts)
        return ta, ot

    def _each(self, task: Callable[[FrameWorker, Part], _Result], parts: Sequence[Part]) -> list[_Result]:
        """The task on every worker and its part, at the same time."""
        if len(self._workers) == 1:
            return [task(self._workers[0], parts[0])]
        return list(self._pool.map(task, self._workers, parts))

    def _head(self, contexts: Contexts, rows: Int[np.ndarray, " wave"], whole: int) -> float:
        """The TA loss of some clips; its gradients go to the head, the attention's outputs and `contexts`."""
        clips = torch.from_numpy(rows)
        audio = self._audio_pooled[clips]
        text = self._model.text_projection(self._text_pooled[torch.from_numpy(self._data.prompt_of[rows])])
        predicted = self._model.ta_head(self._model.attention.embed(contexts, audio, text)).squeeze(1)
        loss = task_loss(predicted, self._truth[clips], self._loss, whole)
        torch.autograd.backward(loss / 2)
        return float(loss.detach())

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
            projection = list(self._model.text_projection.parameters())
            ot = torch.autograd.grad(tokens, projection, gradient.aligned, retain_graph=True)
            torch.autograd.backward(outputs, gradients)
            share = gradient_share(ot, [parameter.grad for parameter in projection if parameter.grad is not None])
            torch.autograd.backward(projection, ot)
        else:
            if gradient.aligned is not None:
                gradient.tokens.add_(gradient.aligned)
            torch.autograd.backward(outputs, gradients)
        return share


def _heads_first(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().transpose(0, 1)


def _leaf(found: Sequence[Tensor | None]) -> Float[Tensor, "wave heads dim"] | None:
    """What the clips of a wave found, as the start of a graph."""
    arrays = [values for values in found if values is not None]
    return torch.stack(arrays).requires_grad_() if arrays else None


def _gradients(contexts: Tensor | None, part: Part) -> list[Tensor | None]:
    if contexts is None:
        return [None] * len(part)
    assert contexts.grad is not None
    return [contexts.grad[clip] for clip in part]
