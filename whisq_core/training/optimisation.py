"""Threads, number formats and clipping: how a gradient becomes a step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from whisq_core.spec import TrainSpec
from whisq_core.training.optimizer import Optimizer

_AUTOCAST = {"bf16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Run with this many threads, which is part of a run: the order of float32 sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(train: TrainSpec) -> torch.autocast:
    """The automatic mixed precision of a resolved `train`; does nothing in float32."""
    dtype = _AUTOCAST.get(train.precision)
    return torch.autocast(train.device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@dataclass(frozen=True)
class GradientNorms:
    """Before clipping."""

    omq: float
    ta: float


class Updater:
    """Scales the loss where float16 needs it, clips, and steps.

    `omq` are the parameters of the OMQ head, `ta` all others. Clipped each on its own (`per_head`), neither can
    change the other's update.
    """

    def __init__(self, omq: Sequence[nn.Parameter], ta: Sequence[nn.Parameter], train: TrainSpec) -> None:
        self._groups = (list(omq), list(ta))
        self._train = train
        self._optimizer = Optimizer([*omq, *ta], train)
        self._scaler = torch.amp.GradScaler(train.device, enabled=train.precision == "float16")

    def scale(self, loss: Tensor) -> Tensor:
        """The loss whose gradient is to be accumulated."""
        return self._scaler.scale(loss)

    def step(self) -> GradientNorms:
        """Apply the accumulated gradients, then forget them."""
        scaled = cast(torch.optim.Optimizer, self._optimizer)
        self._scaler.unscale_(scaled)
        norms = [nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]) for group in self._groups]
        clipped = {
            "per_head": list(zip(self._groups, norms, strict=True)),
            "global": [([*self._groups[0], *self._groups[1]], torch.stack(norms).norm())],
            "none": [],
        }[self._train.clip_scope]
        for group, norm in clipped:
            nn.utils.clip_grads_with_norm_(group, self._train.clip_norm, norm)
        self._scaler.step(scaled)
        self._scaler.update()
        self._optimizer.zero_grad()
        return GradientNorms(float(norms[0]), float(norms[1]))
