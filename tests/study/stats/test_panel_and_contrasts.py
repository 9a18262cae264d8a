"""Human agreement against simulated and real panels; contrasts against the same sums done by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.evidence import evidence
from scipy import stats

from study.judgement import judge
from study.stats.influence import influence
from study.stats.items import Items
from study.stats.panel import halves_of, moved_by_raters, panel_scores

REAL = Path(__file__).parents[4] / "shared" / "data" / "aes_pam_ratings.jsonl"
ERRORS = {"whisq": 0.3, "no_ot": 0.4, "mlp": 0.5}
METRICS = [f"q.{level}.{name}" for level in ("utterance", "system") for name in ("mse", "lcc", "srcc", "ktau")]


@pytest.mark.parametrize("raters", [4, 5, 10])
def test_the_agreement_is_what_another_panel_of_the_same_size_scores(raters: int) -> None:
    generator = np.random.default_rng(raters)
    systems = np.repeat(np.arange(30), 40)
    quality = generator.normal(0, 0.7, 30)[systems] + generator.normal(0, 0.8, len(systems))
    ratings, others = (quality[:, None] + generator.normal(0, 1, (len(systems), raters)) for _ in range(2))
    found = panel_scores([of_item[:, None] for of_item in ratings], Items.of(systems, None), ("q",), METRICS)

    ours, theirs = ratings.mean(axis=1), others.mean(axis=1)
    means = [np.bincount(systems, weights=side) / 40 for side in (ours, theirs)]
    for level, (one, two), noise in (("utterance", (ours, theirs), 2 / raters), ("system", means, 2 / raters / 40)):
        expected = {
            "mse": noise,
            "lcc": stats.pearsonr(one, two)[0],
            "srcc": stats.spearmanr(one, two)[0],
            "ktau": stats.kendalltau(one, two)[0],
        }
        for name, value in expected.items():
            interval = found[f"q.{level}.{name}"]
            assert interval.low <= interval.mean <= interval.high
            close = 0.06 * value if name == "mse" else 0.04
            assert interval.mean == pytest.approx(value, abs=close)


@pytest.mark.skipif(not REAL.exists(), reason="the folder of real ratings is not there")
def test_real_panels_agree_as_their_halves_do() -> None:
    """Five raters against the other five: U-SRCC .685 and .743, as published with the ratings; ten agree better."""
    lines = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]
    music = [line for line in lines if line["data_path"].split("/")[-3] == "music"]
    names = ("Production_Quality", "Content_Enjoyment")
    ratings = [np.array([line[name] for name in names]).T for line in music]
    items = Items.of([line["data_path"].split("/")[-2] for line in music], None)
    found = panel_scores(ratings, items, names, [f"{name}.utterance.srcc" for name in names])
    for name, of_halves in zip(names, (0.685, 0.743), strict=True):
        assert found[f"{name}.utterance.srcc"].mean == pytest.approx(2 * of_halves / (1 + of_halves), abs=0.01)


@pytest.mark.parametrize("sizes", [(2,), (5,), (3, 6, 5)])
def test_halves_are_means_of_disjoint_ratings_drawn_for_each_clip_and_split(sizes: tuple[int, ...]) -> None:
    bits = [2.0 ** np.arange(sizes[item % len(sizes)]) for item in range(40)]  # a sum of these tells which were taken
    first, second = halves_of([of_item[:, None] for of_item in bits])[..., 0]
    counts = np.array([len(of_item) // 2 for of_item in bits])
    taken = [np.array(half * counts, dtype=np.int64) for half in (first, second)]
    assert not (taken[0] & taken[1]).any()
    for half in taken:
        assert (np.bitwise_count(half) == counts).all()
        ways = [math.comb(len(of_item), len(of_item) // 2) for of_item in bits]
        assert all(len(np.unique(of_item)) > 0.6 * number for of_item, number in zip(half.T, ways, strict=True))


@pytest.mark.parametrize("metric", ["q.utterance.srcc", "q.utterance.mse", "q.system.lcc"])
def test_the_noise_of_raters_in_a_difference_is_its_spread_over_panels(metric: str) -> None:
    draw = np.random.default_rng(1)
    systems = np.repeat(np.arange(20), 15)
    quality = draw.normal(3, 0.6, 20)[systems] + draw.normal(0, 0.6, 300)
    shared = quality + draw.normal(0, 0.3, 300)
    rows = shared + draw.normal(0, [[0.2], [0.4]], (2, 300))
    panels = quality[:, None] + draw.normal(0, 1, (200, 300, 5))

    of_panels = [influence(metric, rows, panel.mean(axis=1), systems)[0] for panel in panels]
    named = {"reference": rows[0], "other": rows[1], "alike": rows[0]}
    found = [
        moved_by_raters(metric, named, "reference", panel.mean(axis=1), list(panel), systems) for panel in panels[:8]
    ]
    spread = np.std(np.subtract(*np.transpose(of_panels)), ddof=1)
    assert np.mean([one["other"] for one in found]) == pytest.approx(spread, rel=0.15)
    assert {one["alike"] for one in found} == {0.0}


def test_a_judgement_says_how_much_another_panel_would_move_the_declared_differences() -> None:
    table = evidence(errors=ERRORS)
    draw = np.random.default_rng(2)
    ratings = tuple(label + draw.normal(0, 0.5, (5, 2)) for label in table.truth)
    judged = judge(replace(table, ratings=ratings))
    assert set(judged.by_raters) == {"no_ot", "mlp"}
    low, high = (f"{value:.2g}" for value in sorted(judged.by_raters.values()))
    assert f"differences in TA U-SRCC by {low} to {high} (standard deviation" in judged.design[-1]
    for row, moved in judged.by_raters.items():
        assert 0 < moved < judged.primary(row).by_systems.value
    assert judge(table).by_raters == {}


def test_a_contrast_is_the_weighted_sum_over_common_seeds() -> None:
    table = evidence(errors=ERRORS)
    rows = list(table.predictions)[:3]
    weights = {rows[0]: 1.0, rows[1]: -0.5, rows[2]: -0.5}
    found = judge(replace(table, contrasts={"mixed": weights})).contrasts["mixed"]

    truth = table.truth[:, 1]
    common = sorted(set.intersection(*(set(table.seeds[row]) for row in rows)))
    sums = [
        sum(
            weight * stats.spearmanr(table.predictions[row][table.seeds[row].index(seed)][:, 1], truth)[0]
            for row, weight in weights.items()
        )
        for seed in common
    ]
    assert table.metric == "ta.utterance.srcc"
    assert (found.mean, found.n) == (pytest.approx(np.mean(sums)), len(common))
    assert found.by_seeds.value == pytest.approx(stats.sem(sums))


def test_a_contrast_of_two_rows_is_their_comparison() -> None:
    table = evidence(errors=ERRORS)
    row = table.compared[0]
    found = judge(replace(table, contrasts={"pair": {row: 1.0, table.reference: -1.0}}))
    assert found.contrasts["pair"].mean == pytest.approx(found.primary(row).mean)
    assert found.contrasts["pair"].error.value == pytest.approx(found.primary(row).error.value)


def test_a_contrast_without_a_common_seed_is_empty() -> None:
    table = evidence(errors=ERRORS)
    row = table.compared[0]
    apart = replace(table, seeds={**table.seeds, row: tuple(range(100, 100 + len(table.seeds[row])))})
    assert judge(replace(apart, contrasts={"pair": {row: 1.0, table.reference: -1.0}})).contrasts["pair"].n == 0
