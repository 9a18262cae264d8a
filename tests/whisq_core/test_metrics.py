"""The 16 numbers against independent formulas, SciPy, and properties that any correlation has."""

import itertools
import math
import warnings
from random import Random

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from whisq_core.metrics import EXTRA, METRICS, evaluate, group_means, higher_is_better, ktau, lcc, mse, srcc, title

# utterance's system, predicted OMQ and TA, true OMQ and TA: ties in both, systems of 1 to 4 clips
PREDICTIONS = """
S001 3.61 4.02 3.8 4.2
S001 2.95 3.77 3.0 3.6
S001 3.61 2.20 3.4 2.2
S002 4.40 3.05 4.8 3.0
S002 3.98 3.51 3.4 4.2
S003 1.72 2.66 1.2 2.6
S003 2.31 2.66 2.6 1.8
S003 2.80 4.11 2.6 4.8
S003 1.95 1.90 2.2 2.6
S004 3.33 3.05 4.0 3.2
"""
CSV_TRUTH = {"S001": (3.45, 3.3), "S002": (4.05, 3.7), "S003": (2.2, 2.9), "S004": (3.1, 3.4)}
# Written down once from the plain formulas, so that a mistake common to them and to metrics.py is seen to move.
UTTERANCE = {"omq": (0.1485, 0.918837, 0.896029, 0.781661), "ta": (0.22717, 0.870726, 0.898773, 0.767442)}
SYSTEM = {
    "clips": {"omq": (0.114781, 0.91675, 0.8, 0.666667), "ta": (0.034679, 0.875978, 0.8, 0.666667)},
    "csv": {"omq": (0.019031, 0.987859, 1.0, 1.0), "ta": (0.076089, 0.756629, 0.4, 0.333333)},
}


def fixed() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows = [line.split() for line in PREDICTIONS.strip().splitlines()]
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return numbers[:, :2], numbers[:, 2:], [row[0] for row in rows]


def plain_lcc(x: list[float], y: list[float]) -> float:
    covariance = np.cov(x, y, ddof=0)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def plain_ranks(x: list[float]) -> list[float]:
    return [sum(other < value for other in x) + (sum(other == value for other in x) + 1) / 2 for value in x]


def plain_ktau(x: list[float], y: list[float]) -> float:
    concordant = discordant = only_x = only_y = 0
    for (a, b), (c, d) in itertools.combinations(zip(x, y, strict=True), 2):
        sign = np.sign(a - c) * np.sign(b - d)
        concordant += sign > 0
        discordant += sign < 0
        only_x += a != c and b == d
        only_y += a == c and b != d
    ordered = concordant + discordant
    return float((concordant - discordant) / math.sqrt((ordered + only_x) * (ordered + only_y)))


def plain_four(x: list[float], y: list[float]) -> list[float]:
    squares = [(a - b) ** 2 for a, b in zip(x, y, strict=True)]
    return [sum(squares) / len(x), plain_lcc(x, y), plain_lcc(plain_ranks(x), plain_ranks(y)), plain_ktau(x, y)]


@pytest.mark.parametrize("convention", ["clips", "csv"])
def test_the_sixteen_numbers_of_a_fixed_file_equal_the_plain_formulas(convention: str) -> None:
    predicted, truth, systems = fixed()
    expected: list[float] = []
    for column in range(2):
        x, y = predicted[:, column].tolist(), truth[:, column].tolist()
        expected += plain_four(x, y)
        means = [
            [sum(value for value, name in zip(side, systems, strict=True) if name == system) / systems.count(system)
             for system in sorted(set(systems))]
            for side in (x, y)
        ]  # fmt: skip
        of_csv = [CSV_TRUTH[system][column] for system in sorted(set(systems))]
        expected += plain_four(means[0], of_csv if convention == "csv" else means[1])
    ours = evaluate(predicted, truth, systems, CSV_TRUTH if convention == "csv" else None)
    assert tuple(ours) == METRICS + EXTRA
    np.testing.assert_allclose([ours[name] for name in METRICS], expected, rtol=0, atol=1e-12)
    golden = [*UTTERANCE["omq"], *SYSTEM[convention]["omq"], *UTTERANCE["ta"], *SYSTEM[convention]["ta"]]
    assert [round(ours[name], 6) for name in METRICS] == golden


def test_the_two_truth_conventions_change_the_system_level_only() -> None:
    clips, csv = evaluate(*fixed()), evaluate(*fixed(), CSV_TRUTH)
    assert {name for name in clips if clips[name] != csv[name]} <= {name for name in METRICS if ".system." in name}
    assert clips["omq.system.mse"] != csv["omq.system.mse"]
    assert clips["ta.system.srcc"] != csv["ta.system.srcc"]


def test_metrics_stand_in_the_order_of_table_two_and_know_their_title_and_direction() -> None:
    assert len(METRICS) == 16
    assert METRICS[:5] == (
        "omq.utterance.mse", "omq.utterance.lcc", "omq.utterance.srcc", "omq.utterance.ktau", "omq.system.mse",
    )  # fmt: skip
    assert METRICS[-1] == "ta.system.ktau"
    assert title("ta.system.srcc") == "TA S-SRCC"
    assert title("omq.utterance.mse") == "OMQ U-MSE"
    assert title("ta.within_system.srcc") == "TA within-system SRCC"
    assert [name for name in METRICS + EXTRA if not higher_is_better(name)] == [
        "omq.utterance.mse", "omq.system.mse", "ta.utterance.mse", "ta.system.mse",
    ]  # fmt: skip


def test_within_system_correlation_is_weighted_by_clips_and_leaves_small_and_constant_systems_out() -> None:
    systems = ["A"] * 4 + ["B"] * 3 + ["C"] * 2 + ["D"] * 3
    truth = np.array([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 2, 2], dtype=float)
    predicted = np.array([1, 2, 3, 4, 9, 8, 7, 0, 9, 1, 2, 3], dtype=float)
    both = np.stack([predicted, predicted], axis=1), np.stack([truth, truth], axis=1)
    assert evaluate(*both, systems)["ta.within_system.srcc"] == pytest.approx((4 * 1 + 3 * -1) / 7, abs=1e-15)


def test_within_system_correlation_equals_scipy_system_by_system() -> None:
    generator = np.random.default_rng(5)
    systems = [f"S{i}" for i in generator.integers(0, 9, 120)]
    predicted, truth = generator.normal(size=(120, 2)), np.round(generator.uniform(1, 5, (120, 2)) * 5) / 5
    members = [np.array(systems) == system for system in set(systems)]
    parts = [scipy.stats.spearmanr(predicted[m, 1], truth[m, 1]).statistic for m in members]
    expected = np.average(parts, weights=[m.sum() for m in members])
    assert evaluate(predicted, truth, systems)["ta.within_system.srcc"] == pytest.approx(expected, abs=1e-12)


def test_a_system_lookup_has_system_numbers_and_no_within_system_correlation() -> None:
    _, truth, systems = fixed()
    members = np.unique(systems, return_inverse=True)[1]
    lookup = np.stack([group_means(truth[:, column], members)[members] for column in range(2)], axis=1)
    values = evaluate(lookup, truth, systems)
    assert values["omq.system.srcc"] == 1.0
    assert values["omq.system.mse"] == pytest.approx(0, abs=1e-24)
    assert math.isnan(values["omq.within_system.srcc"])


@pytest.mark.parametrize("value", [0.1, 3.3, 1e6 + 0.1, -0.7])
def test_constant_predictions_have_an_error_and_no_correlation_at_either_level(value: float) -> None:
    _, truth, systems = fixed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = evaluate(np.full(truth.shape, value), truth, systems)
    undefined = {name for name, number in values.items() if math.isnan(number)}
    assert undefined == {name for name in METRICS + EXTRA if not name.endswith("mse")}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_prediction_that_is_not_finite_makes_its_target_undefined_and_only_that(bad: float) -> None:
    predicted, truth, systems = fixed()
    before = evaluate(predicted, truth, systems)
    predicted[4, 0] = bad
    after = evaluate(predicted, truth, systems)
    assert all(math.isnan(after[name]) for name in after if name.startswith("omq."))
    assert all(after[name] == before[name] for name in after if name.startswith("ta."))


def test_one_clip_or_one_system_has_an_error_and_no_correlation() -> None:
    values = evaluate(np.array([[2.0, 3.0]]), np.array([[2.5, 3.0]]), ["A"])
    assert values["omq.utterance.mse"] == values["omq.system.mse"] == 0.25
    assert sum(math.isnan(number) for number in values.values()) == 14


def test_predictions_near_the_largest_float_give_numbers_or_nan_and_no_warning() -> None:
    predicted = np.array([[1e308, 1e200], [-1e308, 1e201], [1e307, 3]])
    values = evaluate(predicted, np.array([[1.0, 2], [2, 3], [3, 1]]), ["A", "A", "B"])
    assert math.isnan(values["omq.utterance.mse"])
    assert values["ta.utterance.srcc"] == 1.0


def test_equal_system_means_tie_whatever_the_number_and_order_of_clips() -> None:
    labels = np.array([3.4, 3.0, 3.2, 3.2, 2.8, 3.6, 3.2, 2.2, 4.2])
    means = group_means(labels, np.array([0, 0, 1, 2, 2, 2, 2, 1, 1]))
    assert len(set(means.tolist())) == 1


LABELS = st.integers(5, 25).map(lambda fifths: fifths / 5)
SCORES = st.floats(-10, 10).map(lambda value: round(value, 3))


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions, labels and systems of a few clips, neither side constant."""
    size = draw(st.integers(3, 30))
    predicted = np.array(draw(st.lists(st.tuples(SCORES, SCORES), min_size=size, max_size=size)))
    truth = np.array(draw(st.lists(st.tuples(LABELS, LABELS), min_size=size, max_size=size)))
    systems = draw(st.lists(st.sampled_from(["S001", "S002", "S003", "S004"]), min_size=size, max_size=size))
    assume(all(len(set(side[:, column])) > 1 for side in (predicted, truth) for column in range(2)))
    return predicted, truth, systems


def assert_equal(ours: dict[str, float], expected: dict[str, float], tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(list(ours.values()), list(expected.values()), rtol=tolerance, atol=tolerance)


@given(samples())
@settings(deadline=None, max_examples=60)
def test_utterance_numbers_equal_scipy(sample: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    predicted, truth, _ = sample
    x, y = predicted[:, 0], truth[:, 0]
    assert mse(x, y) == pytest.approx(np.mean((x - y) ** 2), rel=1e-14)
    assert lcc(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
    assert srcc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert ktau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


@given(samples())
@settings(deadline=None, max_examples=40)
def test_a_perfect_prediction_has_error_0_and_every_defined_correlation_1(
    sample: tuple[np.ndarray, np.ndarray, list[str]],
) -> None:
    _, truth, systems = sample
    values = evaluate(truth, truth, systems)
    for name, value in values.items():
        if name.endswith("mse"):
            assert value == 0
        elif name.endswith(("srcc", "ktau")):
            assert math.isnan(value) or value == 1.0
        else:
            assert math.isnan(value) or value == pytest.approx(1.0, abs=1e-15)


@given(samples(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_clips_does_not_matter(
    sample: tuple[np.ndarray, np.ndarray, list[str]], random: Random
) -> None:
    predicted, truth, systems = sample
    order = list(range(len(systems)))
    random.shuffle(order)
    shuffled = evaluate(predicted[order], truth[order], [systems[i] for i in order])
    assert_equal(shuffled, evaluate(predicted, truth, systems))


@given(samples(), st.sampled_from([0.25, 3.0, 700.0]), st.sampled_from([-40.0, 0.0, 2.5]))
@settings(deadline=None, max_examples=40)
def test_correlations_do_not_see_the_scale_of_predictions_and_turn_with_their_sign(
    sample: tuple[np.ndarray, np.ndarray, list[str]], scale: float, shift: float
) -> None:
    predicted, truth, systems = sample
    before = evaluate(predicted, truth, systems)
    for sign in (1, -1):
        after = evaluate(np.round(sign * scale * predicted + shift, 9), truth, systems)
        correlations = [name for name in before if not name.endswith("mse")]
        expected = {name: sign * before[name] for name in correlations}
        assert_equal({name: after[name] for name in correlations}, expected, 1e-7)


@given(samples(), st.sampled_from([-1.5, 0.5, 4.0]))
@settings(deadline=None, max_examples=30)
def test_shifting_predictions_and_labels_alike_changes_nothing(
    sample: tuple[np.ndarray, np.ndarray, list[str]], shift: float
) -> None:
    predicted, truth, systems = sample
    shifted = evaluate(np.round(predicted + shift, 9), np.round(truth + shift, 9), systems)
    assert_equal(shifted, evaluate(predicted, truth, systems), 1e-7)


@given(samples())
@settings(deadline=None, max_examples=30)
def test_correlations_lie_between_minus_1_and_1_and_errors_are_not_negative(
    sample: tuple[np.ndarray, np.ndarray, list[str]],
) -> None:
    for name, value in evaluate(*sample).items():
        assert math.isnan(value) or (value >= 0 if name.endswith("mse") else -1 <= value <= 1)
