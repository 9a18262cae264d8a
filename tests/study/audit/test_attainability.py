"""Attainability against every pair of rankings of a few systems, and against the table it was made for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.audit.attainability import (
    MAX_TIES,
    Groups,
    attainability,
    described,
    fewest_runs,
    fits,
    printed_range,
    printed_unit,
    true_ties,
)

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


def _mid_ranks(groups: Groups, num_systems: int) -> list[np.ndarray]:
    """All rankings, up to the order of systems, in which just these groups are tied."""
    sizes = sorted(set(itertools.permutations((*groups, *(1 for _ in range(num_systems - sum(groups)))))))
    return [stats.rankdata(np.repeat(np.arange(len(each)), each)) for each in sizes]


def _values(metric: str, first: Groups, second: Groups, num_systems: int) -> set[float]:
    """Every value that two rankings with these ties can have."""
    orders = np.array(list(itertools.permutations(range(num_systems))))
    found = set[float]()
    for x, y in itertools.product(_mid_ranks(first, num_systems), _mid_ranks(second, num_systems)):
        if metric == "srcc":
            u, v = x - x.mean(), y[orders] - y.mean()
            values = v @ u / np.sqrt(u @ u * (v[0] @ v[0]))
        else:
            i, j = np.triu_indices(num_systems, 1)
            u, v = np.sign(x[i] - x[j]), np.sign(y[orders][:, i] - y[orders][:, j])
            values = v @ u / np.sqrt(u @ u * (v[0] @ v[0]))
        found |= set(np.round(values, 10).tolist())
    return found


TIED = [((), (2,)), ((), (3,)), ((), (2, 2)), ((), (4,)), ((), (3, 2)), ((2,), (2,)), ((2,), (3,)), ((2,), (2, 2))]


@pytest.mark.parametrize("metric", ["srcc", "ktau"])
@pytest.mark.parametrize(("first", "second"), TIED)
def test_every_value_of_rankings_with_ties_is_accepted(metric: str, first: Groups, second: Groups) -> None:
    ties = sum(size - 1 for size in first + second)
    for value in _values(metric, first, second, 6):
        assert attainability(metric, f"{value:.6f}", 6, ties=ties).verdict != "not attainable", value


@pytest.mark.parametrize("groups", true_ties(6))
def test_with_ties_in_the_true_ranking_just_the_values_of_kendall_that_occur_are_attainable(groups: Groups) -> None:
    printed = {f"{value + 0.0:.5f}" for value in _values("ktau", (), groups, 6)}
    for step in range(-1000, 1001):
        text = f"{step / 1000 + 0.0:.5f}"
        assert not fits("ktau", text, 6, groups) or any(abs(float(text) - float(each)) < 2e-5 for each in printed)
    assert all(fits("ktau", text, 6, groups) for text in printed)


@pytest.mark.parametrize("groups", [(3,), (5,), (2,), (2, 2), (3, 2)])
def test_with_ties_in_the_true_ranking_spearman_has_the_spacing_of_the_grid(groups: Groups) -> None:
    values = sorted(_values("srcc", (), groups, 7))
    inner = [f"{value:.7f}" for value in np.linspace(-0.5, 0.5, 5001)]
    near = np.array(values)
    for text in inner:
        occurs = np.abs(near - float(text)).min() < 1e-7
        if len(groups) == 1 and groups[0] == 5:
            assert not occurs or fits("srcc", text, 7, groups)  # so many ties leave holes
        else:
            assert occurs == fits("srcc", text, 7, groups), text


@pytest.mark.parametrize("metric", ["srcc", "ktau"])
@pytest.mark.parametrize("runs", [2, 3])
def test_exactly_the_means_of_so_many_runs_are_attainable(metric: str, runs: int) -> None:
    values = sorted(_values(metric, (), (), 4))
    means = {sum(chosen) / runs for chosen in itertools.combinations_with_replacement(values, runs)}
    printed = {f"{value + 0.0:.3f}" for value in means} | {_cut(value + 0.0, 3) for value in means}
    printed = {"0.000" if text == "-0.000" else text for text in printed}
    for thousandths in range(-1000, 1001):
        text = f"{thousandths / 1000:.3f}".replace("-0.000", "0.000")
        assert (attainability(metric, text, 4, runs=runs).verdict != "not attainable") == (text in printed), text


@pytest.mark.parametrize(("metric", "digits"), [("srcc", 4), ("ktau", 4), ("ktau", 3), ("srcc", 3)])
def test_the_chance_is_the_share_of_all_strings_that_pass(metric: str, digits: int) -> None:
    strings = [f"{number / 10**digits:.{digits}f}" for number in range(1, 10**digits, 1 if digits < 4 else 7)]
    passed = [attainability(metric, text, 29) for text in strings]
    share = sum(each.verdict != "not attainable" for each in passed) / len(strings)
    assert passed[0].chance == pytest.approx(share, abs=0.02)
    assert (passed[0].chance == 1) == (metric == "srcc" and digits == 3)


def test_ties_are_told_in_words() -> None:
    assert described(((), (2,))) == "a tied pair"
    assert described(((), (2, 2))) == "2 tied pairs"
    assert described(((), (3, 2))) == "a tied pair and 3 tied together"
    assert described(((2,), (2,))) == "2 tied pairs, some in each ranking"


def test_the_fewest_runs_whose_mean_would_print_so() -> None:
    assert fewest_runs("srcc", "0.8321", 29) == 3
    assert fewest_runs("ktau", "0.5678", 29) is None
    assert fewest_runs("srcc", "0.8813", 29) == 1


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), num_systems=st.integers(4, 40), digits=st.integers(2, 6))
def test_rounded_coefficients_of_random_rankings_are_attainable(seed: int, num_systems: int, digits: int) -> None:
    order = np.random.default_rng(seed).permutation(num_systems)
    for metric, coefficient in COEFFICIENT.items():
        value = float(coefficient(np.arange(num_systems), order)[0])
        found = attainability(metric, f"{value:.{digits}f}", num_systems)
        assert found.verdict == "rounded"
        assert found.ties == ((), ())
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
    assert attainability("srcc", "0.8321", 29).ties == ((), (2,))
    assert attainability("srcc", "0.8321", 29).verdict == "not attainable"
    assert attainability("srcc", "0.8321", 29, ties=1).verdict == "rounded"
    assert attainability("ktau", "0.6234", 29, ties=MAX_TIES).verdict == "not attainable"


@pytest.mark.parametrize("printed", ["1.2000", "-1.0010"])
def test_a_correlation_outside_its_range_is_not_attainable(printed: str) -> None:
    assert attainability("srcc", printed, 29, ties=MAX_TIES).verdict == "not attainable"


def test_the_unit_of_a_printed_number_is_its_last_digit() -> None:
    assert printed_unit("0.8813") == pytest.approx(1e-4)
    assert printed_unit("-0.09") == pytest.approx(1e-2)
    assert printed_unit("1") == 1.0


def test_numbers_that_print_alike_are_those_that_round_or_are_cut_to_it() -> None:
    assert printed_range("0.25") == pytest.approx((0.245, 0.26))
    assert printed_range("-0.25") == pytest.approx((-0.26, -0.245))
