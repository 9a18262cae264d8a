"""What is attached to a trial is what the database holds, once, whatever happened before."""

import csv
import io
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from helpers.dashboards import CLIPS, stored_run
from optuna.artifacts import get_all_artifact_meta

from study.dashboard.artifacts import artifact_folder, attach_run
from study.dashboard.storage import open_storage, open_study
from study.store import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/whisq.db"


@pytest.fixture
def trial(url: str) -> optuna.Trial:
    database = Database(url)
    return open_study(open_storage(database), "table", "ablation", "ta.utterance.srcc").ask()


def attached(trial: optuna.Trial, folder: Path) -> dict[str, str]:
    metas = get_all_artifact_meta(trial)
    assert len({meta.filename for meta in metas}) == len(metas), "each file once"
    return {meta.filename: (folder / meta.artifact_id).read_text(encoding="utf-8") for meta in metas}


def test_the_files_hold_settings_curve_and_predictions_without_rounding(
    trial: optuna.Trial, url: str, tmp_path: Path
) -> None:
    attach_run(trial, stored_run(), CLIPS, url)

    files = attached(trial, tmp_path / "artifacts")
    lines = list(csv.DictReader(io.StringIO(files["predictions.csv"])))
    assert yaml.safe_load(files["spec.yaml"]) == {"run_id": "run1", "loss.ot_weight": 4.057e-05, "corpus": "0123"}
    assert files["curve.csv"] == "epoch,loss\n1,0.5\n2,0.1\n"
    assert [(line["utterance"], line["system"], line["omq"]) for line in lines] == [
        ("clip2", "S001", "4.2"),
        ("clip0", "S001", "3.0"),
    ]
    assert [float(line["predicted_omq"]) for line in lines] == [1 / 3, np.pi]


def test_each_scored_split_has_its_own_predictions(trial: optuna.Trial, url: str, tmp_path: Path) -> None:
    attach_run(trial, stored_run(splits=["dev", "test"]), CLIPS, url)

    assert set(attached(trial, tmp_path / "artifacts")) == {
        "spec.yaml",
        "curve.csv",
        "predictions_dev.csv",
        "predictions_test.csv",
    }


def test_attaching_again_mends_a_truncated_file_and_adds_none(trial: optuna.Trial, url: str, tmp_path: Path) -> None:
    attach_run(trial, stored_run(), CLIPS, url)
    before = attached(trial, tmp_path / "artifacts")
    (victim,) = (meta for meta in get_all_artifact_meta(trial) if meta.filename == "predictions.csv")
    (tmp_path / "artifacts" / victim.artifact_id).write_text("utteran")

    attach_run(trial, stored_run(), CLIPS, url)

    assert attached(trial, tmp_path / "artifacts") == before


def test_artifacts_lie_beside_a_sqlite_file(tmp_path: Path) -> None:
    assert artifact_folder(f"sqlite:///{tmp_path}/deep/whisq.db") == tmp_path / "deep" / "artifacts"
    assert (tmp_path / "deep" / "artifacts").is_dir()


def test_artifacts_of_a_server_lie_in_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert artifact_folder("postgresql://user:secret@host/study") == Path("results/artifacts")
    assert (tmp_path / "results" / "artifacts").is_dir()
