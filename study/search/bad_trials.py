"""Trials that cannot be finished: why, what would fit, and when there are too many of them."""

from collections.abc import Collection

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import Search
from study.engine.failures import failure_reason, is_out_of_memory
from study.search.study import settings_of
from whisq_core.spec import RunSpec

MAX_FAILURES = 10  # in a row: the next would fail for the same reason


def failure(error: Exception, trial: optuna.Trial, study: optuna.Study, search: Search, spec: RunSpec) -> str:
    """Why a trial failed, in one line; out of memory with a batch size that would fit."""
    if not is_out_of_memory(error):
        return failure_reason(error)
    batch = _batch_size(trial, search, spec)
    if batch == 1:
        return "out of memory with train.batch_size 1: no batch fits. Search a smaller model, or use fewer --workers"
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    fitted = {_batch_size(other, search, spec) for other in finished if other.params}
    smaller = [size for size in fitted if size < batch]
    advice = f"{max(smaller)} has fitted in this study" if smaller else f"try {batch // 2} (half of it) or less"
    return f"out of memory with train.batch_size {batch}: {advice}; or use fewer --workers"


def too_many_failures(study: optuna.Study, old_failures: Collection[int]) -> str | None:
    """What to say when the last ten trials to finish have failed, or None; those of earlier commands do not count."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    finished = study.get_trials(deepcopy=False, states=states)
    last = sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number))[-MAX_FAILURES:]
    failed = [trial for trial in last if trial.state == TrialState.FAIL and trial.number not in old_failures]
    if len(failed) < MAX_FAILURES:
        return None
    return (
        f"study '{study.study_name}': {MAX_FAILURES} trials failed one after the other, so the search stops. The last: "
        f"{failed[-1].user_attrs.get('reason')}. Mend that and run the same command again: it goes on where it stopped."
    )


def _batch_size(trial: optuna.Trial | FrozenTrial, search: Search, spec: RunSpec) -> int:
    frozen = trial.storage.get_trial(trial._trial_id) if isinstance(trial, optuna.Trial) else trial
    return int(settings_of(frozen, search).get("train.batch_size", spec.train.batch_size))
