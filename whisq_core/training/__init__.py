"""Fit and predict: one `RunSpec` and its clips in, a model and its learning curve out.

`fit`, `predict`, `save`, `load` and `seconds_per_step` are the doors; they import torch, and so does this package.
"""

from whisq_core.training.fit import Diverged, FitResult, TrainedModel, fit, load, predict, save, seconds_per_step
from whisq_core.training.step import EpochRecord

__all__ = ["Diverged", "EpochRecord", "FitResult", "TrainedModel", "fit", "load", "predict", "save", "seconds_per_step"]
