"""The table in five formats: what a reader and a program find in it."""

import csv
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import closed_bonferroni
from helpers.results import lines_of, synthetic_results, untrained, wide, with_cell
from scipy import stats

from study.published import PUBLISHED
from study.results import Declared
from study.tables import judge_table
from study.tables.formats import FORMATS, long_csv, wide_csv, write_tables
from study.tables.frame import table_frame
from study.tables.html import html
from study.tables.latex import escape, latex
from study.tables.markdown import markdown
from study.tables.views import columns, views
from whisq_core.metrics import EXTRA, METRICS

RESULTS = synthetic_results(num_seeds=8)
JUDGEMENT = judge_table(RESULTS)


def all_texts(results, judgement=None):
    frame = table_frame(results, judgement)
    return {name: render(frame) for name, render in FORMATS.items()}


def markdown_cells(text, label):
    """The cells of the first Markdown line that begins with this label, in each table that has one."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith(f"| {label} ")]
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_writing_leaves_five_whole_files_and_nothing_else(tmp_path):
    paths = write_tables(RESULTS, None, tmp_path)
    assert {path.name for path in paths} == {"table.md", "table.tex", "table.html", "table.csv", "table_long.csv"}
    assert set(tmp_path.iterdir()) == set(paths)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_each_row_has_mean_deviation_and_interval_over_its_seeds():
    metric = "ta.system.ktau"
    values = RESULTS.cells.loc[RESULTS.cells["row"] == "cross", metric].to_numpy()
    interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    line = wide(RESULTS)["cross"]
    found = [float(line[name]) for name in (metric, f"{metric}.sd", f"{metric}.low", f"{metric}.high")]
    np.testing.assert_allclose(found, [values.mean(), values.std(ddof=1), *interval], rtol=1e-12)


def test_the_wide_csv_has_one_line_per_row_in_the_order_of_the_file():
    lines = lines_of(wide_csv(table_frame(RESULTS, JUDGEMENT)))
    assert [line["row"] for line in lines] == [row.id for row in RESULTS.file.rows]
    assert [line["section"] for line in lines] == [row.section for row in RESULTS.file.rows]
    assert set(METRICS + EXTRA) <= set(lines[0])


def test_the_long_csv_gives_back_every_number_to_the_last_digit():
    lines = lines_of(long_csv(RESULTS))
    assert len(lines) == len(RESULTS.cells) * len(METRICS + EXTRA)
    cells = RESULTS.cells.set_index(["row", "seed"])
    for line in lines:
        expected = cells.loc[(line["row"], int(line["seed"])), line["metric"]]
        assert float(line["value"] or "nan") == pytest.approx(expected, abs=0, nan_ok=True)


def test_the_paper_stands_beside_ours_as_it_was_printed():
    line = wide(RESULTS)["mlp_only"]
    assert {name: line[f"{name}.quoted"] for name in METRICS} == dict(PUBLISHED["mlp_only"].values)
    assert wide(RESULTS)["constant"]["ta.utterance.srcc.quoted"] == ""
    assert "| _published: WhisQ paper, Table II_ " in markdown(table_frame(RESULTS, None))


def test_every_format_shows_every_column_that_readers_are_to_see():
    frame = table_frame(RESULTS, JUDGEMENT)
    texts = all_texts(RESULTS, JUDGEMENT)
    for view in views(frame):
        header = "| " + " | ".join(column.heading for column in view.columns.values()) + " |"
        assert header in [re.sub(r"\| +", "| ", re.sub(r" +\|", " |", line)) for line in texts["table.md"].splitlines()]
        assert all(f">{column.heading}</th>" in texts["table.html"] for column in view.columns.values())


def test_every_number_has_one_name_in_the_csv():
    fields = [field for column in columns(table_frame(RESULTS, JUDGEMENT)).values() for field in column.fields]
    assert len(fields) == len(set(fields))
    assert next(csv.reader(io.StringIO(wide_csv(table_frame(RESULTS, JUDGEMENT))))) == fields


def test_csv_bytes_do_not_depend_on_times_or_on_the_machine():
    later = replace(
        RESULTS, cells=RESULTS.cells.assign(seconds=99.0, run_id="other"), manifest={"made_at": "tomorrow", "cores": 64}
    )
    assert wide_csv(table_frame(RESULTS, JUDGEMENT)) == wide_csv(table_frame(later, JUDGEMENT))
    assert long_csv(RESULTS) == long_csv(later)


def test_an_undefined_number_is_a_dash_for_people_and_empty_for_programs():
    texts = all_texts(RESULTS, JUDGEMENT)
    verdicts, omq, *_ = markdown_cells(texts["table.md"], "Constant (train mean) †")
    assert verdicts[2] == "–"
    assert omq[2] != "–"
    assert omq[3:] == ["–"] * 3 + [omq[6]] + ["–"] * 4
    assert wide(RESULTS)["constant"]["ta.utterance.srcc"] == ""
    assert all("nan" not in text for text in texts.values())
    assert "nan" not in long_csv(RESULTS)


def test_one_undefined_seed_makes_the_mean_undefined():
    cells = RESULTS.cells.copy()
    cells.loc[(cells["row"] == "cross") & (cells["position"] == 1), "ta.utterance.srcc"] = np.nan
    line = wide(replace(RESULTS, cells=cells))["cross"]
    assert line["ta.utterance.srcc"] == ""
    assert line["ta.utterance.lcc"] != ""


def test_a_failed_cell_is_counted_and_its_reason_is_told_in_every_format():
    failed = with_cell(RESULTS, "cross", 3, "failed", "loss is not finite (epoch 7) & <stopped>")
    texts = all_texts(failed, judge_table(failed))
    assert markdown_cells(texts["table.md"], "Cross-Attention w/ OT †")[0][1] == "7 of 8, 1 failed"
    said = "Cross-Attention w/ OT, seed 3: failed (loss is not finite (epoch 7) & <stopped>)"
    assert f"- {said.replace('<', '&lt;')}" in texts["table.md"]
    assert said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in texts["table.html"]
    assert escape(said) in texts["table.tex"]
    assert wide(failed)["cross"]["seeds_failed"] == "1"
    states = {(line["row"], line["seed"]): line["state"] for line in lines_of(long_csv(failed))}
    assert states[("cross", "3")] == "failed"


def test_a_row_whose_cells_have_all_failed_says_so_where_its_numbers_would_be():
    failed = RESULTS
    for position in range(8):
        failed = with_cell(failed, "vanilla", position, "failed", "out of memory")
    _, omq, *_ = markdown_cells(markdown(table_frame(failed, None)), "Vanilla Co-Attention w/ OT †")
    assert omq[1:] == ["0 of 8, 8 failed"] + ["failed"] * 9


def test_a_growing_table_shows_what_is_there():
    growing = RESULTS
    for row in RESULTS.file.rows[1:]:
        for position in range(8):
            growing = with_cell(growing, row.id, position, "missing", "not run yet")
    growing = with_cell(growing, "whisq", 7, "missing", "not run yet")
    texts = all_texts(growing)
    first, *_ = markdown_cells(texts["table.md"], "WhisQ w/ OT (Proposed) †")
    assert first[1] == "7 of 8"
    assert float(first[2].split(" ± ")[0]) == pytest.approx(
        float(wide(growing)["whisq"]["ta.utterance.srcc"]), abs=5e-4
    )
    assert markdown_cells(texts["table.md"], "MLP Only †")[0][1:3] == ["0 of 8", ""]
    assert "Cells without a result" not in texts["table.md"]


def test_a_single_seed_is_shown_without_a_deviation():
    single = synthetic_results(num_seeds=1)
    first, *_ = markdown_cells(markdown(table_frame(single, None)), "WhisQ w/ OT (Proposed) †")
    assert "±" not in first[2]
    assert wide(single)["whisq"]["ta.utterance.srcc.sd"] == ""


def test_results_of_an_edited_row_are_left_out_with_the_reason():
    edited = with_cell(RESULTS, "cross", 0, "missing", "the row has changed: train.epochs: 5 -> 6")
    assert "- Cross-Attention w/ OT, seed 0: missing (the row has changed: train.epochs: 5 -> 6)" in markdown(
        table_frame(edited, None)
    )


def test_simulated_data_and_untrained_encoders_are_marked_wherever_a_number_stands():
    marked = table_frame(untrained(RESULTS, "w2v2_modernbert"), JUDGEMENT)
    text = markdown(marked)
    assert text.startswith("# table2: dev split of synthetic — simulated data † — untrained encoder ‡\n")
    assert len(markdown_cells(text, "Wav2Vec2 + ModernBERT †‡")) == 4
    assert len(markdown_cells(text, "Constant (train mean) †")) == 4
    assert html(marked).count("simulated data †") >= 5
    assert latex(marked).count(r"simulated data $\dagger$") == 2
    assert r"Wav2Vec2 + ModernBERT\textsuperscript{$\dagger$$\ddagger$}" in latex(marked)
    line = {line["row"]: line for line in lines_of(wide_csv(marked))}["w2v2_modernbert"]
    assert line["marks"] == "simulated data untrained encoder"


def test_every_format_of_a_cross_validated_table_says_that_its_searches_were_not_nested():
    base = RESULTS.file.base
    crossed = replace(RESULTS.file, base=base.model_copy(update={"data": base.data.model_copy(update={"folds": 5})}))
    tuned = replace(RESULTS, file=replace(crossed, hyperparameters="tuned"), trials={"whisq": 20, "constant": 0})
    texts = all_texts(tuned)
    for name in ("table.md", "table.html", "table.tex"):
        said = " ".join(texts[name].split())
        assert "Search not nested: settings of such a row were searched on clips that are scored here" in said, name
    assert "WhisQ w/ OT (Proposed) †§" in texts["table.md"]
    assert r"WhisQ w/ OT (Proposed)\textsuperscript{$\dagger$\S{}}" in texts["table.tex"]
    marks = {line["row"]: line["marks"] for line in lines_of(texts["table.csv"])}
    assert marks["whisq"] == "simulated data search not nested"
    assert {mark for row, mark in marks.items() if row != "whisq"} == {"simulated data"}
    of_cells = {(line["row"], line["search_not_nested"]) for line in lines_of(long_csv(tuned))}
    assert of_cells == {(row.id, "yes" if row.id == "whisq" else "no") for row in RESULTS.file.rows}
    shared = all_texts(replace(RESULTS, file=crossed))
    for name in ("table.md", "table.html", "table.tex"):
        assert "No search was nested in the folds: settings that one chose on these" in " ".join(shared[name].split())
        assert "nested" not in all_texts(RESULTS)[name]


def test_nothing_is_marked_on_real_data_with_trained_encoders():
    real = synthetic_results(num_seeds=2, simulated=False)
    for text in all_texts(real).values():
        assert "†" not in text
        assert "simulated" not in text.lower()


def test_the_verdict_table_gives_the_judgement():
    text = markdown(table_frame(RESULTS, JUDGEMENT))
    for row in RESULTS.file.rows:
        judged = JUDGEMENT.rows[row.id]
        cells = markdown_cells(text, f"{row.label} †")[0]
        expected = f"**{judged.decision.verdict}**: {judged.decision.reason}" if judged.decision else "exploratory"
        assert cells[-1] == ("**reference**" if row.id == "whisq" else expected)
    line = wide(RESULTS, JUDGEMENT)["mlp_only"]
    comparison = JUDGEMENT.primary("mlp_only")
    assert (line["verdict"], line["reference"], line["metric"]) == ("worse", "whisq", "ta.utterance.srcc")
    assert float(line["difference"]) == comparison.mean
    assert float(line["systems_low"]) == comparison.systems.low
    assert float(line["p_holm"]) == JUDGEMENT.rows["mlp_only"].decision.p_holm
    assert (float(line["both_low"]), float(line["both_level"])) == (
        JUDGEMENT.rows["mlp_only"].decision.interval.low,
        JUDGEMENT.rows["mlp_only"].decision.level,
    )


def test_every_adjusted_p_can_be_computed_again_from_the_csv():
    declared = [line for name, line in wide(RESULTS, JUDGEMENT).items() if name in JUDGEMENT.compared]
    largest = [max(float(line[name]) for name in ("p_seed", "p_system", "p_both")) for line in declared]
    assert [float(line["p_holm"]) for line in declared] == pytest.approx(closed_bonferroni(largest))
    assert len(declared) == 6


def test_readers_see_the_combined_interval_with_its_level_first():
    cells = markdown_cells(markdown(table_frame(RESULTS, JUDGEMENT)), "MLP Only †")[0]
    interval, level = JUDGEMENT.rows["mlp_only"].decision.interval, JUDGEMENT.rows["mlp_only"].decision.level
    assert cells[6] == f"[{interval.low:.3f}, {interval.high:.3f}] {100 * level:.3g} %"
    assert "95 % seeds" not in markdown(table_frame(RESULTS, JUDGEMENT))


def test_comparisons_declared_after_the_runs_are_exploratory_in_every_format():
    late = replace(RESULTS, declared=Declared(12, ("7 rows against 'whisq'",)))
    texts = all_texts(late, judge_table(late))
    assert "**exploratory (worse)**: changed after 12 runs; beyond the noise" in texts["table.md"]
    assert "exploratory (worse)</span>" in texts["table.html"]
    assert r"\bfseries" not in texts["table.tex"]
    assert wide(late, judge_table(late))["mlp_only"]["declared"] == "changed after 12 runs"
    assert wide(RESULTS, JUDGEMENT)["mlp_only"]["declared"] == "beforehand"
    said = "DECLARED ANEW AFTER 12 OF THEIR RUNS (then: 7 rows against 'whisq')"
    assert all(said in texts[name].replace("&#x27;", "'") for name in ("table.md", "table.tex", "table.html"))


def test_what_was_not_tuned_and_what_was_fitted_on_less_is_said():
    text = markdown(table_frame(RESULTS, JUDGEMENT))
    assert "- Official Baseline sets its own learning rate, momentum, batch size: these were NOT TUNED here.\n" in text
    assert "- Official Baseline is stopped by patience on 20 % of the training clips, and so fitted on fewer" in text


def test_without_a_judgement_there_are_numbers_and_no_verdicts():
    lines = wide(RESULTS)
    assert {line["verdict"] for line in lines.values()} == {"", "reference"}
    assert all(line["difference"] == "" for line in lines.values())


def test_a_column_that_is_empty_in_every_row_is_left_out():
    frame = table_frame(RESULTS, JUDGEMENT)
    assert "published" in _headings(frame)
    sections = tuple(
        replace(section, rows=tuple(replace(row, published=None) for row in section.rows)) for section in frame.sections
    )
    assert "published" not in _headings(replace(frame, sections=sections))
    assert "difference" not in _headings(table_frame(RESULTS, None))


def _headings(frame):
    return [column.heading for column in views(frame)[0].columns.values()]


def test_numbers_are_shown_with_three_decimals_and_kept_with_all():
    line = wide(RESULTS)["whisq"]
    shown = markdown_cells(markdown(table_frame(RESULTS, None)), "WhisQ w/ OT (Proposed) †")[0][2]
    mean, deviation = (float(text) for text in shown.split(" ± "))
    assert mean == round(float(line["ta.utterance.srcc"]), 3)
    assert deviation == round(float(line["ta.utterance.srcc.sd"]), 3)
    assert not math.isclose(float(line["ta.utterance.srcc"]), mean, abs_tol=1e-9)


def test_the_protocol_names_every_precision_and_device_of_a_table() -> None:
    results = replace(synthetic_results(), computed_in=("bf16 on cpu", "float32 on cpu"))

    assert ", computed in bf16 on cpu and float32 on cpu, 148 epochs" in markdown(table_frame(results, None))
