import numpy as np
import pytest
from helpers.evidence import METRIC, comparison

from study.stats import Comparison, Decision, compare, decide, design

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
    undefined = compare(METRIC, np.array([]), np.array([]), np.array([np.nan]), 29)
    alone = comparison(0.075)
    found = decide([alone, undefined], MARGIN, higher_is_better=True)
    assert found[0].p_holm == pytest.approx(2 * alone.p)
    assert (found[1].verdict, found[1].reason) == ("undefined", "no seed is done in both rows")


def test_seeds_that_agree_on_a_difference_within_the_noise_of_systems_count_for_these_systems_only() -> None:
    found = verdict(comparison(0.04, system_error=0.04), *UNRELATED)
    assert found.verdict == "these systems only"
    assert found.reason == "no number of seeds settles this; about 234 test systems would"


def test_the_seed_test_has_its_own_holm() -> None:
    weak = comparison(0.0115, seed_sd=0.012)
    assert 0.05 / 6 < weak.p_seed < 0.05
    assert verdict(weak).verdict == "these systems only"
    others = [comparison(0.0) for _ in range(5)]
    assert verdict(weak, *others).verdict == "inconclusive"


def test_rows_are_equivalent_when_both_intervals_lie_inside_the_margin() -> None:
    same = comparison(0.001, system_error=0.004)
    found = verdict(same, *UNRELATED)
    assert (found.verdict, found.reason) == ("equivalent", "inside ±0.01 by seeds and by test systems")
    assert verdict(same, *UNRELATED, margin=0.005).verdict == "inconclusive"


@pytest.mark.parametrize("source", [{"seed_sd": 0.05}, {"system_error": 0.02}])
def test_one_interval_outside_the_margin_is_enough_against_equivalence(source: dict[str, float]) -> None:
    inside = {"seed_sd": 0.01, "system_error": 0.004}
    assert verdict(comparison(0.001, **inside)).verdict == "equivalent"
    assert verdict(comparison(0.001, **(inside | source))).verdict == "inconclusive"


def test_a_real_difference_inside_the_margin_is_said_to_be_small() -> None:
    found = verdict(comparison(0.005, seed_sd=0.002, system_error=0.001))
    assert (found.verdict, found.reason) == ("better", "real, yet inside ±0.01 by seeds and by test systems")


def test_an_inconclusive_row_limited_by_systems_says_how_many_systems_would_settle_it() -> None:
    found = verdict(comparison(0.05, seed_sd=0.05, system_error=0.04))
    assert found.verdict == "these systems only"
    systems = advised(found.reason)
    settled = comparison(0.05, seed_sd=0.05, system_error=0.04 * (29 / systems) ** 0.5, num_systems=systems)
    assert settled.p_system <= 0.05


def test_a_difference_near_zero_is_settled_by_equivalence_first() -> None:
    found = verdict(comparison(0.001, system_error=0.03))
    assert found.verdict == "inconclusive"
    assert found.reason == "no number of seeds settles this; about 933 test systems would (equivalence within ±0.01)"
    systems = advised(found.reason)
    enough = comparison(0.001, system_error=0.03 * (29 / systems) ** 0.5, num_systems=systems)
    assert verdict(enough).verdict == "equivalent"


def test_a_number_of_systems_beyond_reason_is_no_advice() -> None:
    found = verdict(comparison(0.0101, system_error=5.0, seed_sd=0.05))
    assert found.reason == "no number of seeds settles this; more than 100,000 test systems would (and more seeds)"


def test_an_inconclusive_row_limited_by_seeds_says_how_many_would_settle_it() -> None:
    found = verdict(comparison(0.05, seed_sd=0.1, system_error=0.005))
    assert found.verdict == "inconclusive"
    seeds = advised(found.reason)
    assert found.reason == f"about {seeds} seeds would settle this"
    assert verdict(comparison(0.05, seed_sd=0.1, system_error=0.005, num_seeds=seeds)).p_holm < 0.06


def test_seeds_and_systems_of_one_size_fail_together_where_each_alone_would_pass() -> None:
    clear, close = comparison(0.3), comparison(0.05, seed_sd=0.06, system_error=0.0235)
    assert max(close.p_seed, close.p_system) < 0.05 < close.p_both
    found = decide([clear, close], MARGIN, higher_is_better=True)[1]
    assert found.verdict == "these systems only"
    assert found.reason == "limited by seeds and test systems together; about 36 test systems would settle this"


def test_too_few_seeds_for_the_declared_rows_need_at_least_the_number_that_can_decide() -> None:
    found = verdict(comparison(0.3, num_seeds=5), *(comparison(0.0, num_seeds=5) for _ in range(5)))
    assert (found.verdict, found.reason) == ("inconclusive", "about 8 seeds would settle this")


def test_one_seed_decides_nothing() -> None:
    found = verdict(comparison(0.3, num_seeds=1))
    assert (found.verdict, found.p_holm) == ("inconclusive", 1.0)
    assert found.reason == "one seed has no spread, at least 6 are needed"


def test_too_few_systems_decide_nothing_beyond_them() -> None:
    found = verdict(comparison(0.3, num_systems=4))
    assert found.verdict == "these systems only"
    assert found.reason == "4 test systems are too few, at least 5 are needed"


def test_an_undefined_metric_never_wins() -> None:
    undefined = compare(METRIC, np.array([0.9, np.nan]), np.array([0.1, 0.2]), np.full(50, np.nan), 29)
    found = verdict(undefined)
    assert found.verdict == "undefined"
    assert np.isnan(found.p_holm)
    assert found.reason == "ta.utterance.srcc is undefined in at least one seed"


def test_draws_that_are_mostly_undefined_leave_the_row_inconclusive() -> None:
    draws = np.full(100, np.nan)
    found = verdict(compare(METRIC, np.linspace(0.8, 0.9, 10), np.linspace(0.1, 0.3, 10), draws, 29))
    assert found.verdict == "these systems only"
    assert found.reason == "undefined in too many resamples of the test systems"


def test_no_declared_row_gives_no_verdict() -> None:
    assert decide([], MARGIN, higher_is_better=True) == []


@pytest.mark.parametrize(("rows", "seeds"), [(1, 6), (6, 8), (7, 9)])
def test_the_design_says_how_many_seeds_its_comparisons_need(rows: int, seeds: int) -> None:
    enough, short = design(rows, seeds, 29), design(rows, seeds - 1, 29)
    assert f"at least {seeds} seeds" in enough[0]
    assert f"at least {seeds} seeds" in short[0]
    assert len(enough) == 3
    assert short[1] == "No verdict 'better' or 'worse' can come out; 'equivalent' still can."


def test_the_design_speaks_of_seeds_and_systems_before_the_first_run() -> None:
    assert design(6, 10, 29) == (
        "6 comparisons need at least 8 seeds (the smallest p of 8 sign flips, 0.0078, is within .05/6 = 0.0083); "
        "this table has 10.",
        "If seeds scatter an SRCC by 0.01, they resolve differences above about 0.015.",
        "29 systems resolve an SRCC difference between rows with unrelated errors above about 0.17, between rows with "
        "mostly shared errors less; more seeds do not change that.",
    )


def test_the_design_says_when_the_systems_are_too_few() -> None:
    assert design(1, 10, 4)[2] == ("4 systems are too few for verdicts beyond them: at least 5 are needed.")
