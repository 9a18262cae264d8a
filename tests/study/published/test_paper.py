"""The published numbers are what the papers and READMEs print."""

import csv
import math
import re
from pathlib import Path

import pytest

import study.published
from study.published import PUBLISHED, PublishedRow
from whisq_core.metrics import METRICS
from whisq_core.spec import RunSpec

PRINTED = (Path(__file__).parents[2] / "data" / "paper-tables.txt").read_text(encoding="utf-8").splitlines()
TABLE_II = Path(study.published.__file__).with_name("table2.csv")

# The settings that Table I names, with the values that it prints.
TABLE_I: dict[str, dict[str, object]] = {
    "Learning Rate 7.307 × 10−4": {"train.learning_rate": 7.307e-4},
    "Optimizer SGD": {"train.optimizer": "sgd"},
    "Momentum 0.7435": {"train.momentum": 0.7435},
    "Batch Size 128": {"train.batch_size": 128},
    "Epochs 148": {"train.epochs": 148},
    "Loss Function Huber": {"loss.task": "huber"},
    "OT Method Sinkhorn (p=2, blur=0.05)": {"loss.alignment": "sinkhorn", "loss.p": 2, "loss.blur": 0.05},
    "OT Weight (λ) 4.057 × 10−5": {"loss.ot_weight": 4.057e-5},
    # Paper conflict: the text says 512, and 1280 cannot have the printed number of parameters.
    "Feature Dimension 1280": {"model.feature_dim": 1280},
}


def _printed_table_two() -> dict[str, tuple[str, list[str]]]:
    """label -> (section, 16 cells), read from the paper's text."""
    rows, section = {}, ""
    for line in PRINTED[PRINTED.index("Baseline Comparison") :]:
        match = re.fullmatch(r"(.+?)((?: -?\d\.\d{4}){16})", line)
        if match:
            rows[match[1]] = (section, match[2].split())
        else:
            section = line
    return rows


def test_cells_of_table_two_are_the_strings_that_the_paper_prints() -> None:
    with TABLE_II.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["source"] == "WhisQ paper, Table II"]
    ours = {line["label"]: (line["section"], [line[name] for name in METRICS]) for line in lines}
    assert list(ours.items()) == list(_printed_table_two().items())
    assert len(ours) == 7


def test_table_one_is_the_default_run_except_the_feature_dimension() -> None:
    assert list(TABLE_I) == PRINTED[1 : PRINTED.index("Baseline Comparison")]
    defaults = RunSpec().settings()
    printed = {name: value for settings in TABLE_I.values() for name, value in settings.items()}
    assert {name: defaults[name] for name in printed} == {**printed, "model.feature_dim": 512}


def test_baseline_row_is_its_readme_rounded_to_four_digits() -> None:
    readme, quoted = PUBLISHED["official_baseline_readme"], PUBLISHED["official_baseline"]
    for name in METRICS:
        assert f"{float(readme.values[name]):.4f}" == quoted.values[name]


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=lambda row: row.id)
def test_every_published_row_has_a_source_and_sixteen_numbers(row: PublishedRow) -> None:
    assert row.source
    assert tuple(row.values) == METRICS
    assert all(math.isfinite(float(row.values[name])) for name in METRICS)
