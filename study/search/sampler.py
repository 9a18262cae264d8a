"""Samplers and pruners of a search."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler, RandomSampler, TPESampler

_STARTUP_TRIALS = 5  # the median of fewer trials is noise
_WARMUP_SHARE = 0.1  # of the epochs: before, a small learning rate looks like a bad one


def make_sampler(kind: str, seed: int, position: int) -> BaseSampler:
    """The sampler of one trial, which `position` trials precede.

    Each trial has one of its own: a sampler that kept its stream would propose the same trials again when a study is
    opened again. TPE takes running trials for bad ones (constant liar), so that parallel trials keep apart.
    """
    own = int(np.random.SeedSequence([seed, position]).generate_state(1)[0])
    if kind == "random":
        return RandomSampler(seed=own)
    if kind == "gp":
        return GPSampler(seed=own, warn_independent_sampling=False)
    assert kind == "tpe", kind
    return TPESampler(seed=own, constant_liar=True)


def fixed_sampler(params: Mapping[str, Any]) -> BaseSampler:
    """Proposes just these parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PartialFixedSampler(dict(params), RandomSampler())


def make_pruner(kind: str, epochs: int) -> BasePruner:
    """The pruner named in the file, for trials of `epochs` epochs that report every few of them.

    Hyperband sorts trials by number, and an interrupted trial keeps its number: only there does a search that was
    interrupted prune others than one that was not.
    """
    if kind == "hyperband":
        return HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs)
    if kind == "median":
        return MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=round(_WARMUP_SHARE * epochs))
    assert kind == "none", kind
    return NopPruner()
