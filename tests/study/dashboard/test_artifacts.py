"""What is attached to a trial is what the database holds, once, whatever happened to the worker before."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.artifacts import get_all_artifact_meta

from study.dashboard.artifacts import artifact_folder, attach_run
from study.engine.queue import claim, open_storage, worker_name
from study.engine.tickets import create_study
from study.store.database import Database
from study.store.records import Scored, Run

CLIPS = pd.DataFrame(
    {
        "utterance": [f"clip{index}" for index in range(4)],
        "system": ["S001", "S002", "S001", "S002"],
        "prompt": "a waltz",
        "omq": [3.0, 2.6, 4.2, 1.0],
        "ta": [2.0, 3.0, 4.0, 5.0],
        "split": "dev",
    }
)


@pytest.fixture
def trial(tmp_path: Path) -> optuna.Trial:
    database = Database(f"sqlite:///{tmp_path}/whisq.db")
    create_study(database, "table", "ta.utterance.srcc", "ablation")
    study = optuna.load_study(study_name="table", storage=open_storage(database))
    study.enqueue_trial({})
    claimed = claim(study, database, worker_name(), lambda _: True)
    assert claimed is not None
    return claimed


def stored_run(splits: Sequence[str] = ("dev",)) -> Run:
    scored = {name: Scored(np.array([2, 0]), np.array([[1 / 3, 2.0], [np.pi, 4.0]]), {}) for name in splits}
    identity = {"loss.ot_weight": 4.057e-05, "corpus": "0123"}
    curve = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.1}]
    return Run("run1", "table", "whisq", 0, "done", identity, curve=curve, scored=scored)


def attached(trial: optuna.Trial, folder: Path) -> dict[str, str]:
    metas = get_all_artifact_meta(trial)
    assert len({meta.filename for meta in metas}) == len(metas), "each file once"
    return {meta.filename: (folder / meta.artifact_id).read_text(encoding="utf-8") for meta in metas}


def test_the_files_hold_settings_curve_and_predictions_without_rounding(trial: optuna.Trial, tmp_path: Path) -> None:
    attach_run(trial, stored_run(), CLIPS, tmp_path)

    files = attached(trial, tmp_path)
    lines = list(csv.DictReader(io.StringIO(files["predictions.csv"])))
    assert yaml.safe_load(files["spec.yaml"]) == {"run_id": "run1", "loss.ot_weight": 4.057e-05, "corpus": "0123"}
    assert files["curve.csv"] == "epoch,loss\n1,0.5\n2,0.1\n"
    assert [(line["utterance"], line["system"], line["omq"]) for line in lines] == [
        ("clip2", "S001", "4.2"),
        ("clip0", "S001", "3.0"),
    ]
    assert [float(line["predicted_omq"]) for line in lines] == [1 / 3, np.pi]


def test_each_scored_split_has_its_own_predictions(trial: optuna.Trial, tmp_path: Path) -> None:
    attach_run(trial, stored_run(["dev", "test"]), CLIPS, tmp_path)

    assert set(attached(trial, tmp_path)) == {"spec.yaml", "curve.csv", "predictions_dev.csv", "predictions_test.csv"}


def test_attaching_again_mends_a_torn_file_and_adds_none(trial: optuna.Trial, tmp_path: Path) -> None:
    attach_run(trial, stored_run(), CLIPS, tmp_path)
    before = attached(trial, tmp_path)
    (victim,) = (meta for meta in get_all_artifact_meta(trial) if meta.filename == "predictions.csv")
    (tmp_path / victim.artifact_id).write_text("utteran")

    attach_run(trial, stored_run(), CLIPS, tmp_path)

    assert attached(trial, tmp_path) == before


def test_artifacts_lie_beside_a_sqlite_file(tmp_path: Path) -> None:
    assert artifact_folder(f"sqlite:///{tmp_path}/deep/whisq.db") == tmp_path / "deep" / "artifacts"
    assert (tmp_path / "deep" / "artifacts").is_dir()


def test_artifacts_of_a_server_lie_in_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert artifact_folder("postgresql://user:secret@host/study") == Path("results/artifacts")
    assert (tmp_path / "results" / "artifacts").is_dir()
