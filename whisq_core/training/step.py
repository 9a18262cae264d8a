"""One training step (Eqs. 8-10), written once: which form of `interact` serves is the batch's own affair.

Nothing here asks the device for a number: what an epoch records is summed on the device and read at its end. On CUDA a
step is captured once and replayed (`replay`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from whisq_core import kernels
from whisq_core.features import Dataset
from whisq_core.model import Dropout, WhisQ, stream
from whisq_core.plugins import is_plugin
from whisq_core.spec import LossSpec, RunSpec, TrainSpec
from whisq_core.training import cpu, replay
from whisq_core.training.clips import Clips

_AUTOCAST = {"bf16": torch.bfloat16, "float16": torch.float16}
_SECOND_BETA, _EPS = 0.999, 1e-8  # PyTorch's defaults, which the paper does not mention


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1: means over its batches, weighted by their clips.

    `loss` = (huber_omq + huber_ta) / 2 + ot, each as it enters the loss. `ot` is ot_weight x the mean divergence
    without its constant audio term (see `alignment`). `ot_gradient_share` is the norm of the OT term's gradient on
    the text projection, relative to that of the task, in the epoch's first batch.
    Gradient norms are those before clipping.
    """

    epoch: int
    loss: float
    huber_omq: float
    huber_ta: float
    ot: float
    ot_gradient_share: float
    gradient_norm_omq: float
    gradient_norm_ta: float
    seconds: float


def read_clips(data: Dataset, spec: RunSpec, with_frames: bool) -> Clips | cpu.RaggedClips:
    """The clips where a resolved run computes: by the compiled kernels where they serve, else by the reference form."""
    if with_frames and kernels.serve(spec, data.audio.dim):
        return cpu.RaggedClips(data, spec)
    return Clips(data, spec, torch.device(spec.train.device), with_frames)


def autocast(train: TrainSpec) -> torch.autocast:
    """The automatic mixed precision of a resolved `train`; does nothing in float32."""
    dtype = _AUTOCAST.get(train.precision)
    return torch.autocast(train.device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def task_loss(
    predicted: Float[Tensor, " batch"], truth: Float[Tensor, " batch"], loss: LossSpec, whole: int
) -> Float[Tensor, ""]:
    """One head's loss (Eq. 9) over a part of a batch of `whole` clips; the parts add up to the batch's loss."""
    if loss.task == "huber":
        values = functional.huber_loss(predicted, truth, reduction="sum", delta=loss.huber_delta)
    elif loss.task == "l1":
        values = functional.l1_loss(predicted, truth, reduction="sum")
    else:
        values = functional.mse_loss(predicted, truth, reduction="sum")
    return values / whole if loss.reduction == "mean" else values


class Trainer:
    """The state of one training, of a resolved spec: the model, its optimiser and the stream of its batches."""

    def __init__(self, spec: RunSpec, data: Dataset) -> None:
        self.spec = spec
        device = torch.device(spec.train.device)
        self.model = WhisQ(spec.model, data.audio.dim, data.text.dim, spec.seed).to(device)
        omq = list(self.model.omq_head.parameters())
        heads = {id(parameter) for parameter in omq}
        self._updater = Updater(omq, [p for p in self.model.parameters() if id(p) not in heads], spec.train)
        self._projection = list(self.model.text_projection.parameters())
        self._order = stream(spec.seed, "batch order")
        self._clips = read_clips(data, spec, spec.needs_frames)
        self._truth = torch.from_numpy(np.stack([data.omq, data.ta])).float().to(device)
        self._totals, self._ot_share = torch.zeros(5, device=device), torch.zeros((), device=device)
        self._step: Callable[[Tensor, bool], None] = self._one_step
        if isinstance(self._clips, Clips):
            foreign = is_plugin(spec.model.attention) or is_plugin(spec.loss.alignment)  # may ask the device
            captures = device.type == "cuda" and replay.wanted() and not foreign
            self._step = replay.Replay(self._one_step, captures, self._streams)
            if device.type != "cpu" and self.model.audio_projection is not None and spec.loss.ot_weight > 0:
                self.suppose_frames_apart()

    def suppose_frames_apart(self) -> None:
        """Count clips with frames that may be near each other (`alignment`): any makes the epoch go again, asking."""
        assert isinstance(self._clips, Clips)
        self._clips.near = torch.zeros((), dtype=torch.long, device=self._truth.device)

    def epoch(self, epoch: int) -> EpochRecord:
        """Every clip once, in a new order; the last, smaller batch is kept."""
        start = time.perf_counter()
        supposed = self._clips.near if isinstance(self._clips, Clips) else None
        before = supposed is not None and replay.snapshot(self._updater.changing(), [self._order, *self._streams()])
        self.steps()
        if supposed is not None and before and int(supposed):
            before()
            self._clips.near, self._step = None, self._one_step  # type: ignore[union-attr]
            self.steps()
        huber_omq, huber_ta, ot, norm_omq, norm_ta, share = torch.cat([self._totals, self._ot_share.view(1)]).tolist()
        loss, seconds = (huber_omq + huber_ta) / 2 + ot, time.perf_counter() - start
        return EpochRecord(epoch, loss, huber_omq, huber_ta, ot, share, norm_omq, norm_ta, seconds)

    def steps(self) -> None:
        """The steps of an epoch, without a question to the device."""
        self.model.train()
        self._totals.zero_()
        order = torch.randperm(len(self._clips), generator=self._order)
        for number, clips in enumerate(self._clips.batches(order, self.spec.train.batch_size)):
            self._step(clips, number == 0 and self.spec.loss.ot_weight > 0)
        self._totals /= len(order)

    def _one_step(self, clips: Int[Tensor, " batch"], with_share: bool) -> None:
        """One batch; what an epoch records is added to the totals."""
        omq = self._omq_step(clips)
        ta, ot, of_ot = self._ta_step(clips, with_share)
        if of_ot:
            of_task = [p.grad - part for p, part in zip(self._projection, of_ot, strict=True) if p.grad is not None]
            self._ot_share.copy_(torch.nn.utils.get_total_norm(of_ot) / torch.nn.utils.get_total_norm(of_task))
        norms = self._updater.step()
        self._totals += len(clips) * torch.cat([torch.stack([omq, ta, ot]), norms])

    def _streams(self) -> list[torch.Generator]:
        """What dropout draws from."""
        return [each.generator for each in self.model.modules() if isinstance(each, Dropout) and each.probability > 0]

    def _omq_step(self, clips: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """On the whole batch's stored pooled audio: the same operations in every row of a table."""
        predicted = self.model.omq(self._clips.audio_pooled[clips])
        loss = task_loss(predicted, self._truth[0, clips], self.spec.loss, len(clips))
        torch.autograd.backward(self._updater.scale(loss / 2))
        return loss.detach()

    def _ta_step(
        self, clips: Int[Tensor, " batch"], with_share: bool
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], list[Tensor]]:
        """Add the gradients of these clips' TA loss (halved, Eq. 9) and OT term to the parameters'.

        Returns both terms and, where asked for, the OT term's gradients on the text projection.
        """
        loss, whole = self.spec.loss, len(clips)
        total_ta, total_ot = torch.zeros((2,), device=clips.device)
        of_ot: list[Tensor] = []
        for part in torch.split(clips, self._clips.micro_batch):
            with autocast(self.spec.train):
                result = self.model.ta(self._clips.batch(part), loss)
            ta = task_loss(result.ta, self._truth[1, part], loss, whole)
            ot = torch.zeros_like(ta) if result.divergence is None else loss.ot_weight / whole * result.divergence.sum()
            points = result.points if with_share else None
            if points is not None:
                points.retain_grad()
            torch.autograd.backward(self._updater.scale(ta / 2 + ot), retain_graph=with_share)
            total_ta, total_ot = total_ta + ta.detach(), total_ot + ot.detach()
            if points is not None:
                parts = torch.autograd.grad(points, self._projection, points.grad)
                of_ot = [a + b for a, b in zip(of_ot, parts, strict=True)] if of_ot else list(parts)
        return total_ta, total_ot, of_ot


@torch.no_grad()
def predict_clips(model: WhisQ, clips: Clips | cpu.RaggedClips, train: TrainSpec) -> Float[np.ndarray, "clips 2"]:
    """Predicted OMQ and TA of each clip."""
    model.eval()
    with autocast(train):
        parts = clips.batches(torch.arange(len(clips)), clips.micro_batch)
        ta = torch.cat([model.ta(clips.batch(part)).ta for part in parts])
    return torch.stack([model.omq(clips.audio_pooled), ta], dim=1).cpu().double().numpy()


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
        self._scaler.scale(torch.zeros((), device=next(iter([*omq, *ta])).device))  # else made in the first step

    def changing(self) -> list[Tensor]:
        """All that a step changes, in place."""
        scales = [self._scaler._scale, self._scaler._growth_tracker] if self._scaler.is_enabled() else []
        return [*self._optimizer.changing(), *(scale for scale in scales if scale is not None)]

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

    By the functional forms of PyTorch's SGD, Adam and AdamW, in one pass over all parameters (`fused`): making one of
    the classes of `torch.optim` imports PyTorch's compiler, which nothing here uses, 2 seconds of every process.
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

    def changing(self) -> list[Tensor]:
        """All that a step changes, in place."""
        return [*self._means, *self._means.values(), *self._squares.values(), *self._steps.values()]

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
            momentum: dict[str, Any] = {"momentum": train.momentum, "dampening": 0, "nesterov": train.nesterov}
            sgd(list(moved), gradients, list(means), **momentum, **shared)
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
