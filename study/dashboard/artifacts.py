"""What a reviewer can open from a trial in optuna-dashboard: its settings, its predictions, its learning curve."""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna
import pandas as pd
import sqlalchemy as sa
import yaml
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.storages._rdb.models import TrialUserAttributeModel

from study.store.database import Database, with_retry
from study.store.records import Run
from study.store.urls import sqlite_path
from whisq_core.files import write_atomically
from whisq_core.metrics import EXTRA, METRICS


def artifact_folder(url: str) -> Path:
    """Where the artifacts of a storage lie: beside a SQLite file, else results/artifacts; made when it is not there."""
    path = sqlite_path(url)
    folder = (path.parent if path is not None else Path("results")) / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def show_metrics(trial: optuna.Trial, metrics: Mapping[str, float], database: Database) -> None:
    """Give a trial one user attribute per metric: the dashboard sorts and plots numbers, not a dictionary of them.

    An undefined metric has none.
    """
    model, trial_id = TrialUserAttributeModel, trial._trial_id
    lines = [
        {"trial_id": trial_id, "key": name, "value_json": json.dumps(round(value, 6))}
        for name, value in metrics.items()
        if math.isfinite(value)
    ]
    old = sa.delete(model).where(model.trial_id == trial_id, model.key.in_(metrics))

    def write() -> None:
        with database.engine.begin() as connection:  # one transaction: each attribute alone would cost a disk write
            connection.execute(old)
            if lines:
                connection.execute(sa.insert(model), lines)

    with_retry(write)


def shown_metrics(trial: optuna.trial.FrozenTrial) -> dict[str, float]:
    """What `show_metrics` has put on a trial."""
    return {name: trial.user_attrs[name] for name in METRICS + EXTRA if name in trial.user_attrs}


def attach_run(trial: optuna.Trial, run: Run, clips: pd.DataFrame, folder: Path) -> None:
    """Attach spec.yaml, predictions.csv and curve.csv to a trial, each once.

    One that is attached already is written again: a worker may have died before its file was whole.
    """
    attached = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(trial)}
    store = FileSystemArtifactStore(folder)
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in _files(run, clips).items():
            if name in attached:
                write_atomically(folder / attached[name], [text.encode()])
                continue
            path = Path(temporary) / name
            path.write_text(text, encoding="utf-8")
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)


def _files(run: Run, clips: pd.DataFrame) -> dict[str, str]:
    files = {"spec.yaml": yaml.safe_dump({"run_id": run.run_id, **run.identity}, sort_keys=False)}
    if run.curve:
        files["curve.csv"] = pd.DataFrame(run.curve).to_csv(index=False)
    for split, scored in run.scored.items():
        frame = clips.iloc[scored.clip_indices][["utterance", "system", "omq", "ta"]].reset_index(drop=True)
        predicted = pd.DataFrame(scored.predicted, columns=["predicted_omq", "predicted_ta"])
        name = "predictions.csv" if len(run.scored) == 1 else f"predictions_{split}.csv"
        files[name] = frame.join(predicted).to_csv(index=False)
    return files
