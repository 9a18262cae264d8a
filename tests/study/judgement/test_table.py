from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import METRIC, evidence
from scipy import stats

from study.judgement import Evidence, judge
from whisq_core.errors import InputError
from whisq_core.metrics import EXTRA, METRICS, evaluate

BAD = {"whisq": 0.2, "bad": 1.5, "alike": 0.2}


def test_a_row_far_below_the_reference_is_worse_and_its_numbers_are_those_of_evaluate() -> None:
    table = evidence(errors=BAD)
    found = judge(table)
    row = found.rows["bad"]
    assert row.decision is not None
    assert row.decision.verdict == "worse"
    assert set(row.summaries) == set(METRICS + EXTRA)
    assert set(row.comparisons) == set(METRICS + EXTRA)
    scores = {
        name: [evaluate(one, table.truth, table.groups)[METRIC] for one in table.predictions[name]] for name in BAD
    }
    primary = found.primary("bad")
    assert primary is not None
    assert row.summaries[METRIC].mean == pytest.approx(np.mean(scores["bad"]), abs=1e-12)
    assert primary.mean == pytest.approx(np.mean(scores["bad"]) - np.mean(scores["whisq"]), abs=1e-12)
    assert primary.relative == pytest.approx(primary.mean / np.mean(scores["whisq"]), abs=1e-12)


def test_the_same_evidence_always_gives_the_same_judgement() -> None:
    table = evidence(errors=BAD)
    assert repr(judge(table)) == repr(judge(table))


def test_a_metric_where_less_is_better_turns_the_verdict_but_not_the_sign() -> None:
    found = judge(replace(evidence(errors=BAD), metric="ta.utterance.mse"))
    primary, decision = found.primary("bad"), found.rows["bad"].decision
    assert primary is not None
    assert decision is not None
    assert primary.mean > 0
    assert decision.verdict == "worse"


def test_a_metric_that_is_undefined_never_wins() -> None:
    table = evidence(errors=BAD)
    constant = {**table.predictions, "bad": np.full_like(table.predictions["bad"], 3.0)}
    found = judge(replace(table, predictions=constant))
    decision = found.rows["bad"].decision
    assert decision is not None
    assert decision.verdict == "undefined"
    assert np.isnan(found.rows["bad"].summaries[METRIC].mean)
    assert not np.isnan(found.rows["bad"].summaries["ta.utterance.mse"].mean)


def test_only_declared_rows_have_verdicts_and_placeholders_are_never_compared() -> None:
    table = evidence(errors={"whisq": 0.2, "declared": 0.2, "other": 0.2, "placeholder": 0.2})
    found = judge(replace(table, compared=("declared",), placeholders=frozenset({"placeholder"})))
    assert [name for name, row in found.rows.items() if row.decision] == ["declared"]
    assert set(found.rows["other"].comparisons) == set(METRICS + EXTRA)
    assert found.rows["placeholder"].comparisons == found.rows["whisq"].comparisons == {}
    assert found.primary("whisq") is None


def test_declared_rows_share_one_correction() -> None:
    table = evidence(errors={"whisq": 0.2, "first": 0.3, "second": 0.3})
    both, one = judge(table), judge(replace(table, compared=("first",)))
    primary = one.primary("first")
    first, alone = both.rows["first"].decision, one.rows["first"].decision
    assert primary is not None
    assert first is not None
    assert alone is not None
    assert alone.p_holm == primary.p
    assert alone.p_holm < first.p_holm <= min(2 * alone.p_holm, 1)


def as_aa(table: Evidence, row: str) -> Evidence:
    return replace(table, compared=tuple(name for name in table.compared if name != row), aa=(row,))


def test_an_aa_row_is_judged_alone_and_a_difference_raises_the_alarm() -> None:
    table = evidence(errors={"whisq": 0.2, "declared": 0.2, "again": 1.5})
    found = judge(as_aa(table, "again"))
    decision, primary = found.rows["again"].decision, found.primary("again")
    assert decision is not None
    assert primary is not None
    assert decision.p_holm == primary.p
    assert found.notes == (
        "A/A alarm: 'again' repeats 'whisq' on other seeds, yet its verdict is 'worse'. "
        "One table in twenty does so by chance.",
    )


def test_an_aa_row_that_only_differs_by_seeds_is_quiet() -> None:
    table = evidence(errors={"whisq": 0.2})
    noise = np.random.default_rng(5).normal(0, 0.05, table.predictions["whisq"].shape)
    middle = table.predictions["whisq"].mean(axis=0)
    rows = {"whisq": middle + noise, "again": middle + noise[::-1].copy() * -1}
    found = judge(
        replace(
            table, predictions=rows, seeds={"whisq": tuple(range(10)), "again": tuple(range(10, 20))}, aa=("again",)
        )
    )
    decision = found.rows["again"].decision
    assert decision is not None
    assert decision.verdict in ("inconclusive", "equivalent")
    assert found.notes == ()


def test_an_aa_row_gets_no_advice_on_how_to_settle_what_is_chance() -> None:
    alike = as_aa(evidence(errors={"whisq": 0.2, "again": 0.2}), "again")
    apart, same = alike.predictions["whisq"], 2 * alike.predictions["whisq"].mean(axis=0)
    rows = {"whisq": apart, "again": same - apart[::-1]}
    for table, verdict in ((alike, "these systems only"), (replace(alike, predictions=rows), "inconclusive")):
        decision = judge(replace(table, margin=1e-6)).rows["again"].decision
        assert decision is not None
        assert (decision.verdict, decision.reason) == (verdict, "the same again: what it differs by is chance")


def test_seeds_are_paired_by_their_number_and_missing_ones_are_left_out_and_told() -> None:
    table = evidence(errors=BAD)
    seeds = {**table.seeds, "bad": (7, 1, 2, 5), "whisq": (0, 1, 2, 3, 5)}
    rows = {name: values[list(seeds[name])] for name, values in table.predictions.items()}
    planned = dict.fromkeys(rows, 10)
    found = judge(replace(table, predictions=rows, seeds=seeds, num_seeds=planned))
    kept = [1, 2, 5]
    subset = replace(
        table,
        predictions={name: values[kept] for name, values in table.predictions.items()},
        seeds=dict.fromkeys(table.seeds, (1, 2, 5)),
    )
    primary, expected = found.primary("bad"), judge(subset).primary("bad")
    assert primary is not None
    assert expected is not None
    assert primary.n == 3
    assert (primary.mean, primary.p_both) == pytest.approx((expected.mean, expected.p_both), rel=1e-12)
    assert found.rows["bad"].summaries[METRIC].n == 4
    decision = found.rows["bad"].decision
    assert decision is not None
    assert decision.reason.endswith("(4 of 10 seeds, 5 of 10 seeds of the reference done)")


def test_a_row_on_other_seeds_is_never_paired_by_position() -> None:
    table = evidence(errors=BAD)
    apart = judge(replace(table, seeds={**table.seeds, "bad": tuple(range(100, 110))})).primary("bad")
    assert apart is not None
    values = {row: [evaluate(one, table.truth, table.groups)[METRIC] for one in table.predictions[row]] for row in BAD}
    assert not apart.paired
    assert apart.p_seed == pytest.approx(stats.ttest_ind(values["bad"], values["whisq"], equal_var=False).pvalue)


def test_a_declared_row_without_any_seed_is_undefined_but_counts() -> None:
    table = evidence(errors=BAD)
    found = judge(replace(table, compared=(*table.compared, "failed")))
    decision = found.rows["failed"].decision
    assert decision is not None
    assert (decision.verdict, decision.reason) == ("undefined", "no seed is done in both rows")
    alone, among = judge(table).rows["bad"].decision, found.rows["bad"].decision
    assert alone is not None
    assert among is not None
    assert among.p_holm == pytest.approx(1.5 * alone.p_holm)


def test_without_the_reference_every_declared_row_is_undefined() -> None:
    table = evidence(errors=BAD)
    rows = {name: values for name, values in table.predictions.items() if name != "whisq"}
    found = judge(replace(table, predictions=rows, seeds=dict.fromkeys(rows, tuple(range(10)))))
    assert {row.decision.verdict for row in found.rows.values() if row.decision} == {"undefined"}


def test_a_table_that_declares_nothing_has_summaries_only() -> None:
    table = evidence(errors=BAD)
    found = judge(replace(table, reference=None, compared=()))
    assert found.design == ()
    assert all(not row.comparisons and row.decision is None for row in found.rows.values())
    assert found.rows["bad"].summaries[METRIC].n == 10


def test_a_row_with_more_error_than_the_constant_is_flagged() -> None:
    table = evidence(errors={"whisq": 0.2, "bad": 2.0, "constant": 0.2})
    mean = np.broadcast_to(table.truth.mean(axis=0), table.predictions["whisq"].shape).copy()
    rows = {**table.predictions, "constant": mean}
    found = judge(replace(table, predictions=rows, compared=("bad",), constant="constant"))
    assert found.rows["bad"].flags == (
        "worse than predicting the training mean on OMQ U-MSE, OMQ S-MSE, TA U-MSE, TA S-MSE (means, not tested)",
    )
    assert found.rows["whisq"].flags == found.rows["constant"].flags == ()


def test_a_constant_of_each_fold_is_told_and_no_row_is_flagged_by_its_correlations() -> None:
    table = evidence(errors={"whisq": 0.2, "bad": 2.0, "constant": 0.2})
    fold = np.arange(len(table.truth)) % 5
    means = np.stack([table.truth[fold != one].mean(axis=0) for one in range(5)])[fold]
    turned = -table.predictions["bad"]
    rows = {**table.predictions, "bad": turned, "constant": np.broadcast_to(means, turned.shape).copy()}
    found = judge(replace(table, predictions=rows, compared=("bad",), constant="constant"))
    (flag,) = found.rows["bad"].flags
    assert "MSE" in flag
    assert "SRCC" not in flag
    assert found.rows["constant"].summaries[METRIC].mean < found.rows["whisq"].summaries[METRIC].mean
    assert found.notes[0].startswith("'constant' predicts another constant in each fold, a lower one where")


def rated(table: Evidence, shift: float, numbers: list[int]) -> Evidence:
    """Ratings about the labels, moved by `shift`: so many of the items in turn."""
    draw = np.random.default_rng(3)
    sizes = [numbers[at % len(numbers)] for at in range(len(table.groups))]
    ratings = [draw.normal(0, 0.5, (size, 2)) for size in sizes]
    return replace(table, ratings=tuple(of - of.mean(axis=0) + table.truth[at] + shift if len(of) else of
                                        for at, of in enumerate(ratings)))  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_ratings_that_do_not_make_the_labels_or_not_of_all_items_are_told() -> None:
    table = evidence(errors=BAD)
    whole, moved, partly = (judge(rated(table, *how)) for how in ((0, [4]), (0.5, [4]), (0, [4, 1, 0])))
    alone = judge(rated(table, 0, [1, 0]))
    assert whole.notes == partly.notes == ()
    assert moved.notes == (
        "96 of 96 labels are not the means of their ratings (up to 0.50 apart): human agreement is that of raters who "
        "may not be those of the labels.",
    )
    assert "Human agreement is that on the 32 of 96 items that have 2 ratings." in partly.design
    assert not any(text.startswith(("Human agreement", "No human")) for text in whole.design)
    assert "No human agreement: no item has 2 ratings." in alone.design
    assert alone.panel == {}


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        ("per_head", "With clip_scope per_head this must not happen: distrust these runs."),
        ("global", "clip_scope global couples the two heads' steps."),
    ],
)
def test_rows_that_change_the_ta_side_only_must_have_the_same_omq(scope: str, why: str) -> None:
    table = evidence(errors={"whisq": 0.2, "same": 0.2, "moved": 0.2})
    rows = dict(table.predictions)
    for name in ("same", "moved"):
        rows[name] = rows[name].copy()
        rows[name][:, :, 0] = rows["whisq"][:, :, 0]
    rows["moved"][3, 7, 0] += 0.125
    found = judge(replace(table, predictions=rows, ta_only=("same", "moved"), clip_scope=scope))
    assert found.rows["whisq"].omq_difference is None
    assert found.rows["same"].omq_difference == 0
    assert found.rows["moved"].omq_difference == pytest.approx(0.125)
    assert found.notes == (
        "OMQ of 'moved' differs from that of 'whisq' by up to 0.125, although only the TA side was changed. " + why,
    )


def test_the_csv_convention_reaches_summaries_and_comparisons() -> None:
    table = evidence(errors=BAD)
    truth = {system: (1.0 + index % 5, 5.0 - index % 4) for index, system in enumerate(sorted(set(table.groups)))}
    clips, csv = judge(table), judge(replace(table, group_truth=truth))
    for name in METRICS:
        same = clips.rows["bad"].summaries[name] == csv.rows["bad"].summaries[name]
        assert same == (".system." not in name)
    comparison = csv.rows["bad"].comparisons["ta.system.mse"]
    summaries = [csv.rows[row].summaries["ta.system.mse"].mean for row in ("bad", "whisq")]
    assert comparison.mean == pytest.approx(summaries[0] - summaries[1])


def test_the_judgement_carries_what_a_protocol_must_name() -> None:
    found = judge(evidence(errors=BAD))
    assert (found.metric, found.margin, found.reference) == (METRIC, 0.01, "whisq")
    assert (found.num_clips, found.num_systems) == (96, 12)
    assert "verdicts hold for this training set and for ratings such as these" in found.procedure
    assert found.design[0].startswith("2 comparisons need at least 7 seeds")


def test_any_targets_groups_and_metrics_are_judged_and_a_mean_needs_no_truth() -> None:
    generator = np.random.default_rng(0)
    groups = tuple(f"task {index % 20}" for index in range(400))
    correct = (generator.random((5, 400, 1)) < 0.6).astype(float)
    better = np.maximum(correct, generator.random((5, 400, 1)) < 0.5)
    table = Evidence(
        predictions={"base": correct, "prompted": better},
        seeds=dict.fromkeys(("base", "prompted"), tuple(range(5))),
        groups=groups,
        metric="accuracy.utterance.mean",
        margin=0.01,
        reference="base",
        compared=("prompted",),
        targets=("accuracy",),
        group_noun="tasks",
        num_seeds=None,
    )
    found = judge(table)
    assert list(found.rows["base"].summaries) == ["accuracy.utterance.mean"]
    assert found.rows["base"].summaries["accuracy.utterance.mean"].mean == pytest.approx(correct.mean())
    decision = found.rows["prompted"].decision
    assert decision is not None
    assert (decision.verdict, decision.reason) == ("inconclusive", "about 6 seeds would settle this (80 % power)")
    seven = {name: np.concatenate([values, values[:2]]) for name, values in table.predictions.items()}
    again = replace(table, predictions=seven, seeds=dict.fromkeys(seven, tuple(range(7))))
    for lower, word in ((False, "better"), (True, "worse")):
        decision = judge(replace(again, lower_is_better=lower)).rows["prompted"].decision
        assert decision is not None
        assert (decision.verdict, decision.reason) == (word, "beyond the noise of seeds and tasks")


@pytest.mark.parametrize("metric", METRICS + EXTRA)
def test_every_metric_of_the_table_can_be_the_primary_one(metric: str) -> None:
    found = judge(replace(evidence(errors=BAD), metric=metric, metrics=(metric,)))
    decision = found.rows["bad"].decision
    assert decision is not None
    assert decision.verdict in ("worse", "these systems only")


def test_a_metric_that_the_table_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown metric 'ta.utterance.src'. Did you mean 'ta.utterance.srcc'"):
        judge(replace(evidence(errors=BAD), metric="ta.utterance.src"))


def test_means_of_groups_that_beat_the_reference_are_an_alarm() -> None:
    table = evidence(errors={"whisq": 0.9, "lookup": 0.01, "declared": 0.9})
    found = judge(replace(table, compared=("declared",), group_means="lookup"))
    assert found.notes[0].startswith(
        "Control alarm: 'lookup', which knows only which of the test systems an item is of, is better than 'whisq' on "
    )
