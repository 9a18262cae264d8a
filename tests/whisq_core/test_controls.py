"""Predictors that hear nothing."""

import math

import numpy as np

from whisq_core.controls import predict_control
from whisq_core.metrics import evaluate

TRAIN = np.array([[1.0, 5.0], [3.0, 4.0], [2.0, 2.0], [5.0, 1.0]])
TRAIN_SYSTEMS = ["A", "A", "B", "B"]


def test_the_constant_control_predicts_the_train_mean() -> None:
    ours = predict_control("constant", TRAIN, TRAIN_SYSTEMS, ["B", "A", "new"])
    np.testing.assert_array_equal(ours, [[2.75, 3.0]] * 3)
    assert ours.dtype == np.float64


def test_the_lookup_predicts_the_systems_train_mean_and_the_train_mean_for_an_unseen_system() -> None:
    ours = predict_control("system_lookup", TRAIN, TRAIN_SYSTEMS, ["B", "A", "new", "B"])
    np.testing.assert_array_equal(ours, [[3.5, 1.5], [2.0, 4.5], [2.75, 3.0], [3.5, 1.5]])
    assert ours.dtype == np.float64


def test_no_clips_give_no_predictions() -> None:
    for name in ("constant", "system_lookup"):
        assert predict_control(name, TRAIN, TRAIN_SYSTEMS, []).shape == (0, 2)  # type: ignore[arg-type]


def test_the_lookup_can_rank_systems_and_never_clips_inside_one() -> None:
    ours = predict_control("system_lookup", TRAIN, TRAIN_SYSTEMS, ["A", "A", "A", "B", "B", "B"])
    truth = np.array([[1, 5], [2, 4], [3, 5], [4, 2], [5, 1], [4, 2]], dtype=float)
    values = evaluate(ours, truth, ["A", "A", "A", "B", "B", "B"])
    assert values["omq.system.srcc"] == values["ta.system.srcc"] == 1.0
    assert math.isnan(values["omq.within_system.srcc"])


def test_the_constant_has_no_correlation_at_all() -> None:
    ours = predict_control("constant", np.array([[3.3, 2.1], [3.1, 2.2], [3.6, 4.7]]), ["A", "B", "A"], list("AABABBB"))
    truth = np.random.default_rng(0).uniform(1, 5, (7, 2))
    values = evaluate(ours, truth, list("AABABBB"))
    assert all(math.isnan(number) != name.endswith("mse") for name, number in values.items())


def test_the_training_mean_does_not_depend_on_how_labels_lie_in_memory() -> None:
    labels = np.random.default_rng(0).uniform(1, 5, (413, 2))
    systems = ["S001"] * len(labels)

    by_rows = predict_control("constant", np.ascontiguousarray(labels), systems, ["S001"])
    by_columns = predict_control("constant", np.asfortranarray(labels), systems, ["S001"])

    assert by_rows.tobytes() == by_columns.tobytes()
    assert np.ascontiguousarray(labels).mean(axis=0).tobytes() != by_columns.tobytes(), "a last bit differs"
