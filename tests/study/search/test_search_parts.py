"""The pieces of a search that need no training: objective, sampler, importance."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers.ablation_files import SMALL, read
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from study.dashboard import open_storage, open_study
from study.search import importances, largest_search
from study.search.importance import MIN_TRIALS, variance_shares
from study.search.objective import MAX_REPORTS, objective_name, objective_value, stride
from study.search.sampler import fixed_sampler, make_sampler
from study.store import Database

METRICS = {"ta.utterance.srcc": 0.5, "omq.utterance.srcc": 0.7, "omq.utterance.mse": 0.4, "ta.system.mse": 0.2}


@pytest.mark.parametrize(
    ("names", "shown", "value"),
    [
        (["ta.utterance.srcc"], "ta.utterance.srcc", 0.5),
        (["omq.utterance.srcc", "ta.utterance.srcc"], "mean of omq.utterance.srcc, ta.utterance.srcc", 0.6),
        (["omq.utterance.mse", "ta.system.mse"], "mean of omq.utterance.mse, ta.system.mse", 0.3),
        (["ta.utterance.srcc", "omq.utterance.mse"], "mean of ta.utterance.srcc, -omq.utterance.mse", 0.05),
    ],
)
def test_an_objective_keeps_the_direction_of_its_first_metric(names: list[str], shown: str, value: float) -> None:
    assert objective_name(names) == shown
    assert objective_value(METRICS, names) == pytest.approx(value)


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf])
def test_an_objective_with_a_part_that_is_not_finite_is_undefined(wild: float) -> None:
    names = ["ta.utterance.srcc", "omq.utterance.mse"]

    assert math.isnan(objective_value({**METRICS, "omq.utterance.mse": wild}, names))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000))
def test_no_trial_reports_more_than_the_allowed_number_of_times(epochs: int) -> None:
    reported = {epoch for epoch in range(1, epochs + 1) if epoch % stride(epochs) == 0 or epoch == epochs}

    assert len(reported) <= MAX_REPORTS + 1


def quadratic(trial: optuna.Trial) -> float:
    """Depends on the logarithm of x much, on k a little, on nothing else."""
    x = trial.suggest_float("x", 1e-5, 1e-1, log=True)
    k = trial.suggest_int("k", 1, 4)
    trial.suggest_float("useless", 0.0, 1.0)
    trial.suggest_categorical("also useless", ["a", "b"])
    return (math.log10(x) + 3) ** 2 + 0.3 * k


def searched(kind: str, seed: int, parts: list[int]) -> list[dict[str, float]]:
    """The configurations of a study that is opened again for each part."""
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="parts")
    for part in parts:
        study = optuna.load_study(storage=storage, study_name="parts")
        for _ in range(part):
            study.sampler = make_sampler(kind, seed, len(study.trials))
            trial = study.ask()
            study.tell(trial, quadratic(trial))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_study_that_is_opened_again_goes_on_where_it_was(kind: str) -> None:
    straight = searched(kind, 0, [20])

    assert searched(kind, 0, [4, 9, 7]) == straight
    assert searched(kind, 1, [20]) != straight
    assert len({tuple(params.values()) for params in straight}) == 20


def test_parallel_trials_that_begin_together_differ() -> None:
    study = optuna.create_study()
    for position in range(4):
        study.sampler = make_sampler("tpe", 0, position)
        study.ask().suggest_float("x", 0, 1)

    assert len({trial.params["x"] for trial in study.trials}) == 4


def test_given_parameters_are_proposed_as_they_are() -> None:
    params = {"x": 1e-3, "k": 2, "useless": 0.25, "also useless": "b"}
    study = optuna.create_study(sampler=fixed_sampler(params))

    quadratic(study.ask())

    assert study.trials[0].params == params


def test_variance_shares_are_those_of_the_function_and_near_those_of_optuna() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("a", 0, 1) + trial.suggest_float("b", -2, 2) ** 2, n_trials=300)
    columns = np.array([[trial.params["a"], trial.params["b"]] for trial in study.trials])
    values = np.array([trial.value for trial in study.trials])

    ours = variance_shares(columns, values, np.array([(0.0, 1.0), (-2.0, 2.0)]), seed=3)

    theirs = optuna.importance.FanovaImportanceEvaluator(n_trees=8, seed=3).evaluate(study)
    variances = np.array([1 / 12, 16 / 5 - (4 / 3) ** 2])  # of a, and of b squared
    np.testing.assert_allclose(ours, variances / variances.sum(), atol=0.03)
    np.testing.assert_allclose(ours, [theirs["a"], theirs["b"]], atol=0.05)


def test_importance_tells_parameters_from_noise() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(quadratic, n_trials=80)

    found = importances(study, num_forests=10)

    assert found is not None
    by_name = {each.name: each for each in found.parameters}
    assert found.parameters[0].name == "x"
    assert by_name["x"].mean > 0.8  # by the logarithm: over the plain range nearly all of it would lie above 1e-4
    assert not by_name["x"].is_noise
    assert not by_name["k"].is_noise
    assert by_name["useless"].is_noise
    assert by_name["also useless"].is_noise
    assert found.noise_mean < 0.05
    assert all(each.sd > 0 for each in found.parameters)


def test_importance_is_not_made_up_from_few_or_equal_values() -> None:
    few = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    few.optimize(quadratic, n_trials=MIN_TRIALS - 1)
    equal = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    equal.optimize(lambda trial: 0.0 * trial.suggest_float("x", 0, 1), n_trials=MIN_TRIALS)

    assert importances(few) is None
    assert importances(equal) is None


def begun_search(database: Database, name: str, table: str, row: str, num_trials: int) -> None:
    """A stored search of a table's row with so many complete trials."""
    study = open_study(open_storage(database), name, "search", "ta.utterance.srcc")
    for key, value in {"table": table, "row": row, "fingerprint": "{}"}.items():
        study.set_user_attr(key, value)
    for number in range(num_trials):
        where = {"x": FloatDistribution(0, 1)}
        study.add_trial(optuna.create_trial(params={"x": number / 10}, distributions=where, value=number))


def test_the_largest_search_of_a_table_is_found_whatever_its_name(tmp_path: Path) -> None:
    compared = f"{SMALL}compare: {{to: whisq, rows: [no_ot], metric: ta.utterance.srcc, equivalence_margin: 0.01}}\n"
    file = read(tmp_path, compared)
    database = Database(f"sqlite:///{tmp_path}/whisq.db")
    open_study(open_storage(database), "ablations", "ablation", "ta.utterance.srcc")
    assert largest_search(database, file) is None
    begun_search(database, "elsewhere", "other", "whisq", 5)
    begun_search(database, "mine", "ablations", "no_ot", 2)
    begun_search(database, "ablations-whisq", "ablations", "whisq", 2)

    of_equal_size = largest_search(database, file)
    begun_search(database, "bigger", "ablations", "no_ot", 3)
    largest = largest_search(database, file)

    assert of_equal_size is not None
    assert of_equal_size.study_name == "ablations-whisq"
    assert largest is not None
    assert largest.study_name == "bigger"
