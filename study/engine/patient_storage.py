"""Optuna's storage for workers: a lost database connection is waited out, and pruning does not read it all the time."""

import time
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError

from study.store.database import with_retry

Result = TypeVar("Result")


def patiently(action: Callable[[], Result]) -> Result:
    """Run `action`, again and again while the database cannot be reached; any other error passes.

    Optuna hides what the driver said inside its own exception; `with_retry` has to see it.
    """

    def attempt() -> Result:
        try:
            return action()
        except StorageInternalError as error:
            if isinstance(error.__cause__, OperationalError | InterfaceError):
                raise error.__cause__ from None
            raise

    return with_retry(attempt)


_NEWS_SECONDS = 5.0  # how old the other workers' results may be when a trial is compared with them
_FINISHED = (TrialState.COMPLETE,)


class PatientStorage(_CachedStorage):
    """What workers call on a storage, patiently. Each write may be repeated: it sets a value, it adds nothing.

    The pruner asks for all complete trials at each report. Reading them anew took more time than all else that a
    report costs, so they are at most `_NEWS_SECONDS` old; claiming a ticket and sampling always read.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._read_at: dict[int, float] = {}  # study -> time of the last look

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial as it is now."""
        return patiently(lambda: super(PatientStorage, self).get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials by number; finished ones are read once."""
        now = time.monotonic()
        if states == _FINISHED and not deepcopy and now - self._read_at.get(study_id, -_NEWS_SECONDS) < _NEWS_SECONDS:
            known = self._studies[study_id].trials
            return [known[number] for number in sorted(known) if known[number].state == TrialState.COMPLETE]
        trials = patiently(lambda: super(PatientStorage, self).get_all_trials(study_id, deepcopy, states))
        self._read_at[study_id] = now
        return trials

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Store a sampled parameter."""
        arguments = (trial_id, param_name, param_value_internal, distribution)
        patiently(lambda: super(PatientStorage, self).set_trial_param(*arguments))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store a report."""
        patiently(lambda: super(PatientStorage, self).set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute of ours."""
        patiently(lambda: super(PatientStorage, self).set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute of Optuna's."""
        patiently(lambda: super(PatientStorage, self).set_trial_system_attr(trial_id, key, value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change a trial's state. A change that was made, but whose answer was lost, is found made."""
        tries = 0

        def change() -> bool:
            nonlocal tries
            tries += 1
            try:
                changed = super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries > 1 and self.get_trial(trial_id).state == state:
                    return True
                raise
            return changed or (tries > 1 and self.get_trial(trial_id).state == state)

        return patiently(change)

    def record_heartbeat(self, trial_id: int) -> None:
        """Say that the trial's worker lives."""
        patiently(lambda: super(PatientStorage, self).record_heartbeat(trial_id))

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        return patiently(lambda: super(PatientStorage, self)._get_stale_trial_ids(study_id))
