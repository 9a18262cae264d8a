"""The Optuna study of a search: what it is bound to, its slots, and the trials that another study lends it."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import AblationFile, Row, Search, difference, param_name, to_params, to_settings
from study.engine.patient_storage import patiently
from study.engine.queue import open_storage
from study.engine.runs import Identity
from study.engine.tickets import create_study
from study.search.objective import objective_name
from study.store.database import Database
from whisq_core.errors import InputError, did_you_mean, raise_all
from whisq_core.spec import RunSpec, differences

_SLOTS_AHEAD = 8  # empty tickets that wait; Optuna reads all waiting trials again at every look
_SEARCH = "search"  # the kind of study


@dataclass(frozen=True)
class SearchPlan:
    """One search: a row, what is varied over it, and everything that must not change while it goes on.

    `spec` is the row with data.score and seed of the search and every `auto` resolved; `identity` is that of `spec`.
    """

    name: str
    table: str
    row: Row
    spec: RunSpec
    search: Search
    seed: int
    identity: Identity

    @property
    def protocol(self) -> dict[str, Any]:
        """What all trials share: without it their values cannot be compared."""
        searched = tuple(self.search.space)
        if any(name.startswith("backbone.") for name in searched):
            searched += ("features.audio", "features.text")
        return {name: value for name, value in self.identity.parts.items() if name not in searched}

    @property
    def first_guess(self) -> dict[str, Any]:
        """The values that the row has without a search."""
        settings = self.spec.settings()
        return {name: settings[name] for name in self.search.space}


def open_search(database: Database, plan: SearchPlan, source: str | None = None) -> tuple[optuna.Study, list[str]]:
    """Create the study of `plan` or go on with it; a new one begins with the first guess, then the trials of `source`.

    Returns:
        The study, and notes for the user about guesses that were left out.

    Raises:
        InputError: when the stored study was begun with another space, protocol, seed or source.
    """
    lender = _lender(database, source) if source is not None else None
    study = create_study(database, plan.name, plan.search.objective[0], _SEARCH)
    with database.exclusive():
        if "fingerprint" in study.user_attrs:
            raise_all(_drift(study, database, plan, source))
            return study, []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective_name(plan.search.objective)])
        attributes = {"table": plan.table, "row": plan.row.id, "seed": plan.seed, "source": source}
        for name, value in {**attributes, "protocol": plan.protocol}.items():
            study.set_user_attr(name, value)
        notes = _enqueue_guesses(study, plan, lender) if not study.get_trials(deepcopy=False) else []
        study.set_user_attr("fingerprint", plan.search.fingerprint)  # last: a study without it is begun anew
    return study, notes


def _drift(study: optuna.Study, database: Database, plan: SearchPlan, source: str | None) -> list[str]:
    """How the stored study differs from what is asked for now, and the way out."""
    stored = study.user_attrs
    where = f"study '{plan.name}' in {database.masked_url}"
    lines = difference(stored["fingerprint"], plan.search)
    lines += differences(plan.protocol, stored["protocol"])
    mistakes = [f"{where} was begun with another search: {line}" for line in lines]
    if mistakes:
        mistakes.append(
            f"{where}: trials of two searches cannot be compared. Change it back, or begin a new study that takes "
            f"over the old trials that still fit: --study NEW --from {plan.name}."
        )
    if stored["seed"] != plan.seed:
        mistakes.append(f"--seed {plan.seed}: {where} was begun with --seed {stored['seed']}. Give that one again.")
    if source is not None and source != stored["source"]:
        mistakes.append(f"--from {source}: {where} exists already. Give another --study, or leave --from out.")
    return mistakes


def _enqueue_guesses(study: optuna.Study, plan: SearchPlan, lender: "_Lender | None") -> list[str]:
    notes = []
    guesses: list[dict[str, Any]] = []
    try:
        guesses.append(to_params(plan.first_guess, plan.search.space))
    except InputError as error:
        notes += [f"first guess left out: {mistake}" for mistake in error.mistakes]
    if lender is not None:
        lent = [params for params in lender.params(plan) if params not in guesses]
        notes.append(f"{len(lent)} of {len(lender.trials)} finished trials of '{lender.name}' fit and are taken over")
        guesses += lent
    for params in guesses:
        _add_slot(study, params)
    return notes


def _add_slot(study: optuna.Study, params: Mapping[str, Any]) -> None:
    """A ticket whose parameters are `params`; the sampler fills in what is not there."""
    attributes = {"row": study.user_attrs["row"]}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING, user_attrs=attributes, system_attrs={"fixed_params": dict(params)}
        )
    )


def top_up(study: optuna.Study, database: Database, total: int) -> None:
    """Add empty slots while fewer than `total` trials exist, so that a few are always waiting.

    Every ticket does this before its own work: the queue runs dry only when the total is reached.
    """

    def lacking() -> int:
        trials = study.get_trials(deepcopy=False)
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        return min(total - len(trials), _SLOTS_AHEAD - waiting if waiting < _SLOTS_AHEAD // 2 else 0)

    def fill() -> None:
        with database.exclusive():
            for _ in range(lacking()):
                _add_slot(study, {})

    if lacking() > 0:
        patiently(fill)


@dataclass(frozen=True)
class _Lender:
    """A finished or stopped search whose configurations another one begins with; their values are never copied."""

    name: str
    search: Search
    protocol: Mapping[str, Any]
    trials: tuple[FrozenTrial, ...]  # complete ones, best first

    def params(self, plan: SearchPlan) -> list[dict[str, Any]]:
        """The configurations that lie in the space of `plan` and differ from its row in nothing else."""
        settings = plan.spec.settings()
        found = []
        for trial in self.trials:
            theirs = {**self.protocol, **to_settings(trial.params, self.search.space)}
            no_longer_searched = set(self.search.space) - set(plan.search.space)
            if any(theirs[name] != settings[name] for name in no_longer_searched):
                continue
            try:
                found.append(to_params(theirs, plan.search.space))
            except InputError:  # outside the new space: counted by the caller
                continue
        return found


def _lender(database: Database, name: str) -> _Lender:
    storage = open_storage(database)
    known = [
        study.study_name for study in optuna.get_all_study_summaries(storage) if study.user_attrs.get("kind") == _SEARCH
    ]
    if name not in known:
        raise InputError(f"--from {name}: no such search in {database.masked_url}. {did_you_mean(name, known)}")
    study = optuna.load_study(study_name=name, storage=storage)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best_first = sorted(complete, key=sort_key(study))
    search = Search.model_validate(json.loads(study.user_attrs["fingerprint"]))
    return _Lender(name, search, study.user_attrs["protocol"], tuple(best_first))


def largest_search(database: Database, file: AblationFile) -> optuna.Study | None:
    """Of the searches begun for rows of this table the one with most complete trials, or None when there is none.

    Among equal ones that of the row which the others are compared to.
    """
    storage = open_storage(database)
    searches = [
        optuna.load_study(study_name=found.study_name, storage=storage)
        for found in optuna.get_all_study_summaries(storage)
        if found.user_attrs.get("kind") == _SEARCH and found.user_attrs.get("table") == file.name
    ]
    reference = file.compare.to if file.compare else None

    def size(search: optuna.Study) -> tuple[int, bool]:
        complete = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return len(complete), search.user_attrs["row"] == reference

    return max(searches, key=size, default=None)


def settings_of(trial: FrozenTrial, search: Search) -> dict[str, Any]:
    """The searched settings of a trial, as far as it has got: a waiting one has none."""
    proposed = {name: where for name, where in search.space.items() if param_name(name, where) in trial.params}
    return to_settings(trial.params, proposed)


def sort_key(study: optuna.Study) -> Any:
    """A key that sorts complete trials best first, ties by number."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return lambda trial: (sign * trial.value, trial.number)
