"""What a reviewer can open from a trial: the run's settings, its predictions, its learning curve."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import optuna
import pandas as pd
import yaml
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from study.dashboard.storage import open_storage, retried
from study.store import Database, Run, sqlite_path
from whisq_core.errors import inert
from whisq_core.files import write_atomically


def artifact_folder(url: str) -> Path:
    """Where the artifacts of a storage are: beside a SQLite file, else results/artifacts; made when it is missing."""
    path = sqlite_path(url)
    folder = (path.parent if path is not None else Path("results")) / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as user attributes, one number each, so that the dashboard can sort and plot them; only finite ones."""
    return {name: round(float(value), 6) for name, value in metrics.items() if math.isfinite(value)}


def attach_run(
    trial: optuna.Trial | FrozenTrial, run: Run, clips: pd.DataFrame, url: str, storage: BaseStorage | None = None
) -> None:
    """Attach spec.yaml, predictions.csv and curve.csv to a trial, each once; a frozen one needs its `storage`.

    A file that is attached already is written again: the process may have ended before it was complete.
    """
    _attach(trial, {name: text.encode() for name, text in _files(run, clips).items()}, url, storage)


def attach_files(database: Database, study_name: str, paths: Sequence[Path]) -> None:
    """Attach files to a study by their names, in place of those that an earlier call has attached."""
    storage, contents = open_storage(database), {path.name: path.read_bytes() for path in paths}
    study = retried(partial(optuna.load_study, study_name=study_name, storage=storage))
    retried(partial(_attach, study, contents, database.url, storage))


def _attach(
    owner: optuna.Trial | FrozenTrial | optuna.Study, contents: Mapping[str, bytes], url: str,
    storage: BaseStorage | None,
) -> None:  # fmt: skip
    folder = artifact_folder(url)
    attached = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(owner, storage=storage)}
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in contents.items():
            if name in attached:
                write_atomically(folder / attached[name], [content])
                continue
            path = Path(temporary) / name
            path.write_bytes(content)
            store = FileSystemArtifactStore(folder)
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=owner, storage=storage)


def remove_files(owner: FrozenTrial | optuna.Study, url: str, storage: BaseStorage) -> None:
    """Remove the files of a trial or study that is about to go."""
    for meta in get_all_artifact_meta(owner, storage=storage):
        (artifact_folder(url) / meta.artifact_id).unlink(missing_ok=True)


def _files(run: Run, clips: pd.DataFrame) -> dict[str, str]:
    files = {"spec.yaml": yaml.safe_dump({"run_id": run.run_id, **run.identity}, sort_keys=False)}
    if run.curve:
        files["curve.csv"] = pd.DataFrame(run.curve).to_csv(index=False)
    for split, scored in run.scored.items():
        frame = clips.iloc[scored.clip_indices][["utterance", "system", "omq", "ta"]].reset_index(drop=True)
        predicted = pd.DataFrame(scored.predicted, columns=["predicted_omq", "predicted_ta"])
        name = "predictions.csv" if len(run.scored) == 1 else f"predictions_{split}.csv"
        files[name] = frame.join(predicted).map(inert).to_csv(index=False)
    return files
