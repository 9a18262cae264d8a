"""The published numbers are what the papers and READMEs print."""

import math
import re
from pathlib import Path

import pytest

from study.published import paper
from whisq_core.metrics import METRICS
from whisq_core.spec import SETTING_NAMES, RunSpec

PRINTED = (Path(__file__).parents[2] / "data" / "paper-tables.txt").read_text(encoding="utf-8").splitlines()


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
    ours = {row.label: (row.section, [row.values[name] for name in METRICS]) for row in paper.TABLE_II}
    assert ours == _printed_table_two()
    assert len(ours) == 7


def test_metrics_stand_in_the_order_of_the_table() -> None:
    assert tuple(METRICS) == paper.METRIC_ORDER


def test_sections_have_the_titles_of_the_paper() -> None:
    assert set(paper.SECTIONS) <= set(PRINTED)
    assert tuple(dict.fromkeys(row.section for row in paper.TABLE_II)) == paper.SECTIONS


def test_hyperparameters_of_table_one_are_the_strings_that_the_paper_prints() -> None:
    printed = PRINTED[1 : PRINTED.index("Baseline Comparison")]
    assert [f"{line.name} {line.printed}" for line in paper.TABLE_I] == printed


def test_table_one_is_the_default_run_except_the_feature_dimension() -> None:
    defaults = RunSpec().settings()
    printed = {name: value for line in paper.TABLE_I for name, value in line.settings.items()}
    assert set(printed) <= set(SETTING_NAMES)
    assert {name: defaults[name] for name in printed} == {**printed, "model.feature_dim": 512}


def test_baseline_row_is_its_readme_rounded_to_four_digits() -> None:
    readme, quoted = paper.PUBLISHED["official_baseline_readme"], paper.PUBLISHED["official_baseline"]
    for name in METRICS:
        assert f"{readme.number(name):.4f}" == quoted.values[name]


@pytest.mark.parametrize("row", paper.PUBLISHED.values(), ids=lambda row: row.id)
def test_every_published_row_has_a_source_and_sixteen_numbers(row: paper.PublishedRow) -> None:
    assert row.source
    assert tuple(row.values) == paper.METRIC_ORDER
    assert all(math.isfinite(row.number(name)) for name in METRICS)


def test_claims_name_rows_and_metrics_that_exist() -> None:
    for claim in paper.GAIN_CLAIMS:
        assert {claim.row, claim.against} <= set(paper.PUBLISHED)
        assert set(claim.metrics) <= set(METRICS)
    assert [(claim.printed, claim.value) for claim in paper.COUNT_CLAIMS] == [
        ("2.66M", 2.66e6),
        ("619.45M", 619.45e6),
        ("32.54 GMACs", 32.54e9),
    ]
