"""Fit and predict: one `RunSpec` and its clips in, a model and its learning curve out.

`fit`, `predict`, `save`, `load` and `seconds_per_step` are the doors; they import torch, and so does this package.
"""

from whisq_core.training.fit import Diverged, FitResult, fit, predict, seconds_per_step
from whisq_core.training.saved import WEIGHTS, TrainedModel, load, read_config, save
from whisq_core.training.step import EpochRecord

__all__ = [
    "WEIGHTS",
    "Diverged",
    "EpochRecord",
    "FitResult",
    "TrainedModel",
    "fit",
    "load",
    "predict",
    "read_config",
    "save",
    "seconds_per_step",
]
