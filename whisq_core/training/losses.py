"""The task loss of one head (Eq. 9), and the terms that a step reports."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from whisq_core.spec import LossSpec


@dataclass(frozen=True)
class TaTerms:
    """A batch's TA loss, and its OT term with its weight; `share` where it was asked for."""

    ta: float
    ot: float
    share: float | None


def task_loss(
    predicted: Float[Tensor, " batch"], truth: Float[Tensor, " batch"], loss: LossSpec, whole: int
) -> Float[Tensor, ""]:
    """One head's loss over a part of a batch of `whole` clips; the parts add up to the batch's loss."""
    if loss.task == "huber":
        values = functional.huber_loss(predicted, truth, reduction="sum", delta=loss.huber_delta)
    elif loss.task == "l1":
        values = functional.l1_loss(predicted, truth, reduction="sum")
    else:
        values = functional.mse_loss(predicted, truth, reduction="sum")
    return values / whole if loss.reduction == "mean" else values


def gradient_share(ot: Sequence[Tensor], task: Sequence[Tensor]) -> float:
    """The norm of the OT term's gradient relative to the task's."""
    return float(torch.nn.utils.get_total_norm(list(ot)) / torch.nn.utils.get_total_norm(list(task)))
