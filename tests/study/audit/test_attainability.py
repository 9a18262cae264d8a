"""Attainability against every pair of rankings of a few systems, and against the table it was made for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.audit.attainability import MAX_TIED_PAIRS, attainability, printed_unit

COEFFICIENT = {"srcc": stats.spearmanr, "ktau": stats.kendalltau}


def _cut(value: float, digits: int) -> str:
    return f"{math.trunc(round(value * 10**digits, 9)) / 10**digits:.{digits}f}"


@pytest.mark.parametrize("metric", ["srcc", "ktau"])
@pytest.mark.parametrize("num_systems", [4, 5, 6])
def test_exactly_the_values_of_some_ranking_are_attainable(metric: str, num_systems: int) -> None:
    first = np.arange(num_systems)
    values = {float(COEFFICIENT[metric](first, order)[0]) for order in itertools.permutations(range(num_systems))}
    prints = {f"{value:.3f}" for value in values} | {_cut(value, 3) for value in values}
    prints = {"0.000" if printed == "-0.000" else printed for printed in prints}
    for thousandths in range(-1000, 1001):
        printed = f"{thousandths / 1000:.3f}".replace("-0.000", "0.000")
        found = attainability(metric, printed, num_systems)
        assert (found.verdict != "not attainable") == (printed in prints), printed


@pytest.mark.parametrize("metric", ["srcc", "ktau"])
@pytest.mark.parametrize(("truth", "pairs"), [((0, 0, 1, 2, 3), 1), ((0, 0, 1, 1, 2), 2)])
def test_no_ranking_with_ties_is_called_not_attainable(metric: str, truth: tuple[int, ...], pairs: int) -> None:
    for order in itertools.permutations(range(5)):
        printed = f"{COEFFICIENT[metric](truth, order)[0]:.4f}"
        assert attainability(metric, printed, 5, ties=pairs).verdict != "not attainable"


@pytest.mark.parametrize("metric", ["srcc", "ktau"])
def test_ties_on_both_sides_are_bounded(metric: str) -> None:
    for order in itertools.permutations((0, 0, 1, 2, 3)):
        printed = f"{COEFFICIENT[metric]((0, 0, 1, 2, 3), order)[0]:.4f}"
        assert attainability(metric, printed, 5, ties=2).verdict != "not attainable"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), num_systems=st.integers(4, 40), digits=st.integers(2, 6))
def test_rounded_coefficients_of_random_rankings_are_attainable(seed: int, num_systems: int, digits: int) -> None:
    order = np.random.default_rng(seed).permutation(num_systems)
    for metric, coefficient in COEFFICIENT.items():
        value = float(coefficient(np.arange(num_systems), order)[0])
        found = attainability(metric, f"{value:.{digits}f}", num_systems)
        assert found.verdict == "rounded"
        assert found.tied_pairs == 0
        assert found.below - 10.0**-digits <= value <= found.above + 10.0**-digits


def test_a_value_that_only_cutting_explains_is_called_truncated() -> None:
    found = attainability("ktau", "0.6896", 29)
    assert found.verdict == "truncated"
    assert found.above == pytest.approx(280 / 406)


def test_neighbours_of_an_unattainable_cell_are_the_grid_values_around_it() -> None:
    found = attainability("srcc", "0.8757", 29)
    assert found.verdict == "not attainable"
    assert (found.below, found.above) == pytest.approx((1 - 506 / 4060, 1 - 504 / 4060))


def test_the_fewest_ties_that_would_explain_a_cell_are_named_but_do_not_excuse_it() -> None:
    assert attainability("srcc", "0.8321", 29).tied_pairs == 1
    assert attainability("srcc", "0.8321", 29).verdict == "not attainable"
    assert attainability("srcc", "0.8321", 29, ties=1).verdict == "rounded"
    assert attainability("ktau", "0.6234", 29, ties=MAX_TIED_PAIRS).verdict == "not attainable"


@pytest.mark.parametrize("printed", ["1.2000", "-1.0010"])
def test_a_correlation_outside_its_range_is_not_attainable(printed: str) -> None:
    assert attainability("srcc", printed, 29, ties=MAX_TIED_PAIRS).verdict == "not attainable"


def test_the_unit_of_a_printed_number_is_its_last_digit() -> None:
    assert printed_unit("0.8813") == pytest.approx(1e-4)
    assert printed_unit("-0.09") == pytest.approx(1e-2)
    assert printed_unit("1") == 1.0
