"""The audit of the paper's table and claims, and of any table given as CSV."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run
from scipy import stats

from study.audit import Audit, audit
from study.audit.cells import fitting_systems, sampling_interval
from study.audit.table import TableLine
from whisq_core.errors import InputError


def _table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _mistakes(path: Path, systems: int | None = 29) -> list[str]:
    with pytest.raises(InputError) as caught:
        audit(path, systems)
    return [mistake.replace(f"{path.parent}/", "") for mistake in caught.value.mistakes]


# ---- the paper


def _cells(verdict: str) -> list[tuple[str, str, str]]:
    return [(cell.row, cell.metric, cell.printed) for cell in audit().cells if cell.verdict == verdict]


def test_exactly_seven_cells_of_the_paper_are_not_attainable() -> None:
    assert set(_cells("not attainable by one run")) == {
        ("vanilla", "omq.system.srcc", "0.8757"),
        ("vanilla", "ta.system.srcc", "0.8321"),
        ("vanilla", "ta.system.ktau", "0.6234"),
        ("cross", "ta.system.srcc", "0.8156"),
        ("cross", "ta.system.ktau", "0.5987"),
        ("mlp_only", "ta.system.srcc", "0.7865"),
        ("mlp_only", "ta.system.ktau", "0.5678"),
    }


def test_the_eighth_cell_is_attainable_only_when_its_last_digit_was_cut() -> None:
    assert _cells("truncated") == [("vanilla", "omq.system.ktau", "0.6896")]


def test_six_digit_rows_on_the_same_clips_lie_on_the_grid_of_29_systems() -> None:
    cells = [cell for cell in audit().cells if cell.row in ("official_baseline_readme", "mos_eval_fork")]
    assert {cell.verdict for cell in cells if cell.chance is not None} == {"rounded"}
    assert any(
        cell.verdict == "not attainable by one run" for cell in audit(None, 30).cells if cell.row == "mos_eval_fork"
    )


def test_29_systems_leave_the_published_correlation_a_wide_interval() -> None:
    low, high = sampling_interval("srcc", 0.8813, 29)
    assert (round(low, 3), round(high, 3)) == (0.73, 0.95)


@pytest.mark.parametrize(("statistic", "value", "num_systems"), [("srcc", 1.0, 29), ("ktau", 0.5, 4), ("lcc", 0.5, 3)])
def test_an_interval_that_is_undefined_is_nan(statistic: str, value: float, num_systems: int) -> None:
    assert all(bound != bound for bound in sampling_interval(statistic, value, num_systems))


@pytest.mark.parametrize("statistic", ["lcc", "srcc", "ktau"])
def test_intervals_cover_the_correlation_of_normal_variables(statistic: str) -> None:
    draw, rho, num_systems = np.random.default_rng(0), 0.6, 29
    true = {"lcc": rho, "srcc": 6 / np.pi * np.arcsin(rho / 2), "ktau": 2 / np.pi * np.arcsin(rho)}[statistic]
    compute = {"lcc": stats.pearsonr, "srcc": stats.spearmanr, "ktau": stats.kendalltau}[statistic]
    covered = 0
    for _ in range(400):
        x, y = draw.normal(size=(2, num_systems))
        low, high = sampling_interval(statistic, float(compute(x, rho * x + np.sqrt(1 - rho**2) * y)[0]), num_systems)
        covered += low <= true <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_of_spearman_is_that_of_bonett_and_wright() -> None:
    low, high = sampling_interval("srcc", 0.5, 43)
    half = stats.norm.ppf(0.975) * np.sqrt((1 + 0.5**2 / 2) / 40)
    assert (low, high) == pytest.approx((np.tanh(np.arctanh(0.5) - half), np.tanh(np.arctanh(0.5) + half)))


def test_the_text_names_every_finding() -> None:
    text = audit().text()
    for part in (
        "How many runs are behind a number is not said",
        "36 rank correlations over 29 systems: 28 attainable, 7 not attainable by one run, 1 attainable only when cut.",
        "SRCC of 4 digits, 29 systems                      30.45 %",
        "Vanilla Co-Attention w/ OT   OMQ S-SRCC  0.8757   nearest 0.875369 | 0.875862; a tied pair or a mean of 3",
        "MLP Only                                   none (of 4 to 47)",
        "OMQ U   at most 0.8262 (WhisQ w/ OT (Proposed)); worse than that constant: Wav2Vec2 + ModernBERT",
        "WhisQ w/o OT                               OMQ U   0.2121, at least 60 %",
        "WhisQ w/ OT (Proposed)                     OMQ S-SRCC    0.8813  [0.730, 0.950]    attainable",
        "OMQ U-SRCC, OMQ U-KTAU, TA U-SRCC, TA U-KTAU: ratings of clips tie, and how is not printed.",
    ):
        assert part in text


def test_csv_and_json_hold_the_same_cells() -> None:
    found = audit()
    lines = list(csv.DictReader(io.StringIO(found.csv())))
    cells = json.loads(found.json())["cells"]
    assert len(lines) == len(cells) == len(found.cells) == 9 * 16
    assert [line["verdict"] for line in lines] == [cell["verdict"] for cell in cells]
    assert [line["printed"] for line in lines] == [cell["printed"] for cell in cells]


def test_the_published_rows_fit_29_systems_or_no_number_of_them() -> None:
    fitting = {each.row: each.numbers for each in audit().fitting}
    none = {"Vanilla Co-Attention w/ OT", "Cross-Attention w/ OT", "MLP Only"}
    assert {row: numbers for row, numbers in fitting.items() if row not in none} == dict.fromkeys(
        fitting.keys() - none, (29,)
    )
    assert all(fitting[row] == () for row in none)


# ---- any table


def _verdicts(found: Audit) -> list[tuple[str, str, str]]:
    return [(cell.label, cell.metric, cell.verdict) for cell in found.cells if cell.chance is not None]


def test_any_table_is_audited_with_its_number_of_systems(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        "Model,OQM S-SRCC↑,ta.system.ktau,TA U-SRCC,Params\nours,0.8757,0.6749,0.5,3M\nbaseline,–,-0.0690,0.4,1M\n",
    )
    found = audit(path, 29, runs=1)
    assert _verdicts(found) == [
        ("ours", "omq.system.srcc", "not attainable"),
        ("ours", "ta.system.ktau", "rounded"),
        ("baseline", "ta.system.ktau", "rounded"),
    ]
    assert "Columns that are no metrics were not looked at: Params." in found.text()
    assert json.loads(found.json())["other_columns"] == ["Params"]


def test_lines_may_have_their_own_number_of_systems_and_accept_ties(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,systems,ties,TA S-SRCC\na,29,0,0.8321\nb,29,1,0.8321\nc,5,0,0.9000\nd,5,0,0.8500\n")
    assert [verdict for _, _, verdict in _verdicts(audit(path, runs=1))] == [
        "not attainable",
        "rounded",
        "rounded",
        "not attainable",
    ]


def test_means_of_runs_are_judged_as_means(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,runs,TA S-SRCC\none,1,0.8757\nthree,3,0.8757\nnobody,,0.8757\nsaid,unknown,0.8757\n")
    verdicts = [verdict for _, _, verdict in _verdicts(audit(path, 29))]
    assert verdicts == ["not attainable", "rounded", "not attainable by one run", "not attainable by one run"]
    assert "a mean of 3 runs would allow it" in audit(path, 29).text()
    assert [cell.verdict for cell in audit(path, 29, runs=3).cells][2:] == ["rounded"] * 2


def test_a_pass_that_says_nothing_is_said_to_be_one(tmp_path: Path) -> None:
    text = audit(_table(tmp_path, "row,TA S-SRCC,TA S-KTAU\na,0.876,0.714\n"), 29).text()
    assert "SRCC of 3 digits, 29 systems                     100.00 %: a pass says nothing" in text
    assert "KTAU of 3 digits, 29 systems                      30.45 %\n" in text


def test_a_table_of_our_own_is_read_as_the_means_that_it_holds(tmp_path: Path) -> None:
    means = [stats.spearmanr(range(16), np.random.default_rng(seed).permutation(16))[0] for seed in range(10)]
    mean = float(np.mean(means))
    path = _table(
        tmp_path,
        "section,row,label,seeds,seeds_done,ta.system.srcc,ta.system.srcc.sd,ta.system.srcc.quoted,"
        f"ta.within_system.srcc\nRows,a,A,10,10,{mean!r},0.1,0.5,0.3\nRows,b,B,10,0,,,,\n",
    )
    (cell,) = audit(path, 16).cells
    assert (cell.label, cell.runs, cell.verdict) == ("A", 10, "rounded")
    assert audit(path, 19).cells[0].verdict == "not attainable"


def test_what_no_run_is_behind_is_left_out_and_named(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        "row,label,seeds,seeds_done,A S-SRCC,A U-MSE,A U-LCC\na,A,10,10,0.5,.5,.7\nb,B,1,1,0.5,.6,.6\n"
        "c,C,1,1,0.4,.7,.5\nd,Pending,10,0,,,\nhuman_panel,Another panel of raters,0,0,0.9,.1,.9\n",
    )
    for found in (audit(path, 8), audit(path, 8, runs=3)):
        text = found.text()
        assert [cell.row for cell in found.cells if cell.chance is not None] == ["A", "B", "C"]
        assert [each.row for each in found.fitting] == ["A", "B", "C"]
        assert found.variances[0].row == "C"
        assert "Numbers are means of 1 or 10 run(s).\n" in text
        assert "not said" not in text
        assert "Left out, since no run is behind it: Another panel of raters." in text
        assert json.loads(found.json())["without_runs"] == ["Another panel of raters"]


def test_a_table_without_any_run_is_refused(tmp_path: Path) -> None:
    assert _mistakes(_table(tmp_path, "row,runs,TA S-SRCC\npanel,0,0.5\n")) == [
        "table.csv: every metric is blank, or of a row without runs. Fill in what was printed."
    ]


def test_where_only_some_lines_say_their_runs_both_are_said_in_one_sentence(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,runs,TA S-SRCC\na,3,0.5\nb,,0.5\n")
    assert (
        "Numbers are means of 3 run(s) where the table says so; where it does not (--runs k, or a column 'runs'), each "
        "is judged as one run.\n"
    ) in audit(path, 8).text()
    assert "Numbers are means of 3 run(s).\n" in audit(path, 8, runs=3).text()


def test_a_tie_that_all_rows_share_is_found(tmp_path: Path) -> None:
    truth = [0, 0, *range(1, 15)]
    values = [stats.kendalltau(truth, np.random.default_rng(seed).permutation(16))[0] for seed in range(6)]
    path = _table(tmp_path, "row,TA S-KTAU\n" + "".join(f"{row},{value:.4f}\n" for row, value in enumerate(values)))
    assert "With a tied pair in the true ranking, which all rows share, 6 of 6 TA cells" in audit(path, 16, 1).text()


def test_tables_of_strangers_are_read(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        "Model;MOS sys. Spearman (%);MOS S-MSE;S Kendall;utt PLCC;Params\n"
        "**ours**;88,1;0.5;71.4;0.9;3M\nbase;80.1 ± 2.0;n/a;60 %;1.8;\n",
    )
    found = audit(path, 20)
    assert [(cell.label, cell.metric, cell.printed) for cell in found.cells] == [
        ("ours", "mos.system.srcc", "0.881"),
        ("ours", "mos.system.mse", "0.5"),
        ("ours", "score.system.ktau", "0.714"),
        ("ours", "score.utterance.lcc", "0.9"),
        ("base", "mos.system.srcc", "0.801"),
        ("base", "score.system.ktau", "0.60"),
        ("base", "score.utterance.lcc", "1.8"),
    ]
    assert "Read as percent: MOS sys. Spearman (%), S Kendall." in found.text()
    assert (
        "Out of range: base, SCORE U-LCC 1.8; an error is at least 0, a correlation lies between -1 and 1."
        in found.text()
    )


def test_without_a_number_of_systems_it_is_searched_for(tmp_path: Path) -> None:
    found = audit(_table(tmp_path, "row,TA S-SRCC,TA S-KTAU\na,0.896059,0.729064\n"))
    assert {cell.reason for cell in found.cells} == {"how many systems is not said: give --systems N"}
    assert [each.numbers for each in found.fitting] == [(29,)]


def test_the_scan_stops_where_random_digits_would_fit() -> None:
    draw, false = np.random.default_rng(0), 0
    for _ in range(60):
        values = {"a.system.srcc": f"{draw.uniform():.4f}", "a.system.ktau": f"{draw.uniform():.4f}"}
        fitting = fitting_systems(TableLine("a", "a", values))
        assert fitting is not None
        false += len(fitting.numbers)
    assert false <= 8  # 3 are expected
    assert fitting_systems(TableLine("a", "a", {"a.system.srcc": "0.9"})).up_to is None  # type: ignore[union-attr]


def test_every_mistake_of_a_table_is_named_with_its_line(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,systems,ties,runs,TA S-SRCC\na,29,0,1,.88x\nb,2,9,few,0.5\n\nc,29,0\n")
    assert _mistakes(path, None) == [
        "table.csv:5: found 3 fields under a header of 5. Mend the line.",
        "table.csv:2, column 'TA S-SRCC': found '.88x'. Write a number, or leave it empty.",
        "table.csv:3, column 'systems': a whole number from 4 is needed, found '2'. Or leave it empty.",
        "table.csv:3, column 'ties': a whole number from 0 to 3 is needed, found '9'. Or leave it empty.",
        "table.csv:3, column 'runs': a whole number from 0 is needed, found 'few'. Or leave it empty.",
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["table.csv: a header and at least one line are needed, found 0 line(s)."]),
        ("row,TA S-SRCC\n", ["table.csv: a header and at least one line are needed, found 1 line(s)."]),
        (
            "row,TA S-SRCC\na,-\n",
            ["table.csv: every metric is blank, or of a row without runs. Fill in what was printed."],
        ),
        (
            "row,accuracy\na,0.5\n",
            [
                "table.csv:1: no column is a metric. Name one 'TA S-SRCC' or 'ta.system.srcc': a target, S or U for "
                "systems or utterances, MSE, LCC, SRCC or KTAU. Found: row, accuracy."
            ],
        ),
        (
            "row,TA S-SRCC,ta.system.srcc,systems\na,0.5,0.5,29\n",
            ["table.csv:1: two columns are TA S-SRCC (ta.system.srcc). Remove or rename one."],
        ),
    ],
)
def test_tables_that_cannot_be_audited_are_refused(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    assert _mistakes(_table(tmp_path, text), None) == mistakes


def test_a_missing_file_and_other_encodings_are_refused(tmp_path: Path) -> None:
    assert _mistakes(tmp_path / "gone.csv") == ["gone.csv: cannot be read: No such file or directory. Check the path."]
    (tmp_path / "table.csv").write_bytes(b"row,TA S-SRCC\ncaf\xe9,0.5\n")
    assert _mistakes(tmp_path / "table.csv") == ["table.csv:2: not UTF-8. Save the table as UTF-8."]


def test_too_few_systems_or_runs_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        audit(None, 3, 0)
    assert caught.value.mistakes == (
        "--systems 3: at least 4 systems are needed.",
        "--runs 0: at least 1 is needed. Leave it out where nobody knows.",
    )


def test_the_command_takes_a_number_of_runs(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,TA S-SRCC\na,0.8757\n")
    said = [run(tmp_path, "audit", path, "--systems", 29, *runs).out for runs in ((), ("--runs", 3))]
    assert "1 not attainable by one run" in said[0]
    assert "1 attainable" in said[1]


def test_means_over_runs_bound_no_variance(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,runs,A U-MSE,A U-LCC\na,10,.5,.7\nb,10,.6,.6\n")
    assert audit(path).variances == ()
