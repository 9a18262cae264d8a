"""Sweeps and contrasts of the ablation file: the rows that they become, and mistakes in them."""

from pathlib import Path

import pytest
from helpers.ablation_files import read

from whisq_core.errors import InputError

SWEPT = """
seeds: 0-9
compare: {to: whisq, rows: [ot]}
contrasts:
- {id: interaction, label: "attention x OT", rows: {whisq: 1, no_ot: -1, mlp_ot: -1, mlp: 1}}
sections:
- title: Rows
  rows:
  - {id: whisq, label: WhisQ}
  - {id: no_ot, label: no OT, set: {loss.ot_weight: 0}}
  - {id: mlp_ot, label: MLP with OT, set: {model.attention: none}}
  - {id: mlp, label: MLP, extends: mlp_ot, set: {loss.ot_weight: 0}}
  - {id: ot, label: OT, sweep: {loss.ot_weight: [1.0e-6, 4.057e-5, 0.001]}}
  - {id: data, label: Data, extends: mlp, sweep: {data.fraction: [0.25, 0.5]}}
"""


def test_a_sweep_is_a_row_for_each_value(tmp_path: Path) -> None:
    file = read(tmp_path, SWEPT)
    assert [row.id for row in file.rows][4:] == ["ot_1e-06", "ot_4.057e-05", "ot_0.001", "data_0.25", "data_0.5"]
    assert file.row("ot_0.001").spec.loss.ot_weight == 0.001
    assert file.row("ot_0.001").label == "OT, ot weight 0.001"
    assert file.row("data_0.5").spec.model.attention == "none"
    assert [(sweep.id, sweep.setting, sweep.values) for sweep in file.sweeps] == [
        ("ot", "loss.ot_weight", (1e-6, 4.057e-5, 0.001)),
        ("data", "data.fraction", (0.25, 0.5)),
    ]


def test_a_declared_sweep_compares_each_of_its_rows_but_the_one_that_is_the_reference(tmp_path: Path) -> None:
    file = read(tmp_path, SWEPT)
    assert file.compare is not None
    assert file.compare.rows == ("ot_1e-06", "ot_0.001")
    assert file.row("ot_0.001").compared
    assert not file.row("data_0.5").compared
    assert file.warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "0.001]",
            "-1]",
            ", row 'ot': setting 'loss.ot_weight': Input should be greater than or equal to 0, found -1.",
        ),
        (
            "loss.ot_weight: [1",
            "loss.ot_wieght: [1",
            "unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        ),
        ("[1.0e-6, 4.057e-5, 0.001]", "[0.1]", "at least 2 are needed, found [0.1]"),
        ("4.057e-5, 0.001]", "0.001, 0.001]", "this id is duplicated"),
        ("mlp: 1}", "mlp: 2}", "the weights of 'interaction' sum to 1, and a contrast's cancel. Make them sum to 0."),
        ("mlp: 1}", "mlq: 1}", "unknown row 'mlq'. Did you mean 'mlp'?"),
        ("rows: [ot]", "rows: [otto]", "unknown row 'otto'. Did you mean 'ot'?"),
    ],
)
def test_a_wrong_sweep_or_contrast_is_named(tmp_path: Path, old: str, new: str, mistake: str) -> None:
    assert old in SWEPT
    with pytest.raises(InputError) as caught:
        read(tmp_path, SWEPT.replace(old, new))
    assert any(mistake in text for text in caught.value.mistakes), caught.value.mistakes
