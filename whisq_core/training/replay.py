"""One step again and again without its Python: a CUDA graph for each shape of a batch, captured once and replayed.

A step is some four hundred small kernels, which a GPU runs faster than Python launches them. A replayed step does the
same operations on the same addresses, so that it gives the same numbers as an eager one. That asks of a step that it
reads its clips from one array, keeps whatever it changes in place, and asks the device nothing.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from whisq_core.errors import InputError

SWITCH = "WHISQ_GRAPH"  # an environment variable: "off" runs every step eagerly


class Replay:
    """A step with memory: eager for the first batch of a shape, captured with the second, replayed from then on.

    `step(clips, flag)` for a batch with or without what `flag` asks for. Where `captures` is false (anywhere but on
    CUDA) every batch is eager, through the same array. `generators` are those that the step draws from.
    """

    def __init__(
        self, step: Callable[[Tensor, bool], None], captures: bool, generators: Callable[[], Iterable[torch.Generator]]
    ) -> None:
        self._step, self._captures, self._generators = step, captures, generators
        self._clips: dict[tuple[int, bool], Tensor] = {}
        self._graphs: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # memory that all graphs share: one runs at a time

    def __call__(self, clips: Int[Tensor, " batch"], flag: bool) -> None:
        """One step on these clips."""
        shape = len(clips), flag
        is_new = shape not in self._clips
        if is_new:
            self._clips[shape] = torch.empty_like(clips)
        self._clips[shape].copy_(clips)
        if is_new or not self._captures:
            self._step(self._clips[shape], flag)
            return
        if shape not in self._graphs:
            self._graphs[shape] = self._captured(shape)
        self._graphs[shape].replay()

    def _captured(self, shape: tuple[int, bool]) -> torch.cuda.CUDAGraph:
        """The graph of a step that has run before: what it makes on its first run (libraries, scales) is there."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators():
            graph.register_generator_state(generator)
        try:
            # The reading thread of streamed frames goes on meanwhile, hence "thread_local".
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._step(self._clips[shape], shape[1])
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise InputError(
                f"this GPU cannot capture a training step as a CUDA graph ({reason}). Set {SWITCH}=off in the "
                "environment: every step is then launched by itself, with the same numbers, and takes longer."
            ) from error
        self._pool = graph.pool()
        return graph


@torch.no_grad()
def snapshot(tensors: Iterable[Tensor], generators: Iterable[torch.Generator]) -> Callable[[], None]:
    """Keep these as they are; what is returned puts them back in place."""
    kept = [(tensor, tensor.clone()) for tensor in tensors]
    states = [(generator, generator.get_state()) for generator in generators]

    @torch.no_grad()
    def restore() -> None:
        for tensor, values in kept:
            tensor.copy_(values)
        for generator, state in states:
            generator.set_state(state)

    return restore


def wanted() -> bool:
    """Whether the environment allows graphs."""
    return os.environ.get(SWITCH, "") != "off"
