"""Threads, number formats, optimisers and clipping: how a gradient becomes a step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whisq_core.spec import TrainSpec

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
        self._optimizer = _optimizer([*omq, *ta], train)
        self._scaler = torch.amp.GradScaler(train.device, enabled=train.precision == "float16")

    def scale(self, loss: Tensor) -> Tensor:
        """The loss whose gradient is to be accumulated."""
        return self._scaler.scale(loss)

    def step(self) -> GradientNorms:
        """Apply the accumulated gradients, then forget them."""
        self._scaler.unscale_(self._optimizer)
        norms = [nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]) for group in self._groups]
        clipped = {
            "per_head": list(zip(self._groups, norms, strict=True)),
            "global": [([*self._groups[0], *self._groups[1]], torch.stack(norms).norm())],
            "none": [],
        }[self._train.clip_scope]
        for group, norm in clipped:
            nn.utils.clip_grads_with_norm_(group, self._train.clip_norm, norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return GradientNorms(float(norms[0]), float(norms[1]))


def _optimizer(parameters: list[nn.Parameter], train: TrainSpec) -> torch.optim.Optimizer:
    """All parameters are updated in one pass (`fused`), which takes Adam a quarter of the time."""
    if train.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            train.learning_rate,
            train.momentum,
            weight_decay=train.weight_decay,
            nesterov=train.nesterov,
            fused=True,
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    betas = train.momentum, 0.999
    return kind(parameters, train.learning_rate, betas=betas, weight_decay=train.weight_decay, fused=True)
