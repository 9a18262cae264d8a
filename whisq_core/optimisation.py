"""Devices, number formats, optimisers and clipping: how a gradient becomes a step."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

_FASTER = 1.5  # bf16 is chosen where its matrix product is measured at least this much faster
_AUTOCAST = {"bf16": torch.bfloat16, "float16": torch.float16}


def resolve_auto(train: TrainSpec) -> TrainSpec:
    """`train` with a concrete device and precision, as they belong to the identity of a run.

    Raises:
        InputError: when CUDA is asked for and there is none.
    """
    device = train.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise InputError("setting 'train.device': cuda, but PyTorch finds no CUDA device here. Use auto or cpu.")
    precision = train.precision
    if precision == "auto":
        # The paper trains with automatic mixed precision on CUDA; a CPU gains only where it has bf16 matrix units.
        precision = "float16" if device == "cuda" else "bf16" if _bf16_is_fast() else "float32"
    return train.model_copy(update={"device": device, "precision": precision})


@cache
def _bf16_is_fast() -> bool:
    """Whether this CPU multiplies bf16 matrices clearly faster than float32 ones: measured, some 20 ms."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        torch.mm(left, right)
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            torch.mm(left, right)
            runs.append(time.perf_counter() - start)
        seconds[dtype] = min(runs)
    return seconds[torch.float32] > _FASTER * seconds[torch.bfloat16]


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
    if train.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, train.learning_rate, train.momentum, weight_decay=train.weight_decay, nesterov=train.nesterov
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    return kind(parameters, train.learning_rate, weight_decay=train.weight_decay)
