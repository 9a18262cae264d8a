"""Fit and predict: one `RunSpec` and its clips in, a model and its learning curve out."""

import copy
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whisq_core.device import resolve_auto
from whisq_core.features import Dataset
from whisq_core.spec import RunSpec, TrainSpec
from whisq_core.training.saved import TrainedModel
from whisq_core.training.step import EpochRecord, Trainer, predict_clips, read_clips, task_loss


class Diverged(RuntimeError):
    """The loss is not finite any more."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True)
class FitResult:
    """The trained model and what every epoch recorded."""

    model: TrainedModel
    curve: list[EpochRecord]


def fit(
    spec: RunSpec,
    train: Dataset,
    watch: Dataset | None = None,
    inner: Dataset | None = None,
    on_epoch: Callable[[EpochRecord, Float[np.ndarray, "clips 2"] | None], None] = lambda record, predicted: None,
) -> FitResult:
    """Train the model of a run (Eqs. 8-10): bit-identical for the same spec and clips, whatever else runs here.

    Parameters
    ----------
    spec
        Every setting of the run; `auto` values are resolved for this machine.
    train
        The clips to train on, all of them with labels.
    watch
        Clips that are predicted after every epoch, for `on_epoch`.
    inner
        What `train.patience` watches, and given with it alone: the epoch of the lowest task loss on it is kept.
    on_epoch
        Called after every epoch with its record and the predictions on `watch`; it may raise to stop.

    Raises
    ------
    Diverged
        When the loss is not finite, at the end of that epoch.
    InputError
        When the device is not there.
    """
    assert (inner is None) == (spec.train.patience is None), "patience watches an inner split, and nothing else does"
    assert np.isfinite(train.omq).all(), "every clip to train on has an OMQ label"
    assert np.isfinite(train.ta).all(), "every clip to train on has a TA label"
    spec = spec.model_copy(update={"train": resolve_auto(spec.train)})
    with computing(spec.train):
        run = Trainer(spec, train)
        model = TrainedModel(run.model, spec)
        predict_watched = None if watch is None else _predictor(model, watch)
        patience = None if inner is None else _Patience(model, inner)
        curve = []
        for epoch in range(1, spec.train.epochs + 1):
            curve.append(run.epoch(epoch))
            if not math.isfinite(curve[-1].loss):
                raise Diverged(epoch)
            on_epoch(curve[-1], None if predict_watched is None else predict_watched())
            if patience is not None and patience.exhausted():
                break
        if patience is not None:
            patience.restore_best()
    return FitResult(model, curve)


def seconds_per_step(spec: RunSpec, data: Dataset) -> float:
    """Seconds of one step of a resolved run on this machine, measured: the fastest of a few epochs on these clips."""
    with computing(spec.train):
        run = Trainer(spec, data)
        seconds = min(run.epoch(epoch).seconds for epoch in range(1, 6))  # the first ones compile and capture
    return seconds / -(-len(data) // spec.train.batch_size)


def predict(model: TrainedModel, data: Dataset) -> Float[np.ndarray, "clips 2"]:
    """Predicted OMQ and TA of each clip; a clip's numbers do not depend on which others are predicted with it.

    Parameters
    ----------
    model
        What `fit` or `load` returned.
    data
        The clips; labels are not looked at.

    Returns
    -------
    float64 array [clips, 2]
        OMQ and TA on the scale of the ratings, not clipped.
    """
    with computing(model.spec.train):
        return _predictor(model, data)()


@contextmanager
def computing(train: TrainSpec) -> Iterator[None]:
    """Inside, PyTorch computes as a resolved `train` says; what it was told before is put back.

    Threads are part of a run: the order of float32 sums depends on them. On CUDA float32 products are not rounded to
    TF32, and with `train.deterministic` operations that are not bit-identical from run to run are avoided or refused.
    """
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    memory: Any = torch.utils.deterministic
    strict, fills = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    torch.set_num_threads(train.threads)
    if train.device == "cuda":
        torch.set_float32_matmul_precision("highest")
        if train.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when its library is first used
            torch.set_deterministic_debug_mode("error")
            memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if train.device == "cuda":
            torch.set_float32_matmul_precision(products)
            torch.set_deterministic_debug_mode(strict)
            memory.fill_uninitialized_memory = fills


def _predictor(model: TrainedModel, data: Dataset) -> Callable[[], Float[np.ndarray, "clips 2"]]:
    """What predicts these clips with the weights of the moment; features are read once."""
    clips = read_clips(data, model.spec, model.spec.model.needs_frames)
    return lambda: predict_clips(model.network, clips, model.spec.train)


class _Patience:
    """Stops when the task loss on an inner split has not fallen for `train.patience` epochs."""

    def __init__(self, model: TrainedModel, inner: Dataset) -> None:
        self._model, self._predict = model, _predictor(model, inner)
        self._truth = torch.from_numpy(np.stack([inner.omq, inner.ta], axis=1))
        self._best, self._waited = math.inf, 0
        self._weights: dict[str, Tensor] | None = None

    def exhausted(self) -> bool:
        """Look at the inner split after an epoch: whether it was one too many."""
        predicted, loss, size = torch.from_numpy(self._predict()), self._model.spec.loss, len(self._truth)
        value = sum(float(task_loss(predicted[:, head], self._truth[:, head], loss, size)) for head in (0, 1)) / 2
        if value < self._best:
            self._best, self._waited = value, 0
            self._weights = copy.deepcopy(self._model.network.state_dict())
        else:
            self._waited += 1
        patience = self._model.spec.train.patience
        assert patience is not None
        return self._waited >= patience

    def restore_best(self) -> None:
        """Go back to the best epoch's weights."""
        if self._weights is not None:
            self._model.network.load_state_dict(self._weights)
