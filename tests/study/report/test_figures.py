"""The figures' data, and that every figure can be shown alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.results import synthetic_results, untrained, with_cell

from study.config import Sweep
from study.judgement import Judgement
from study.report import figures
from study.report.comparison_figures import paired_values
from study.report.run_figures import TERMS, curves_data, scatter_data, system_errors_data
from study.report.style import COLOURS, style_of, translucent
from study.report.sweep_figure import positions
from study.stats import Interval, summarise
from study.tables import judge_table

RESULTS = synthetic_results(num_seeds=4, num_epochs=6)
JUDGEMENT = judge_table(RESULTS)
FIGURES = figures(untrained(RESULTS, "w2v2_modernbert"), JUDGEMENT)


def test_every_figure_exists_under_its_name():
    assert list(FIGURES) == ["differences", "seeds", "curves", "scatter", "systems"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shown_alone_says_that_its_data_are_simulated(name):
    assert "— simulated data † — untrained encoder ‡" in FIGURES[name].layout.title.text


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_plain_json_that_an_older_plotly_reads_too(name):
    text = FIGURES[name].to_json()
    assert "bdata" not in text
    assert "NaN" not in text
    assert json.loads(text)["data"]


def test_rows_with_untrained_encoders_carry_their_mark_in_the_figures():
    for name in ("differences", "seeds", "curves", "scatter", "systems"):
        assert "Wav2Vec2 + ModernBERT \\u2020\\u2021" in json.dumps(json.loads(FIGURES[name].to_json())), name


def test_without_runs_there_is_nothing_to_draw():
    empty = RESULTS
    for row in RESULTS.file.rows:
        for position in range(4):
            empty = with_cell(empty, row.id, position, "missing", "not run yet")
    assert figures(empty, None) == {}


def test_without_a_judgement_the_other_figures_are_still_drawn():
    assert list(figures(RESULTS, None)) == ["seeds", "curves", "scatter", "systems"]


def test_each_defined_difference_is_shown_with_both_intervals_and_its_verdict():
    figure = FIGURES["differences"]
    shown = [row for row in RESULTS.file.rows if row.id not in ("whisq", "constant")]
    words = {row.id: JUDGEMENT.rows[row.id].decision for row in shown}
    assert [note.text for note in figure.layout.annotations][: len(words)] == [
        decision.verdict if decision else "exploratory" for decision in words.values()
    ]
    place = [row.id for row in shown].index("cross")
    comparison = JUDGEMENT.primary("cross")
    decision = JUDGEMENT.rows["cross"].decision
    for trace, interval in zip(figure.data, (decision.interval, comparison.seeds, comparison.systems), strict=True):
        assert trace.x[place] == comparison.mean
        assert trace.x[place] - trace.error_x.arrayminus[place] == pytest.approx(interval.low)
        assert trace.x[place] + trace.error_x.array[place] == pytest.approx(interval.high)


def with_agreement(mean: float, low: float, high: float) -> Judgement:
    return replace(JUDGEMENT, panel={JUDGEMENT.metric: Interval(mean, np.nan, 0, low, high)})


def test_the_human_agreement_is_a_line_of_the_differences_with_its_interval():
    reference = JUDGEMENT.rows["whisq"].summaries[JUDGEMENT.metric].mean
    figure = figures(RESULTS, with_agreement(reference + 0.03, reference + 0.01, reference + 0.04))["differences"]
    agreement, place = figure.data[-1], len(figure.layout.yaxis.ticktext) - 1
    assert figure.layout.yaxis.ticktext[place] == "Another panel of raters"
    assert (agreement.x[0], agreement.y[0]) == (pytest.approx(0.03), place)
    assert (agreement.error_x.arrayminus[0], agreement.error_x.array[0]) == pytest.approx((0.02, 0.01))
    assert figure.layout.shapes[-1].x0 == pytest.approx(0.03)
    assert figure.layout.annotations[-1].text == "human agreement"


def test_an_agreement_far_from_the_rows_is_an_arrow_and_does_not_squeeze_them():
    figure, alone = (figures(RESULTS, judged)["differences"] for judged in (with_agreement(9, 8, 9.5), JUDGEMENT))
    assert figure.layout.xaxis.range == alone.layout.xaxis.range
    reference = JUDGEMENT.rows["whisq"].summaries[JUDGEMENT.metric].mean
    ends = [f"{end - reference:+.3f}" for end in (9, 8, 9.5)]
    assert figure.layout.annotations[-1].text == f"{ends[0]} [{ends[1]}, {ends[2]}] ▸"


def test_untrained_rows_do_not_set_the_ranges_that_rows_share():
    without = figures(RESULTS, JUDGEMENT)
    far = JUDGEMENT.primary("w2v2_modernbert").mean
    low, high = FIGURES["differences"].layout.xaxis.range
    assert without["differences"].layout.xaxis.range[0] < far < low < high
    assert FIGURES["differences"].layout.annotations[-1].text == f"◂ {far:+.3f}".replace("-", "−")
    assert FIGURES["systems"].layout.coloraxis.cmax < without["systems"].layout.coloraxis.cmax
    curves = {key: [{**record, "huber_omq": 50.0} for record in curve] for key, curve in RESULTS.curves.items()
              if key[0] == "w2v2_modernbert"}  # fmt: skip
    loud = untrained(replace(RESULTS, curves=RESULTS.curves | curves), "w2v2_modernbert")
    assert figures(loud, None)["curves"].layout.yaxis.range[1] < 5


def test_one_seed_has_no_panel():
    assert "seeds" not in figures(synthetic_results(num_seeds=1), None)


def test_a_swept_setting_is_drawn_with_intervals_and_the_reference_as_a_band():
    values = {"no_ot": 0, "whisq": 4.057e-5, "cross": 0.1}
    swept = Sweep("ot", "Weight of OT", "loss.ot_weight", tuple(values.values()), tuple(values))
    figure = figures(replace(RESULTS, file=replace(RESULTS.file, sweeps=(swept,))), None)["sweeps"]
    (trace,) = figure.data
    of_rows = RESULTS.cells.groupby("row")["ta.utterance.srcc"].mean()
    assert list(trace.y) == pytest.approx([of_rows[row] for row in values])
    assert list(figure.layout.xaxis.ticktext) == ["0", "4.057e-05", "0.1"]
    band = summarise(RESULTS.cells.loc[RESULTS.cells["row"] == "whisq", "ta.utterance.srcc"].to_numpy())
    assert (figure.layout.shapes[0].y0, figure.layout.shapes[0].y1) == pytest.approx((band.low, band.high))

    lowest = min(trace.y)
    for mean, drawn, said in ((lowest, 1, " Dotted: another panel of raters, "), (9, 0, " Another panel of raters, ")):
        judged = with_agreement(mean, mean - 0.1, mean + 0.1)
        figure = figures(replace(RESULTS, file=replace(RESULTS.file, sweeps=(swept,))), judged)["sweeps"]
        assert [line.y0 for line in figure.layout.shapes if line.line.dash == "dot"] == [mean] * drawn
        assert f"{said}{mean:.3f} [{mean - 0.1:.3f}, {mean + 0.1:.3f}]." in figure.layout.title.text


def test_values_of_a_sweep_stand_by_their_logarithm_where_they_span_much_and_zero_has_its_own_place():
    assert positions((0, 0.001, 0.1)) == [-3.5, -3, -1]
    assert positions((1, 2, 30)) == [1, 2, 30]
    assert positions((-1, 0.001, 1)) == [-1, 0.001, 1]
    assert positions(("sgd", "adam")) == [0, 1]
    assert positions((False, True)) == [0, 1]


def test_rows_are_paired_by_common_seeds_and_only_where_both_are_done():
    partial = with_cell(with_cell(RESULTS, "cross", 0, "failed", "x"), "whisq", 2, "failed", "x")
    pairs = paired_values(partial)
    assert list(pairs["cross"].index) == [1, 3]
    cells = partial.cells.set_index(["row", "position"])["ta.utterance.srcc"]
    assert list(pairs["cross"]["row"]) == [cells["cross", 1], cells["cross", 3]]
    assert list(pairs["cross"]["reference"]) == [cells["whisq", 1], cells["whisq", 3]]
    assert "constant" not in pairs
    assert "aa" not in pairs, "it has other seeds"


def test_curves_are_means_over_seeds_and_show_transport_only_where_it_has_a_weight():
    data = curves_data(RESULTS)
    assert set(data.loc[data["row"] == "no_ot", "term"]) == {"huber_omq", "huber_ta"}
    assert set(data.loc[data["row"] == "whisq", "term"]) == set(TERMS)
    assert "constant" not in set(data["row"])
    third = data[(data["row"] == "whisq") & (data["term"] == "ot") & (data["epoch"] == 3)].iloc[0]
    values = [RESULTS.curves[("whisq", seed)][2]["ot"] for seed in range(4)]
    assert third["mean"] == pytest.approx(np.mean(values))
    assert (third["min"], third["max"]) == (min(values), max(values))


def test_scatter_holds_every_utterance_and_every_system_of_both_targets():
    points = scatter_data(RESULTS, "cross")
    assert {key: len(value.names) for key, value in points.items()} == {
        ("omq", "utterance"): 48,
        ("omq", "system"): 6,
        ("ta", "utterance"): 48,
        ("ta", "system"): 6,
    }
    np.testing.assert_allclose(points["ta", "utterance"].predicted, RESULTS.predictions["cross"][:, :, 1].mean(axis=0))
    of_first = np.array(RESULTS.systems) == points["ta", "system"].names[0]
    assert points["ta", "system"].truth[0] == pytest.approx(RESULTS.truth[of_first, 1].mean())


def test_system_errors_are_predicted_minus_true_in_the_order_of_the_truth():
    errors = system_errors_data(RESULTS)["omq"]
    systems = np.array(RESULTS.systems)
    truth = {name: RESULTS.truth[systems == name, 0].mean() for name in errors.columns}
    assert list(truth.values()) == sorted(truth.values())
    constant = {name: RESULTS.truth[:, 0].mean() - value for name, value in truth.items()}
    assert dict(errors.loc["constant"]) == pytest.approx(constant)


def test_the_given_system_truth_is_used_when_the_table_is_scored_so():
    given = dict.fromkeys(RESULTS.systems, (2.0, 4.0))
    points = scatter_data(replace(RESULTS, system_truth=given), "cross")
    assert set(points["omq", "system"].truth) == {2.0}
    assert set(points["ta", "system"].truth) == {4.0}


def test_no_two_rows_look_alike():
    styles = [tuple(style_of(index).values()) for index in range(21)]
    assert len(set(styles)) == 21
    assert len(set(styles[:7])) == len(COLOURS)
    assert translucent("#0072b2", 0.5) == "rgba(0, 114, 178, 0.5)"
