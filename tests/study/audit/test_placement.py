"""Published cells against intervals of ours."""

import pytest

from study.audit import place_row, why_not_comparable
from study.audit.placement import place
from study.published import PUBLISHED


@pytest.mark.parametrize(
    ("printed", "low", "high", "expected"),
    [
        ("0.6109", 0.60, 0.62, "inside"),
        ("0.6109", 0.62, 0.63, "outside"),
        ("0.6109", 0.61098, 0.62, "inside"),  # .61098 is printed as .6110, or cut to .6109
        ("0.6109", 0.61101, 0.62, "outside"),
        ("-0.1540", -0.2, -0.15408, "inside"),
        ("0.6109", float("nan"), float("nan"), "no interval"),
    ],
)
def test_a_printed_value_is_inside_when_a_number_that_prints_so_is(
    printed: str, low: float, high: float, expected: str
) -> None:
    assert place(printed, low, high) == expected


def test_cells_that_cannot_occur_or_come_from_other_data_are_not_judged() -> None:
    reason = why_not_comparable(simulated=True, split="dev", num_systems=14)
    intervals = {"ta.system.srcc": (0.0, 1.0), "ta.utterance.srcc": (0.0, 0.1)}
    real = {cell.metric: cell for cell in place_row(PUBLISHED["vanilla"], intervals)}
    other = {cell.metric: cell for cell in place_row(PUBLISHED["vanilla"], intervals, reason)}
    names = ("ta.system.srcc", "ta.utterance.srcc", "omq.utterance.mse")
    assert [real[name].placement for name in names] == ["not attainable", "outside", "no interval"]
    assert [other[name].placement for name in names] == ["not attainable", "not comparable", "not comparable"]
    assert other["ta.utterance.srcc"].reason == "other data: our corpus is simulated"


def test_only_the_dev_split_of_the_real_corpus_is_comparable() -> None:
    assert why_not_comparable(simulated=False, split="dev", num_systems=29) == ""
    assert why_not_comparable(False, "test", 30) == "other data: ours are scored on 'test', the published ones on dev"
    assert why_not_comparable(False, "dev", 14) == "other data: our dev split has 14 systems, the published one 29"
