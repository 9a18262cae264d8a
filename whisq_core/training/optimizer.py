"""How a gradient becomes a step: clipping, and PyTorch's SGD, Adam and AdamW by their functional forms.

Making one of the classes of `torch.optim` imports PyTorch's compiler, which nothing here uses: 2 seconds of every
process, 8 of the first one. The functional forms go over all parameters in one pass (`fused`) without it.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from whisq_core.spec import TrainSpec

_SECOND_BETA, _EPS = 0.999, 1e-8  # PyTorch's defaults, which the paper does not mention


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

    def step(self) -> Float[Tensor, "2"]:
        """Apply the accumulated gradients, then forget them; returns both groups' norms before clipping."""
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
        return torch.stack(norms)


class Optimizer:
    """Moves parameters that have a gradient, as `train` says; `train.momentum` is Adam's beta 1.

    `param_groups`, `step` and the two attributes below are what `torch.amp.GradScaler` asks of an optimiser: it then
    leaves it to the fused forms to skip a step whose gradients overflowed, and never asks the device.
    """

    _step_supports_amp_scaling = True
    found_inf: Tensor | None = None

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
        train = self._train
        shared: dict[str, Any] = {
            "fused": True,
            "found_inf": self.found_inf,
            "weight_decay": train.weight_decay,
            "lr": train.learning_rate,
            "maximize": False,
        }
        if train.optimizer == "sgd":
            sgd(moved, gradients, means, momentum=train.momentum, dampening=0, nesterov=train.nesterov, **shared)
            return
        adam(
            moved,
            gradients,
            means,
            [self._squares[parameter] for parameter in moved],
            [],
            [self._steps[parameter] for parameter in moved],
            decoupled_weight_decay=train.optimizer == "adamw",
            amsgrad=False,
            beta1=train.momentum,
            beta2=_SECOND_BETA,
            eps=_EPS,
            **shared,
        )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None
