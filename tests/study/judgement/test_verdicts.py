import numpy as np
import pytest
from helpers.evidence import METRIC, comparison, t_power
from scipy import stats

from study.judgement import Decision, decide
from study.stats import Comparison, Error, compare, design, power_curve
from study.stats.items import UNKNOWN

MARGIN = 0.01


def verdict(*comparisons: Comparison, margin: float = MARGIN, higher_is_better: bool = True) -> Decision:
    """The verdict of the first of the declared rows."""
    return decide(comparisons, margin, higher_is_better)[0]


def advised(reason: str) -> int:
    """The number of seeds or systems that would settle a row, as its reason tells it."""
    return int(reason.partition("about ")[2].partition(" ")[0].replace(",", ""))


UNRELATED = [comparison(mean) for mean in (0.001, -0.002, 0.003, -0.001, 0.002)]


@pytest.mark.parametrize(
    ("mean", "higher_is_better", "expected"),
    [(0.2, True, "better"), (-0.2, True, "worse"), (-0.2, False, "better"), (0.2, False, "worse")],
)
def test_better_and_worse_follow_the_direction_of_the_metric(
    mean: float, higher_is_better: bool, expected: str
) -> None:
    found = verdict(comparison(mean), *UNRELATED, higher_is_better=higher_is_better)
    assert found.verdict == expected
    assert found.p_holm <= 0.05


def test_p_is_adjusted_by_holm_over_all_declared_rows() -> None:
    alone = comparison(0.075)
    assert 0.05 / 6 < alone.p < 0.05
    assert verdict(alone).verdict == "better"
    among_six = verdict(alone, *UNRELATED)
    assert among_six.p_holm == pytest.approx(6 * alone.p)
    assert among_six.verdict != "better"


def test_a_row_that_could_not_be_tested_still_counts_in_the_correction() -> None:
    undefined = compare(METRIC, np.array([]), np.array([]), UNKNOWN, 29)
    alone = comparison(0.075)
    found = decide([alone, undefined], MARGIN, higher_is_better=True)
    assert found[0].p_holm == pytest.approx(2 * alone.p)
    assert (found[1].verdict, found[1].reason) == ("undefined", "no seed is done in both rows")


def test_seeds_that_agree_on_a_difference_within_the_noise_of_systems_count_for_these_systems_only() -> None:
    found = verdict(comparison(0.04, system_error=0.04), *UNRELATED)
    assert found.verdict == "these systems only"
    assert (
        found.reason
        == f"no number of seeds settles this; about {advised(found.reason)} test systems would (80 % power)"
    )


def test_the_seed_test_has_its_own_holm() -> None:
    weak = comparison(0.0115, seed_sd=0.012)
    assert 0.05 / 6 < weak.p_seed < 0.05
    assert verdict(weak).verdict == "these systems only"
    others = [comparison(0.0) for _ in range(5)]
    assert verdict(weak, *others).verdict == "inconclusive"


def test_rows_are_equivalent_when_the_combined_error_leaves_them_inside_the_margin() -> None:
    same = comparison(0.001, system_error=0.0015, seed_sd=0.002)
    found = verdict(same, *UNRELATED)
    assert (found.verdict, found.reason) == ("equivalent", "inside ±0.01 by seeds and test systems")
    assert -0.01 < found.interval.low < found.interval.high < 0.01
    assert found.level == pytest.approx(1 - 0.05 / 6)
    assert verdict(same, *UNRELATED, margin=0.005).verdict == "inconclusive"


@pytest.mark.parametrize("source", [{"seed_sd": 0.05}, {"system_error": 0.02}])
def test_one_large_error_is_enough_against_equivalence(source: dict[str, float]) -> None:
    inside = {"seed_sd": 0.005, "system_error": 0.002}
    assert verdict(comparison(0.001, **inside)).verdict == "equivalent"
    assert verdict(comparison(0.001, **(inside | source))).verdict == "inconclusive"


def test_two_errors_of_one_size_that_would_each_leave_room_are_too_much_together() -> None:
    each = comparison(0.0, seed_sd=0.0048 * np.sqrt(10), system_error=0.0048)
    assert max(each.seeds.high, each.systems.high) < 0.011
    assert verdict(each).verdict == "inconclusive"


def test_many_seeds_do_not_take_equivalence_away() -> None:
    assert verdict(comparison(0.002, seed_sd=0.005, num_seeds=40, system_error=0.003)).verdict == "equivalent"


def test_equivalence_is_adjusted_by_holm() -> None:
    close = comparison(0.001, system_error=0.003, seed_sd=0.005)
    assert verdict(close).verdict == "equivalent"
    found = verdict(close, *UNRELATED)
    assert (found.verdict, found.p_equivalent) == ("inconclusive", pytest.approx(6 * close.p_equivalent(MARGIN)))


def test_a_real_difference_inside_the_margin_is_said_to_be_small() -> None:
    found = verdict(comparison(0.005, seed_sd=0.002, system_error=0.001))
    assert (found.verdict, found.reason) == ("better", "real, yet inside ±0.01 by seeds and test systems")


@pytest.mark.parametrize("mean", [0.01, 0.03, 0.05, 0.075, 0.1, 0.2])
def test_the_interval_excludes_zero_where_the_verdict_is_a_difference(mean: float) -> None:
    rows = [comparison(mean), comparison(0.13), *UNRELATED[:4]]
    for found in decide(rows, MARGIN, higher_is_better=True):
        assert (found.interval.low > 0 or found.interval.high < 0) == (found.verdict in ("better", "worse"))


def test_an_inconclusive_row_limited_by_systems_says_how_many_systems_would_settle_it() -> None:
    close = comparison(0.05, seed_sd=0.02, system_error=0.04)
    found = verdict(close)
    systems = advised(found.reason)

    def chance(count: int) -> float:
        """By simulation with scipy's noncentral t: how often the row is found with so many systems."""
        by_systems = Error(0.04 * (29 / count) ** 0.5, count - 1)
        error = close.by_seeds + by_systems
        bound = stats.t.isf(0.025, error.freedom)
        t = stats.nct.rvs(error.freedom, 0.05 / error.value, size=20_000, random_state=1)
        return float((np.abs(t) > bound).mean())

    assert chance(systems) == pytest.approx(0.8, abs=0.02)
    assert chance(systems // 2) < 0.6


def test_a_difference_near_zero_is_settled_by_equivalence_first() -> None:
    found = verdict(comparison(0.001, system_error=0.03))
    assert found.verdict == "inconclusive"
    assert found.reason.endswith("test systems would (80 % power, as equivalent within ±0.01, with more seeds)") or (
        found.reason.endswith("test systems would (80 % power, as equivalent within ±0.01)")
    )
    systems = advised(found.reason)
    enough = comparison(0.001, system_error=0.03 * (29 / systems) ** 0.5, num_systems=systems, seed_sd=0.001)
    assert verdict(enough).verdict == "equivalent"


def test_a_number_of_systems_beyond_reason_is_no_advice() -> None:
    found = verdict(comparison(0.0101, system_error=5.0, seed_sd=0.05))
    assert found.reason == "no number of seeds settles this; more than 100,000 test systems would (80 % power)"


def test_an_inconclusive_row_limited_by_seeds_says_how_many_would_settle_it() -> None:
    found = verdict(comparison(0.05, seed_sd=0.1, system_error=0.001))
    assert found.verdict == "inconclusive"
    seeds = advised(found.reason)
    assert found.reason == f"about {seeds} seeds would settle this (80 % power)"
    assert t_power(0.05 / 0.1, seeds) == pytest.approx(0.81, abs=0.02)  # systems add little here


def test_equal_rows_limited_by_seeds_are_told_how_many_make_them_equivalent() -> None:
    found = verdict(comparison(0.001, seed_sd=0.02, system_error=0.001))
    assert found.verdict == "inconclusive"
    assert found.reason.endswith("seeds would settle this (80 % power, as equivalent within ±0.01)")
    enough = comparison(0.001, seed_sd=0.02, system_error=0.001, num_seeds=advised(found.reason))
    assert verdict(enough).verdict == "equivalent"


def test_seeds_and_systems_of_one_size_fail_together_where_each_alone_would_pass() -> None:
    clear, close = comparison(0.3), comparison(0.05, seed_sd=0.06, system_error=0.0235)
    assert max(close.p_seed, close.p_system) < 0.05 < close.p_both
    found = decide([clear, close], MARGIN, higher_is_better=True)[1]
    assert found.verdict == "these systems only"


def test_too_few_seeds_for_the_declared_rows_need_at_least_the_number_that_can_decide() -> None:
    found = verdict(comparison(0.5, num_seeds=5), *(comparison(0.0, num_seeds=5) for _ in range(5)))
    assert (found.verdict, found.reason) == ("inconclusive", "about 8 seeds would settle this (80 % power)")


def test_too_few_systems_decide_nothing_beyond_them() -> None:
    found = verdict(comparison(0.3, num_systems=4))
    assert found.verdict == "these systems only"
    assert found.reason == "4 test systems are too few, at least 5 are needed"


def test_an_undefined_metric_never_wins() -> None:
    undefined = compare(METRIC, np.array([0.9, np.nan]), np.array([0.1, 0.2]), UNKNOWN, 29)
    found = verdict(undefined)
    assert found.verdict == "undefined"
    assert np.isnan(found.p_holm)
    assert found.reason == "ta.utterance.srcc is undefined in at least one seed"


def test_an_unknown_error_over_systems_leaves_the_row_to_these_systems() -> None:
    found = verdict(compare(METRIC, np.linspace(0.8, 0.9, 10), np.linspace(0.1, 0.3, 10), UNKNOWN, 29))
    assert found.verdict == "these systems only"
    assert found.reason == "the error over test systems is undefined"


def test_a_single_run_of_each_row_may_differ_beyond_the_systems_but_only_as_these_runs() -> None:
    found = verdict(compare(METRIC, np.array([0.7]), np.array([0.5]), Error(0.02, 28), 29))
    assert found.verdict == "these runs only"
    close = verdict(compare(METRIC, np.array([0.52]), np.array([0.5]), Error(0.02, 28), 29))
    assert (close.verdict, close.p_holm) == ("inconclusive", 1.0)
    assert close.reason == "one seed has no spread, at least 6 are needed"


def test_no_declared_row_gives_no_verdict() -> None:
    assert decide([], MARGIN, higher_is_better=True) == []


@pytest.mark.parametrize(("rows", "seeds"), [(1, 6), (6, 8), (7, 9)])
def test_the_design_says_how_many_seeds_its_comparisons_need(rows: int, seeds: int) -> None:
    enough, short = design(rows, seeds, 29), design(rows, seeds - 1, 29)
    assert f"at least {seeds} seeds" in enough[0]
    assert f"at least {seeds} seeds" in short[0]
    assert len(enough) == 2
    assert short[1] == "No verdict 'better' or 'worse' can come out; 'equivalent' still can."


def test_the_design_speaks_of_seeds_and_systems_before_the_first_run() -> None:
    assert design(6, 10, 29) == (
        "6 comparisons need at least 8 seeds (the smallest p of 8 sign flips, 0.0078, is within .05/6 = 0.0083); "
        "this table has 10.",
        "At 80 % power 10 seeds and 29 test systems resolve a difference of utterance-level correlations above about "
        "0.23 between rows with unrelated errors, 0.091 between rows with mostly shared errors.",
    )


def test_with_measured_errors_the_design_says_what_these_rows_resolve() -> None:
    found = design(1, 10, 29, [Error(0.03, 28), Error(0.01, 28)])[1]
    assert found == "At 80 % power these rows resolve differences above 0.029 to 0.087 (by their measured errors)."
    assert t_power(0.0865 / 0.03 / np.sqrt(29), 29) < 0.8 < t_power(0.0875 / 0.03 / np.sqrt(29), 29)


def test_the_design_says_when_the_systems_are_too_few() -> None:
    assert design(1, 10, 4)[1].startswith("4 test systems are too few for verdicts beyond them: at least 5 are needed")
    assert power_curve(1, 10, 4) == []


def test_the_power_curve_rises_with_the_difference_and_with_systems_and_hardly_with_seeds() -> None:
    lines = power_curve(6, 10, 29)
    few, seeds, systems, many = ([int(cell) for cell in line.split("errors")[1].split()[::2]] for line in lines[1:5])
    assert few == sorted(few)
    assert all(more - less <= 2 for more, less in zip(seeds, few, strict=True))
    assert few[3] + 10 < systems[3] < many[3]


def test_too_few_seeds_for_a_verdict_have_no_power_curve() -> None:
    assert power_curve(6, 5, 29) == []
