"""What a reviewer can open from a trial in optuna-dashboard: its settings, its predictions, its learning curve."""

import tempfile
from pathlib import Path

import optuna
import pandas as pd
import yaml
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from study.database import StoredRun
from study.storage_url import sqlite_path


def artifact_folder(url: str) -> Path:
    """Where the artifacts of a storage lie: beside a SQLite file, else results/artifacts; made when it is not there."""
    path = sqlite_path(url)
    folder = (path.parent if path is not None else Path("results")) / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def attach_run(trial: optuna.Trial, run: StoredRun, clips: pd.DataFrame, folder: Path) -> None:
    """Attach spec.yaml, predictions.csv and curve.csv to a trial, once."""
    if get_all_artifact_meta(trial):
        return
    store = FileSystemArtifactStore(folder)
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in _files(run, clips).items():
            path = Path(temporary) / name
            path.write_text(text, encoding="utf-8")
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)


def _files(run: StoredRun, clips: pd.DataFrame) -> dict[str, str]:
    files = {"spec.yaml": yaml.safe_dump({"run_id": run.run_id, **run.identity}, sort_keys=False)}
    if run.curve:
        files["curve.csv"] = pd.DataFrame(run.curve).to_csv(index=False)
    for split, scored in run.scored.items():
        frame = clips.iloc[scored.clip_indices][["utterance", "system", "omq", "ta"]].reset_index(drop=True)
        predicted = pd.DataFrame(scored.predicted, columns=["predicted_omq", "predicted_ta"])
        name = "predictions.csv" if len(run.scored) == 1 else f"predictions_{split}.csv"
        files[name] = frame.join(predicted).to_csv(index=False)
    return files
