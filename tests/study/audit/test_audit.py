"""The audit of the paper's table and claims, and of any table given as CSV."""

import csv
import io
import json
from pathlib import Path

import pytest

from study.audit import Audit, audit, place_row, why_not_comparable
from study.audit.cells import sampling_interval
from study.audit.placement import place
from study.published import PUBLISHED
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
    assert set(_cells("not attainable")) == {
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
    assert {cell.verdict for cell in cells if cell.attainability} == {"rounded"}
    assert any(cell.verdict == "not attainable" for cell in audit(None, 30).cells if cell.row == "mos_eval_fork")


def test_29_systems_leave_the_published_correlation_a_wide_interval() -> None:
    low, high = sampling_interval("srcc", 0.8813, 29)
    assert (round(low, 3), round(high, 3)) == (0.756, 0.944)


@pytest.mark.parametrize(("statistic", "value", "num_systems"), [("srcc", 1.0, 29), ("ktau", 0.5, 4), ("lcc", 0.5, 3)])
def test_an_interval_that_is_undefined_is_nan(statistic: str, value: float, num_systems: int) -> None:
    assert all(bound != bound for bound in sampling_interval(statistic, value, num_systems))


def test_the_text_names_every_finding() -> None:
    text = audit().text()
    for part in (
        "36 rank correlations over 29 systems: 28 attainable, 7 not attainable, 1 attainable only when cut.",
        "Vanilla Co-Attention w/ OT   OMQ S-SRCC  0.8757   nearest 0.875369 | 0.875862; 1 tied pair could allow it",
        "WhisQ w/ OT (Proposed)                     OMQ S-SRCC    0.8813  [0.756, 0.944]    rounded",
    ):
        assert part in text


def test_csv_and_json_hold_the_same_cells() -> None:
    found = audit()
    lines = list(csv.DictReader(io.StringIO(found.csv())))
    cells = json.loads(found.json())["cells"]
    assert len(lines) == len(cells) == len(found.cells) == 54
    assert [line["verdict"] for line in lines] == [cell["verdict"] for cell in cells]
    assert [line["printed"] for line in lines] == [cell["printed"] for cell in cells]


# ---- against our intervals


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


# ---- any table


def _verdicts(found: Audit) -> list[tuple[str, str, str]]:
    return [(cell.label, cell.metric, cell.verdict) for cell in found.cells]


def test_any_table_is_audited_with_its_number_of_systems(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        "Model,OQM S-SRCC↑,ta.system.ktau,TA U-SRCC,Params\nours,0.8757,0.6749,0.5,3M\nbaseline,–,-0.0690,0.4,1M\n",
    )
    found = audit(path, 29)
    assert _verdicts(found) == [
        ("ours", "omq.system.srcc", "not attainable"),
        ("ours", "ta.system.ktau", "rounded"),
        ("baseline", "ta.system.ktau", "rounded"),
    ]
    assert "Columns that are no metrics were not looked at: Params." in found.text()
    assert json.loads(found.json())["other_columns"] == ["Params"]


def test_lines_may_have_their_own_number_of_systems_and_accept_ties(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,systems,ties,TA S-SRCC\na,29,0,0.8321\nb,29,1,0.8321\nc,5,0,0.9000\nd,5,0,0.8500\n")
    assert [verdict for _, _, verdict in _verdicts(audit(path))] == [
        "not attainable",
        "rounded",
        "rounded",
        "not attainable",
    ]


def test_every_mistake_of_a_table_is_named_with_its_line(tmp_path: Path) -> None:
    path = _table(tmp_path, "row,systems,ties,TA S-SRCC\na,29,0,.88*\nb,2,9,0.5\n\nc,29,0\n")
    assert _mistakes(path, None) == [
        "table.csv:2, column 'TA S-SRCC': found '.88*'. Write a plain number, or leave it empty.",
        "table.csv:3, column 'systems': a whole number from 4 to 999,999 is needed.",
        "table.csv:3, column 'ties': a whole number from 0 to 3 is needed.",
        "table.csv:5: found 3 fields under a header of 4. Mend the line.",
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["table.csv: a header and at least one line are needed, found 0 line(s)."]),
        ("row,TA S-SRCC\n", ["table.csv: a header and at least one line are needed, found 1 line(s)."]),
        (
            "row,TA U-SRCC\na,0.5\n",
            [
                "table.csv:1: no rank correlation at system level. "
                "Name a column OMQ S-SRCC, OMQ S-KTAU, TA S-SRCC, TA S-KTAU. Found: row, TA U-SRCC.",
                "table.csv: how many systems? Give --systems N, or a column 'systems'.",
            ],
        ),
        (
            "row,TA S-SRCC,ta.system.srcc,systems\na,0.5,0.5,29\n",
            ["table.csv:1: column 'ta.system.srcc' is duplicated. Remove one."],
        ),
    ],
)
def test_tables_that_cannot_be_audited_are_refused(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    assert _mistakes(_table(tmp_path, text), None) == mistakes


def test_a_missing_file_and_other_encodings_are_refused(tmp_path: Path) -> None:
    assert _mistakes(tmp_path / "gone.csv") == ["gone.csv: cannot be read: No such file or directory. Check the path."]
    (tmp_path / "table.csv").write_bytes(b"row,TA S-SRCC\ncaf\xe9,0.5\n")
    assert _mistakes(tmp_path / "table.csv") == ["table.csv:2: not UTF-8. Save the table as UTF-8."]


def test_too_few_systems_are_refused() -> None:
    with pytest.raises(InputError, match=r"--systems 3: at least 4 systems are needed\."):
        audit(None, 3)
