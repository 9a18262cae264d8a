"""Fit and predict (Eqs. 8-10): one `RunSpec` and its clips in, a model and its learning curve out."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whisq_core.device import resolve_auto
from whisq_core.features.store import Dataset
from whisq_core.model.batches import Loader
from whisq_core.model.whisq import WhisQ, stream
from whisq_core.spec import RunSpec
from whisq_core.training.fused_frames import FusedFrames, can_fuse
from whisq_core.training.fused_step import FusedStep
from whisq_core.training.losses import task_loss
from whisq_core.training.optimisation import Updater, autocast, num_threads
from whisq_core.training.plain_step import PIECE, PlainStep


class Diverged(RuntimeError):
    """The loss is not finite any more."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


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


@dataclass(frozen=True)
class FitResult:
    """The trained model and what every epoch recorded."""

    model: WhisQ
    curve: list[EpochRecord]


@dataclass(frozen=True)
class _Terms:
    """One step's share of an `EpochRecord`."""

    clips: int
    huber_omq: float
    huber_ta: float
    ot: float
    gradient_norm_omq: float
    gradient_norm_ta: float


def fit(
    spec: RunSpec,
    train: Dataset,
    watch: Dataset | None = None,
    inner: Dataset | None = None,
    on_epoch: Callable[[EpochRecord, Float[np.ndarray, "clips 2"] | None], None] = lambda record, predicted: None,
) -> FitResult:
    """Train on `train`; same spec and clips, same bits, whatever else runs on the machine.

    `on_epoch` gets every record, with the predictions on `watch` where that is given; it may raise to stop.
    `inner` is what `train.patience` watches: the epoch with the lowest task loss on it is kept.

    Raises:
        Diverged: when the loss is not finite.
        InputError: when the device is not there.
    """
    assert (inner is None) == (spec.train.patience is None), "patience watches an inner split, and nothing else does"
    assert np.isfinite(train.omq).all(), "every clip to train on has an OMQ label"
    assert np.isfinite(train.ta).all(), "every clip to train on has a TA label"
    spec = spec.model_copy(update={"train": resolve_auto(spec.train)})
    with num_threads(spec.train.threads):
        run = Trainer(spec, train)
        patience = _Patience(run.model, inner)
        curve = []
        for epoch in range(1, spec.train.epochs + 1):
            curve.append(run.epoch(epoch))
            on_epoch(curve[-1], None if watch is None else predict(run.model, watch))
            if patience.exhausted():
                break
        patience.restore_best()
    return FitResult(run.model, curve)


@torch.no_grad()
def predict(model: WhisQ, data: Dataset) -> Float[np.ndarray, "clips 2"]:
    """Predicted OMQ and TA of each clip. A clip's numbers do not depend on which others are predicted with it."""
    spec = model.spec
    model.eval()
    loader = Loader(data, spec.model.audio_frames, next(model.parameters()).device)
    pieces = np.array_split(np.arange(len(data)), max(1, math.ceil(len(data) / PIECE[spec.train.device])))
    predicted = np.empty((len(data), 2))
    with num_threads(spec.train.threads):
        if spec.model.needs_frames and can_fuse(spec, data.audio.dim):
            predicted[:, 1] = FusedFrames(model, data).predict_ta().double().numpy()
        else:
            for clips, batch in zip(pieces, loader.batches(pieces, spec.model.needs_frames), strict=True):
                with autocast(spec.train):
                    predicted[clips, 1] = model.ta(*model.sides(batch)).double().cpu().numpy()
        for clips in pieces:  # cut alike in every row of a table: OMQ is then the same to the bit
            with autocast(spec.train):
                audio_pooled = loader.batch(clips, with_sequences=False).audio_pooled
                predicted[clips, 0] = model.omq(audio_pooled).double().cpu().numpy()
    return predicted


def save(folder: Path, model: WhisQ) -> None:
    """Write `model.safetensors`, `spec.json` and, last, `sizes.json`: a folder without it is not whole."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "spec.json").write_text(model.spec.model_dump_json(indent=1) + "\n", encoding="utf-8")
    sizes = {"audio_dim": model.audio_dim, "text_dim": model.text_dim}
    (folder / "sizes.json").write_text(json.dumps(sizes) + "\n", encoding="utf-8")


def load(folder: Path) -> WhisQ:
    """The model that `save` wrote, on the CPU."""
    from safetensors.torch import load_file

    sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    spec = RunSpec.model_validate_json((folder / "spec.json").read_text(encoding="utf-8"))
    model = WhisQ(spec, sizes["audio_dim"], sizes["text_dim"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


class Trainer:
    """The state of one training, of a resolved spec: the model, its optimiser and the stream of its batches."""

    def __init__(self, spec: RunSpec, data: Dataset) -> None:
        self.spec, self.data = spec, data
        self.device = torch.device(spec.train.device)
        self.model = WhisQ(spec, data.audio.dim, data.text.dim).to(self.device)
        omq = list(self.model.omq_head.parameters())
        heads = {id(parameter) for parameter in omq}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in heads]
        self.updater = Updater(omq, rest, spec.train)
        self.order = stream(spec.seed, "batch order")
        self.loader = Loader(data, spec.model.audio_frames, self.device)
        self.truth = torch.from_numpy(np.stack([data.omq, data.ta])).float().to(self.device)
        self.ta_step: FusedStep | PlainStep
        if spec.needs_frames and can_fuse(spec, data.audio.dim) and (spec.loss.p == 2 or spec.loss.ot_weight == 0):
            self.ta_step = FusedStep(self.model, data, self.truth[1])
        else:
            self.ta_step = PlainStep(self.model, data, self.truth[1], self.updater)

    def epoch(self, epoch: int) -> EpochRecord:
        """Every clip once, in a new order; the last, smaller batch is kept."""
        start = time.perf_counter()
        self.model.train()
        order = torch.randperm(len(self.data), generator=self.order)
        share, terms = 0.0, list[_Terms]()
        for clips in torch.split(order, self.spec.train.batch_size):
            omq = self._omq_step(clips)
            ta = self.ta_step.accumulate(clips, with_share=not terms and self.spec.loss.ot_weight > 0)
            share = share if ta.share is None else ta.share
            norms = self.updater.step()
            terms.append(_Terms(len(clips), omq, ta.ta, ta.ot, norms.omq, norms.ta))
            if not math.isfinite(omq + ta.ta + ta.ot):
                raise Diverged(epoch)
        weights = np.array([term.clips for term in terms])
        means = {
            name: float(np.average([getattr(term, name) for term in terms], weights=weights))
            for name in ("huber_omq", "huber_ta", "ot", "gradient_norm_omq", "gradient_norm_ta")
        }
        loss = (means["huber_omq"] + means["huber_ta"]) / 2 + means["ot"]
        seconds = time.perf_counter() - start
        return EpochRecord(epoch=epoch, loss=loss, ot_gradient_share=share, seconds=seconds, **means)

    def _omq_step(self, clips: Int[Tensor, " batch"]) -> float:
        """On the whole batch's stored pooled audio: the same operations in every row of a table."""
        with autocast(self.spec.train):
            predicted = self.model.omq(self.loader.batch(clips.numpy(), with_sequences=False).audio_pooled)
        loss = task_loss(predicted.float(), self.truth[0, clips], self.spec.loss, len(clips))
        torch.autograd.backward(self.updater.scale(loss / 2))
        return float(loss.detach())


class _Patience:
    """Stops when the task loss on an inner split has not fallen for `train.patience` epochs."""

    def __init__(self, model: WhisQ, inner: Dataset | None) -> None:
        self._model, self._inner = model, inner
        self._best, self._waited = math.inf, 0
        self._weights: dict[str, Tensor] | None = None

    def exhausted(self) -> bool:
        """Look at the inner split after an epoch: whether it was one too many."""
        if self._inner is None:
            return False
        predicted = torch.from_numpy(predict(self._model, self._inner))
        truth = torch.from_numpy(np.stack([self._inner.omq, self._inner.ta], axis=1))
        loss, size = self._model.spec.loss, len(self._inner)
        value = sum(float(task_loss(predicted[:, head], truth[:, head], loss, size)) for head in (0, 1)) / 2
        if value < self._best:
            self._best, self._waited = value, 0
            self._weights = copy.deepcopy(self._model.state_dict())
        else:
            self._waited += 1
        patience = self._model.spec.train.patience
        assert patience is not None
        return self._waited >= patience

    def restore_best(self) -> None:
        """Go back to the best epoch's weights."""
        if self._weights is not None:
            self._model.load_state_dict(self._weights)
