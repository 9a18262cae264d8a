"""PyTorch's SGD, Adam and AdamW by their functional forms, in one pass over all parameters (`fused`).

Making one of the classes of `torch.optim` imports PyTorch's compiler, which nothing here uses: 2 seconds of every
process, 8 of the first one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from whisq_core.spec import TrainSpec

_SECOND_BETA, _EPS = 0.999, 1e-8  # PyTorch's defaults, which the paper does not mention


class Optimizer:
    """Moves parameters that have a gradient, as `train` says; `train.momentum` is Adam's beta 1.

    `param_groups` and `step` are what `torch.amp.GradScaler` asks of an optimiser.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], train: TrainSpec) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters)}]
        self._train = train
        # Momentum that starts at zero is the first gradient after the first step, as in torch.optim.SGD.
        self._means = {parameter: torch.zeros_like(parameter) for parameter in parameters}
        self._squares = {} if train.optimizer == "sgd" else {p: torch.zeros_like(p) for p in parameters}
        self._steps = {p: torch.zeros((), device=p.device) for p in self._squares}

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients."""
        moved = [parameter for parameter in self.param_groups[0]["params"] if parameter.grad is not None]
        gradients = [parameter.grad for parameter in moved]
        means = [self._means[parameter] for parameter in moved]
        if self._train.optimizer == "sgd":
            self._sgd(moved, gradients, means)
        else:
            self._adam(moved, gradients, means)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def _sgd(self, moved: list[nn.Parameter], gradients: list[Tensor], means: list[Tensor]) -> None:
        sgd(
            list(moved),
            gradients,
            list(means),
            fused=True,
            weight_decay=self._train.weight_decay,
            momentum=self._train.momentum,
            lr=self._train.learning_rate,
            dampening=0,
            nesterov=self._train.nesterov,
            maximize=False,
        )

    def _adam(self, moved: list[nn.Parameter], gradients: list[Tensor], means: list[Tensor]) -> None:
        adam(
            list(moved),
            gradients,
            means,
            [self._squares[parameter] for parameter in moved],
            [],
            [self._steps[parameter] for parameter in moved],
            fused=True,
            decoupled_weight_decay=self._train.optimizer == "adamw",
            amsgrad=False,
            beta1=self._train.momentum,
            beta2=_SECOND_BETA,
            lr=self._train.learning_rate,
            weight_decay=self._train.weight_decay,
            eps=_EPS,
            maximize=False,
        )
