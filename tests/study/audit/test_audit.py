"""The audit of the paper's table and claims, and of any table given as CSV."""

import csv
import io
import json
from pathlib import Path

import pytest

from study.audit.cells import sampling_interval
from study.audit.check import Audit, audit
from study.audit.claims import counts, gains, multiply_accumulates, parameters, state_of_the_art
from study.audit.placement import place, place_row, why_not_comparable
from study.published.paper import PUBLISHED
from whisq_core.errors import InputError
from whisq_core.model import count
from whisq_core.spec import ModelSpec


def _table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _mistakes(path: Path, systems: int | None = 29) -> list[str]:
    with pytest.raises(InputError) as caught:
        audit(path, systems)
    return [mistake.replace(f"{path.parent}/", "") for mistake in caught.value.mistakes]


# ---- the paper


def test_exactly_seven_cells_of_the_paper_are_not_attainable() -> None:
    assert {(cell.row, cell.metric, cell.printed) for cell in audit().not_attainable} == {
        ("vanilla", "omq.system.srcc", "0.8757"),
        ("vanilla", "ta.system.srcc", "0.8321"),
        ("vanilla", "ta.system.ktau", "0.6234"),
        ("cross", "ta.system.srcc", "0.8156"),
        ("cross", "ta.system.ktau", "0.5987"),
        ("mlp_only", "ta.system.srcc", "0.7865"),
        ("mlp_only", "ta.system.ktau", "0.5678"),
    }


def test_the_eighth_cell_is_attainable_only_when_its_last_digit_was_cut() -> None:
    assert [(cell.row, cell.metric, cell.printed) for cell in audit().truncated] == [
        ("vanilla", "omq.system.ktau", "0.6896")
    ]


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


def test_gains_are_recomputed_in_points_and_percent() -> None:
    found = {(gain.claim.id, gain.metric): (round(gain.points, 2), round(gain.relative, 1)) for gain in gains()}
    assert found[("omq_srcc", "omq.utterance.srcc")] == (7.04, 10.2)
    assert found[("ta_srcc", "ta.system.srcc")] == (14.93, 20.7)
    assert found[("ot_srcc", "ta.utterance.srcc")] == (12.14, 24.8)
    assert found[("ot_srcc", "ta.system.srcc")] == (8.67, 11.1)
    assert found[("ot_srcc", "omq.utterance.srcc")] == (6.44, 9.3)
    assert found[("ot_srcc", "omq.system.srcc")] == (7.34, 9.1)


def test_two_claims_are_points_and_the_third_agrees_with_no_pair_of_cells() -> None:
    assert [(gain.claim.id, gain.metric, gain.reading) for gain in gains() if gain.reading] == [
        ("omq_srcc", "omq.utterance.srcc", "points"),
        ("ta_srcc", "ta.system.srcc", "points"),
    ]


def test_sizes_are_recounted_from_the_equations() -> None:
    part = parameters()
    assert (part.attention, part.omq_head, part.ta_head, part.projection) == (1_050_624, 147_841, 278_913, 524_800)
    values = {found.what: (found.value, found.agrees) for found in counts()}
    assert values["Eqs. 2-7 as written, D = 512: two attentions, both heads, Proj"] == (3_052_802, False)
    assert values["two attentions and two heads of TA's size, without Proj"] == (2_659_074, True)
    assert values["two attentions, two heads of TA's size, one OMQ head, both encoders"] == (619_447_427, True)
    assert not any(found.agrees for found in counts() if found.claim.id == "macs")


def test_sizes_of_the_audit_are_those_of_the_model() -> None:
    ours = count(ModelSpec(), audio_dim=512, text_dim=1024, frames=1500, tokens=24)
    part, macs = parameters(), multiply_accumulates(products=True, tokens=24)
    assert ours.trainable == 2 * part.attention + part.omq_head + part.ta_head + part.projection
    assert ours.macs == macs.attention + macs.omq_head + macs.ta_head + macs.projection


def test_a_public_row_is_above_the_paper_on_most_columns() -> None:
    rival = state_of_the_art()
    assert len(rival.better) == 14
    assert rival.worse == ("ta.system.mse", "ta.system.srcc")


def test_the_row_that_predicts_worse_than_a_constant_is_named() -> None:
    assert audit().worse_than_constant == ("w2v2_modernbert",)


def test_the_text_names_every_finding() -> None:
    text = audit().text()
    for part in (
        "36 rank correlations over 29 systems: 28 attainable, 7 not attainable, 1 attainable only when cut.",
        "Vanilla Co-Attention w/ OT   OMQ S-SRCC  0.8757   nearest 0.875369 | 0.875862; 1 tied pair could allow it",
        "WhisQ w/ OT (Proposed)                     OMQ S-SRCC    0.8813  [0.756, 0.944]    rounded",
        "OMQ U-SRCC 0.6881 -> 0.7585: +7.04 points, +10.2 %",
        "WhisQ w/ OT (Proposed) over WhisQ w/o OT: agrees with no pair of cells",
        "=         2,659,074  two attentions and two heads of TA's size, without Proj",
        "better than WhisQ w/ OT (Proposed) on 14 of 16",
        "Wav2Vec2 + ModernBERT: 0.9766",
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
    real = {cell.metric: cell for cell in place_row("vanilla", PUBLISHED["vanilla"], intervals)}
    other = {cell.metric: cell for cell in place_row("vanilla", PUBLISHED["vanilla"], intervals, reason)}
    names = ("ta.system.srcc", "ta.utterance.srcc", "omq.utterance.mse")
    assert [real[name].placement for name in names] == ["not attainable", "outside", "no interval"]
    assert [other[name].placement for name in names] == ["not attainable", "not comparable", "not comparable"]
    assert other["ta.utterance.srcc"].reason == "other data: our corpus is simulated"


def test_only_the_dev_split_of_the_real_corpus_is_comparable() -> None:
    assert why_not_comparable(simulated=False, split="dev", num_systems=29) == ""
    assert why_not_comparable(False, "test", 30) == "other data: ours are scored on 'test', the published ones on dev"
    assert why_not_comparable(False, "dev", 14) == "other data: our dev split has 14 systems, the published one 29"


def test_placements_are_shown_and_written() -> None:
    placed = place_row("whisq", PUBLISHED["whisq"], dict.fromkeys(PUBLISHED["whisq"].values, (0.0, 0.5)))
    found = audit().with_placements(placed)
    assert "whisq: 11 outside, 5 inside" in found.text()
    assert "TA U-SRCC  published 0.6109, ours [0.0000, 0.5000]" in found.text()
    lines = list(csv.DictReader(io.StringIO(found.placements_csv())))
    assert len(lines) == 16
    assert json.loads(found.json())["placed"][0]["placement"] == "inside"
    assert audit().placements_csv() == ""


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
    assert json.loads(found.json())["gains"] == []


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
        "table.csv:3, column 'systems': a whole number from 4 is needed.",
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
            ["table.csv:1: column 'ta.system.srcc' stands twice. Remove one."],
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
