"""The Python API: what `import study` offers, and a storage as DataFrames."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from helpers.command import ENVIRONMENT
from helpers.results import synthetic_results
from helpers.studies import Place

import study
from study.api import StudyTable
from study.tables import judge_table, table_frame
from whisq_core.metrics import METRICS


@pytest.fixture(scope="module")
def stored(finished_study: Place) -> study.Storage:
    return study.load(finished_study.folder / "whisq.db")


def test_importing_study_loads_no_library() -> None:
    script = (
        "import study, sys; print(*{name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pandas'})"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
    assert study.__version__ == version("whisq-study")
    assert set(study.__all__) <= set(dir(study))
    assert all(getattr(study, name) for name in study.__all__)
    assert Path(study.__file__).with_name("py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'jugde'"):
        study.jugde  # noqa: B018


def test_a_storage_is_read_as_frames(stored: study.Storage, finished_study: Place) -> None:
    cells = pd.read_csv(finished_study.out / "table_long.csv").query("row == 'no_ot' and seed == 1").set_index("metric")
    run = stored.runs.query("row == 'no_ot' and seed == 1").iloc[0]

    assert stored.tables.set_index("table").loc["table2", ["cells", "done"]].tolist() == [24, 24]
    assert {name: run[name] for name in METRICS} == pytest.approx(cells.loc[list(METRICS), "value"].to_dict())
    assert stored.settings.loc[run["run_id"], "loss.ot_weight"] == 0
    assert stored.curves.query("row == 'whisq' and seed == 0")["epoch"].tolist() == [1, 2, 3]
    assert "table2" in stored._repr_html_()


def test_a_stored_table_has_the_verdicts_of_its_file(stored: study.Storage, finished_study: Place) -> None:
    table = stored.table("table2")
    written = pd.read_csv(finished_study.out / "table.csv").set_index("row")

    assert table.text("table.csv") == (finished_study.out / "table.csv").read_text(encoding="utf-8")
    shown = table.verdicts.set_index("row")
    assert shown["verdict"].replace("", float("nan")).dropna().to_dict() == written["verdict"].dropna().to_dict()
    assert stored.verdicts.drop(columns="table").equals(table.verdicts)
    for name, field in (("low", "both_low"), ("high", "both_high"), ("level", "both_level")):
        assert shown[name].tolist() == pytest.approx(written[field].tolist(), nan_ok=True), name
    exploratory = shown[shown["p_holm"].isna() & shown["difference"].notna()]
    assert set(exploratory["level"]) == {0.95}
    assert exploratory[["low", "high"]].notna().all(axis=None)
    with pytest.raises(study.InputError, match=r"unknown table 'tabel2'\. Did you mean 'table2'"):
        stored.table("tabel2")


def test_stored_predictions_can_be_judged_anew(stored: study.Storage) -> None:
    own = stored.table().verdicts.set_index("row").loc[["no_ot", "cross"]]
    again = study.judge(stored.predictions.drop(columns=["table", "split"]), to="whisq").verdicts.set_index("row")

    for name in ("mean", "difference", "p_seed", "p_system"):
        assert again.loc[["no_ot", "cross"], name].tolist() == pytest.approx(own[name].tolist(), nan_ok=True), name


@pytest.mark.parametrize("column", ["table", "split"])
def test_stored_predictions_of_several_tables_are_a_choice_and_no_duplicates(
    stored: study.Storage, column: str
) -> None:
    predictions = pd.concat([stored.predictions, stored.predictions.assign(**{column: "other"})])
    first = stored.predictions[column][0]
    with pytest.raises(study.InputError) as caught:
        study.judge(predictions)

    assert caught.value.mistakes == (
        f"predictions of 2 {column}s ({first}, other), allowed: one. Choose it, such as "
        f"predictions[predictions.{column} == '{first}'].",
    )
    assert study.judge(predictions[predictions[column] == first]).frame.rows


def test_figures_are_drawn_of_both_kinds_of_tables(stored: study.Storage) -> None:
    results = synthetic_results(num_epochs=2)
    judgement = judge_table(results)
    table = StudyTable(table_frame(results, judgement), judgement, results)

    assert {"differences", "curves", "scatter"} <= set(study.figures(table))
    judged = study.judge(stored.predictions.query("target == 'omq'").drop(columns=["table", "split"]), to="whisq")
    assert list(study.figures(judged)) == ["differences"]


def test_a_storage_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(study.InputError, match=r"there is no .*no\.db"):
        study.load(tmp_path / "no.db")
