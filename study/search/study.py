"""The Optuna study of a search: what it is bound to, what it begins with, and trials that were interrupted."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.config import AblationFile, Row, Search, difference
from study.dashboard import open_storage, open_study, retried
from study.engine import Identity, collect_errors
from study.search.objective import objective_name
from study.search.params import param_name, to_params, to_settings
from study.store import Database
from whisq_core.errors import InputError, did_you_mean, raise_all
from whisq_core.metrics import brought
from whisq_core.spec import RunSpec, differences

KIND = "search"
_INTERRUPTED = "interrupted"  # study attribute: numbers of trials whose coordinator ended before they did


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
        plugins = {f"plugin.{name}": distribution for name, distribution in brought(self.search.objective).items()}
        return {name: value for name, value in self.identity.parts.items() if name not in searched} | plugins

    @property
    def first_guess(self) -> dict[str, Any]:
        """The values that the row has without a search."""
        settings = self.spec.settings()
        return {name: settings[name] for name in self.search.space}


def open_search(database: Database, plan: SearchPlan, source: str | None = None) -> tuple[optuna.Study, list[str]]:
    """Create the study of `plan` or go on with it; a new one begins with the first guess, then the trials of `source`.

    Also returns notes for the user about guesses that were left out. A stored study that was begun with another space,
    protocol, seed or source is an `InputError`.
    """
    if source is not None:
        _search_named(database, source)  # before anything is made
    objective = plan.search.objective
    study = open_study(open_storage(database), plan.name, KIND, objective[0], objective_name(objective))
    if "fingerprint" in study.user_attrs:
        raise_all(_drift(study, database, plan, source))
        close_interrupted(study)
        return study, []
    guesses, notes = _guesses(database, plan, source)
    attributes = {"table": plan.table, "row": plan.row.id, "seed": plan.seed, "source": source, "guesses": guesses}
    for name, value in {**attributes, "protocol": plan.protocol}.items():
        study.set_user_attr(name, value)
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


def _guesses(database: Database, plan: SearchPlan, source: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The parameters that a search begins with: the first guess, then the warm-start study's; notes about them."""
    guesses, outside = list[dict[str, Any]](), list[str]()
    with collect_errors(outside):
        guesses.append(to_params(plan.first_guess, plan.search.space))
    notes = [f"first guess left out: {mistake}" for mistake in outside]
    if source is not None:
        study = _search_named(database, source)
        fitting = [params for params in _fitting(study, plan) if params not in guesses]
        notes.append(f"{len(fitting)} of {len(best_first(study))} finished trials of '{source}' fit and are taken over")
        guesses += fitting
    return guesses, notes


def _fitting(study: optuna.Study, plan: SearchPlan) -> list[dict[str, Any]]:
    """The configurations of an earlier search, best first, that lie in the space of `plan` and differ in no more."""
    attributes = study.user_attrs
    search = Search.model_validate(json.loads(attributes["fingerprint"]))
    settings, no_longer_searched = plan.spec.settings(), set(search.space) - set(plan.search.space)
    found = []
    for trial in best_first(study):
        theirs = {**attributes["protocol"], **to_settings(trial.params, search.space)}
        if all(theirs[name] == settings[name] for name in no_longer_searched):
            with collect_errors([]):  # those outside the new space are counted by the caller
                found.append(to_params(theirs, plan.search.space))
    return found


def _search_named(database: Database, name: str) -> optuna.Study:
    searches = {study.study_name: study for study in _searches(database)}
    if name not in searches:
        raise InputError(f"--from {name}: no such search in {database.masked_url}. {did_you_mean(name, searches)}")
    return searches[name]


def _searches(database: Database) -> list[optuna.Study]:
    storage = open_storage(database)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return [study for study in studies if study.user_attrs.get("kind") == KIND and "fingerprint" in study.user_attrs]


def largest_search(database: Database, file: AblationFile) -> optuna.Study | None:
    """Of the searches begun for rows of this table the one with most complete trials, or None when there is none.

    Among equal ones that of the row which the others are compared to.
    """
    reference = file.compare.to if file.compare else None
    searches = [study for study in retried(partial(_searches, database)) if study.user_attrs["table"] == file.name]
    return max(searches, key=lambda s: (len(best_first(s)), s.user_attrs["row"] == reference), default=None)


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials of a study, best first, ties by number."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    complete = retried(partial(study.get_trials, deepcopy=False, states=(TrialState.COMPLETE,)))
    return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def close_interrupted(study: optuna.Study) -> list[int]:
    """Close the trials that a coordinator which has ended left running; returns their numbers.

    They do not count. Their configurations are the first that the search goes on with; a run that was stored just
    before the end is found then. Only the holder of the storage's lock may call this.
    """

    def close() -> list[int]:
        left = [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        if left:
            study.set_user_attr(_INTERRUPTED, sorted({*study.user_attrs.get(_INTERRUPTED, ()), *left}))
        for number in left:
            study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        return left

    return retried(close)


def trials_by_state(study: optuna.Study) -> dict[str, list[FrozenTrial]]:
    """All trials of a study: "complete", "pruned", "fail", "running", "waiting", or "interrupted"."""
    attributes, trials = retried(lambda: (study.user_attrs, study.get_trials(deepcopy=False)))
    interrupted, found = set(attributes.get(_INTERRUPTED, ())), dict[str, list[FrozenTrial]]()
    for trial in trials:
        state = "interrupted" if trial.number in interrupted else trial.state.name.lower()
        found.setdefault(state, []).append(trial)
    return found


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count."""
    found = trials_by_state(study)
    return [trial for state in ("complete", "pruned", "fail") for trial in found.get(state, ())]


def wanted_params(study: optuna.Study, search: Search) -> list[dict[str, Any]]:
    """The configurations that a search has to go on with before it samples: interrupted ones, then its guesses."""
    tried = [trial.params for trial in finished_trials(study)]
    interrupted = [trial.params for trial in trials_by_state(study).get("interrupted", ())]
    whole = [params for params in interrupted if len(params) == len(search.space)]  # the others had not begun
    wanted = list[dict[str, Any]]()
    for params in [*whole, *retried(lambda: study.user_attrs).get("guesses", ())]:
        if params not in tried and params not in wanted:
            wanted.append(params)
    return wanted


def settings_of(trial: FrozenTrial, search: Search) -> dict[str, Any]:
    """The searched settings of a trial, as far as it has got."""
    proposed = {name: where for name, where in search.space.items() if param_name(name, where) in trial.params}
    return to_settings(trial.params, proposed)
