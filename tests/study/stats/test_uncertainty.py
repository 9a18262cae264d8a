from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import METRIC, closed_bonferroni, comparison
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.stats.items import UNKNOWN, Error
from study.stats.uncertainty import compare, holm, sign_flip_p, summarise

VALUES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=9)


@settings(deadline=None, max_examples=50)
@given(values=VALUES, level=st.sampled_from([0.90, 0.95]))
def test_the_interval_over_seeds_is_students_t(values: list[float], level: float) -> None:
    found = summarise(values, level)
    if np.ptp(values) > 1e-9:
        low, high = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
        assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.n == len(values)


def test_one_seed_has_a_mean_but_no_interval() -> None:
    found = summarise([0.4])
    assert (found.mean, found.n) == (0.4, 1)
    assert np.isnan([found.sd, found.low, found.high]).all()


def test_no_seed_at_all_is_undefined() -> None:
    found = summarise([])
    assert found.n == 0
    assert np.isnan([found.mean, found.sd, found.low, found.high]).all()


def test_an_undefined_seed_makes_the_mean_undefined_and_never_zero() -> None:
    found = summarise([0.4, np.nan, 0.5])
    assert np.isnan([found.mean, found.low, found.high]).all()


@settings(deadline=None, max_examples=25)
@given(values=VALUES)
def test_the_sign_flip_test_is_scipys_exact_permutation_test(values: list[float]) -> None:
    differences = np.round(values, 6)  # nearer ties than rounding allows for are not what seeds give
    expected = stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize(("num_seeds", "smallest"), [(1, 1.0), (5, 0.0625), (8, 2 / 256), (20, 2 / 2**20)])
def test_the_smallest_p_of_n_seeds_is_two_in_two_to_the_n(num_seeds: int, smallest: float) -> None:
    assert sign_flip_p(np.linspace(0.1, 0.3, num_seeds)) == pytest.approx(smallest)


def test_sums_that_differ_by_rounding_only_count_as_equal() -> None:
    assert sign_flip_p(np.array([0.1, 0.2, 0.3])) == sign_flip_p(np.array([1.0, 2.0, 3.0])) == 0.25
    # .1 + .2 - .3 is 5.6e-17: every flip is as far from 0 as the observed sum.
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1.0


def test_equal_rows_have_p_one() -> None:
    assert sign_flip_p(np.zeros(10)) == 1.0


def test_an_undefined_difference_has_no_p() -> None:
    assert np.isnan(sign_flip_p(np.array([0.1, np.nan])))
    assert np.isnan(sign_flip_p(np.array([])))


def test_beyond_twenty_seeds_random_flips_come_close_to_the_t_test_and_repeat() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.06, 40)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip_p(differences) == pytest.approx(expected, abs=0.005)
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(np.full(40, 0.1)) == pytest.approx(1 / 100_001)


@settings(deadline=None, max_examples=50)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_p_is_the_largest_of_all_bonferroni_tests_that_hold_the_row(p: list[float]) -> None:
    assert holm(p) == pytest.approx(closed_bonferroni(p))


def test_an_undefined_comparison_still_counts_among_the_declared_ones() -> None:
    found = holm([0.02, np.nan, 0.2])
    assert found[[0, 2]] == pytest.approx([0.06, 0.4])
    assert np.isnan(found[1])


def test_the_p_of_both_sources_is_welchs_test_and_the_p_of_systems_the_one_sample_test() -> None:
    found = comparison(0.03, seed_sd=0.02, system_error=0.008)
    seeds, systems = found.by_seeds.value * np.sqrt(10), found.by_systems.value * np.sqrt(29)
    welch = stats.ttest_ind_from_stats(found.mean, seeds, 10, 0.0, systems, 29, equal_var=False)
    assert found.p_both == pytest.approx(welch.pvalue, rel=1e-9)
    assert found.p_system == pytest.approx(2 * stats.t.sf(found.mean / found.by_systems.value, 28), rel=1e-9)


def test_the_combined_interval_and_equivalence_are_those_of_welchs_tests() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.004, 0.02, 10), generator.normal(0, 0.05, 29)
    both = stats.ttest_ind(first, second, equal_var=False)  # the same errors as two independent samples
    mean = first.mean() - second.mean()
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in (first, second)]
    found = compare(METRIC, np.full(2, mean), np.zeros(2), Error(errors[1], 28), 29)
    found = replace(found, by_seeds=Error(errors[0], 9))
    assert (found.interval(0.99).low, found.interval(0.99).high) == pytest.approx(tuple(both.confidence_interval(0.99)))
    one_sided = max(
        stats.ttest_ind(first + shift, second, equal_var=False, alternative=side).pvalue
        for shift, side in ((0.02, "greater"), (-0.02, "less"))
    )
    assert 2 * one_sided < found.p_equivalent(0.02) < 5 * one_sided  # ours has the degrees of freedom of seeds alone
    assert found.p_equivalent(0.02) == pytest.approx(2 * stats.t.sf((0.02 - abs(mean)) / np.hypot(*errors), 9))


def test_rows_without_a_common_seed_are_independent_samples() -> None:
    generator = np.random.default_rng(2)
    row, reference = generator.normal(0.6, 0.01, 10), generator.normal(0.59, 0.02, 7)
    found = compare(METRIC, row, reference, Error(0.0, 28), 29, paired=False)
    expected = stats.ttest_ind(row, reference, equal_var=False)
    assert found.p_seed == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.seeds.low, found.seeds.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.paired) == (7, False)


@pytest.mark.parametrize("system", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("seed", [0.001, 0.01, 0.1])
def test_a_difference_must_survive_each_source_and_both(system: float, seed: float) -> None:
    found = comparison(0.02, seed_sd=seed, system_error=system)
    assert found.p == max(found.p_seed, found.p_system, found.p_both)


def test_intervals_are_centred_on_the_difference_and_p_agrees_with_them() -> None:
    found = comparison(0.05, system_error=0.02)
    assert found.systems.mean == found.seeds.mean == found.interval().mean == pytest.approx(0.05)
    assert found.interval().low < found.systems.low < found.seeds.low
    edge = found.interval(1 - found.p_both)
    assert edge.low == pytest.approx(0, abs=1e-12)


def test_the_relative_difference_is_to_the_reference() -> None:
    assert comparison(0.05).relative == pytest.approx(0.1)
    zero = compare(METRIC, np.array([0.1, 0.2]), np.array([0.5, -0.5]), Error(0.0, 28), 29)
    assert np.isnan(zero.relative)


def test_a_reference_that_may_as_well_be_zero_is_no_unit() -> None:
    near, far = (np.array([-0.2, 0.3, 0.1]) + shift for shift in (0.0, 1.0))
    assert np.isnan(compare(METRIC, near + 0.1, near, Error(0.1, 28), 29).relative)
    assert compare(METRIC, far + 0.1, far, Error(0.1, 28), 29).relative == pytest.approx(0.1 / far.mean())


def test_rows_without_any_difference_have_every_p_one_and_are_equivalent() -> None:
    values = np.array([0.5, 0.51, 0.49])
    found = compare(METRIC, values, values, Error(0.0, 28), 29)
    assert (found.mean, found.p_seed, found.p_system, found.p_both, found.p) == (0.0, 1.0, 1.0, 1.0, 1.0)
    assert found.p_equivalent(0.01) == 0
    assert (found.interval().low, found.interval().high) == (0, 0)


def test_an_undefined_seed_makes_the_whole_comparison_undefined() -> None:
    found = compare(METRIC, np.array([0.5, np.nan]), np.array([0.5, 0.4]), UNKNOWN, 29)
    assert np.isnan([found.mean, found.relative, found.p_seed, found.p_system, found.p_both, found.p]).all()
    assert np.isnan(found.p_equivalent(0.01))


def test_a_single_run_of_each_row_has_no_error_over_seeds() -> None:
    found = compare(METRIC, np.array([0.5]), np.array([0.4]), Error(0.01, 28), 29)
    assert np.isnan([found.by_seeds.value, found.p_both, found.interval().low, found.p_equivalent(1.0)]).all()
    assert found.p_system < 0.05
