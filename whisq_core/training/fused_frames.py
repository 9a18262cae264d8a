"""Frames and prompts of some clips brought together by `kernel`, on every thread of a run.

A batch's distinct prompts are projected and turned into rows, once; then every clip's frames meet their prompt's
rows. Each thread has clips of its own (`frame_worker`), so that no thread waits for another inside a clip.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core.features.store import Dataset
from whisq_core.model.multihead import Contexts, Rows
from whisq_core.model.whisq import WhisQ
from whisq_core.spec import RunSpec
from whisq_core.training import compiled
from whisq_core.training.compiled_worker import CompiledWorker
from whisq_core.training.frame_worker import FrameWorker
from whisq_core.training.optimisation import autocast
from whisq_core.training.text_side import Prompts, TextSide

PREDICTED_TOGETHER = 64  # clips
Part = np.ndarray
Worker = CompiledWorker | FrameWorker
_Result = TypeVar("_Result")


def can_fuse(spec: RunSpec, audio_dim: int) -> bool:
    """Whether frames of this size meet prompts as `kernel` does it; padded pieces and autograd do any run."""
    model = spec.model
    return (
        spec.train.device == "cpu"
        and spec.train.precision in ("float32", "bf16")
        and audio_dim == model.feature_dim
        and model.attention != "pooled_query"
        and model.pool == "mean"
        and not model.layer_norm
    )


class FusedFrames:
    """What a model makes of the frames of some clips."""

    def __init__(self, model: WhisQ, data: Dataset) -> None:
        self._model, self._data = model, data
        spec = model.spec
        self._audio_pooled = data.audio.pooled(spec.model.audio_frames)
        self._text_pooled = data.text.pooled("valid")
        valid = [data.text.frames(row)[: int(count)] for row, count in enumerate(data.text.num_valid)]
        self._tokens = torch.cat(valid).to(torch.bfloat16 if spec.train.precision == "bf16" else torch.float32)
        self._starts = np.concatenate([[0], np.cumsum(data.text.num_valid)])
        frames, rounded, threads = spec.model.audio_frames, spec.train.precision == "bf16", range(spec.train.threads)
        kind: type[Worker] = CompiledWorker if compiled.serves(data.audio.dim) else FrameWorker
        self.workers = [kind(data.audio, frames, spec.loss, rounded) for _ in threads]
        self._pool = ThreadPoolExecutor(len(threads), initializer=torch.set_num_threads, initargs=(1,))

    @torch.no_grad()
    def predict_ta(self) -> Float[Tensor, " clips"]:
        """TA of each clip."""
        count = len(self._data)
        predicted = torch.empty(count)
        for rows in np.array_split(np.arange(count), -(-count // PREDICTED_TOGETHER)):
            distinct, prompt_of = np.unique(self._data.prompt_of[rows], return_inverse=True)
            self.project(distinct, align=False)
            predicted[torch.from_numpy(rows)] = self.ta(self.meet(rows, prompt_of, keep=False), rows)
        return predicted

    def project(self, distinct: Int[np.ndarray, " prompts"], align: bool) -> tuple[Tensor, Rows, Prompts]:
        """The tokens of some prompts, projected, and the rows that frames meet: with a graph, and detached.

        With `align`, frames also meet the tokens themselves.
        """
        spans = [np.arange(self._starts[prompt], self._starts[prompt + 1]) for prompt in distinct]
        with autocast(self._model.spec.train):
            tokens = self._model.text_projection(self._tokens[torch.from_numpy(np.concatenate(spans))])
            met = self._model.attention.rows(tokens)
        tokens = tokens.float()
        values = tokens.detach()
        side = TextSide(
            values,
            values if align else None,
            _heads_first(met.to_text),
            _heads_first(met.to_text_constants),
            _heads_first(met.to_audio),
        )
        starts = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        prompts = Prompts(side, starts)
        for worker in self.workers:
            worker.begin(prompts)
        return tokens, met, prompts

    def meet(self, rows: Int[np.ndarray, " wave"], prompts: Int[np.ndarray, " wave"], keep: bool) -> Contexts:
        """What the clips' mean queries find among the projected prompts, as the start of a graph.

        Without `keep` the workers forget what a way back would need.
        """
        self.each(lambda worker, part: worker.forward(rows[part], prompts[part], keep), self.parts(len(rows)))
        return Contexts(
            _leaf([found for worker in self.workers for found in worker.found_in_text]),
            _leaf([found for worker in self.workers for found in worker.found_in_audio]),
        )

    def ta(self, contexts: Contexts, rows: Int[np.ndarray, " wave"]) -> Float[Tensor, " wave"]:
        """TA of some clips from what was found."""
        audio = self._audio_pooled[torch.from_numpy(rows)]
        text = self._model.text_projection(self._text_pooled[torch.from_numpy(self._data.prompt_of[rows])])
        return self._model.ta_head(self._model.attention.embed(contexts, audio, text)).squeeze(1)

    def parts(self, count: int) -> list[Part]:
        """Which of `count` clips each worker takes."""
        return np.array_split(np.arange(count), len(self.workers))

    def each(self, task: Callable[[Worker, Part], _Result], parts: Sequence[Part]) -> list[_Result]:
        """The task on every worker and its part, at the same time."""
        if len(self.workers) == 1:
            return [task(self.workers[0], parts[0])]
        return list(self._pool.map(task, self.workers, parts))


def _heads_first(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().transpose(0, 1).float().contiguous()


def _leaf(found: Sequence[Tensor | None]) -> Float[Tensor, "wave heads dim"] | None:
    arrays = [values for values in found if values is not None]
    return torch.stack(arrays).requires_grad_() if arrays else None
