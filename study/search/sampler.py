"""Samplers and pruners of a search: a proposal depends on its ticket's number, never on who runs it or when."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

_STARTUP_TRIALS = 5  # the median of fewer trials is noise
_WARMUP_SHARE = 0.1  # of the epochs: before, a small learning rate looks like a bad one


class TicketSampler(BaseSampler):
    """Makes its sampler anew for each trial, seeded with (base seed, trial number).

    A sampler that kept its own stream would propose the same trials again when a study is opened again, and others
    with another number of workers.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._sampler: BaseSampler = RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start the stream of this trial."""
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        self._sampler = _sampler(self._kind, seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are sampled together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the parameters that are sampled together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter, as long as too few trials are finished to relate them."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing is carried from one trial to the next."""


def _sampler(kind: str, seed: int) -> BaseSampler:
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "gp":
        return GPSampler(seed=seed, warn_independent_sampling=False)
    assert kind == "tpe", kind
    return TPESampler(seed=seed)


def make_pruner(kind: str, epochs: int) -> BasePruner:
    """The pruner named in the file, for trials of `epochs` epochs that report every few of them."""
    if kind == "hyperband":
        return HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs)
    if kind == "median":
        return MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=round(_WARMUP_SHARE * epochs))
    assert kind == "none", kind
    return NopPruner()
