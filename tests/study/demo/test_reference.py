"""The demo's tables are compared with the reference that is kept with the program, which nothing overwrites."""

from pathlib import Path

import pytest

from study.config import read_ablation_file
from study.demo import DEMO_FILE
from study.demo.run import REFERENCE, compared


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for path in REFERENCE.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_same_tables_equal_the_reference(out: Path) -> None:
    assert compared(out) == [
        "audit.csv: equals the reference",
        "table.csv: equals the reference",
        "table_long.csv: equals the reference",
    ]


def test_other_numbers_and_verdicts_are_counted_and_measured(out: Path) -> None:
    table = out / "table.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    header, first = lines[0].split(","), lines[1].split(",")
    place = header.index("ta.utterance.srcc")
    first[place] = str(float(first[place]) + 0.25)
    lines[1] = ",".join(first)
    lines[2] = lines[2].replace("inconclusive", "equivalent", 1)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")

    (line,) = (line for line in compared(out) if line.startswith("table.csv"))

    assert line.startswith("table.csv: 2 of ")
    assert line.endswith(f"differ from the reference in {REFERENCE}, numbers by at most 0.25; also in: verdict")


def test_a_table_of_other_rows_is_told(out: Path) -> None:
    (out / "table.csv").write_text("row\nwhisq\n", encoding="utf-8")

    assert f"table.csv: has other lines or columns than the reference in {REFERENCE}" in compared(out)


def test_the_demo_names_device_and_precision_so_that_every_machine_computes_the_same_runs() -> None:
    rows = [row for row in read_ablation_file(DEMO_FILE).rows if row.spec.uses_features]

    assert {(row.spec.train.device, row.spec.train.precision) for row in rows} == {("cpu", "float32")}
