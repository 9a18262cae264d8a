"""Runs and corpora as lines of our tables, and back: what is stored is checked when it is read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from study.store.records import Run, RunHeader, Scored, StoredCorpus
from study.store.schema import metrics, predictions, runs

_MAX_PARAMETERS = 1000
_CLIP_COLUMNS = {"utterance", "system", "prompt", "omq", "ta", "split"}


def insert_run(connection: sa.Connection, run: Run) -> bool:
    """Store a run with its metrics and predictions; False when a done run of this identity is there already."""
    state = connection.scalar(sa.select(runs.c.state).where(runs.c.run_id == run.run_id))
    if state == "done":
        return False
    if state is not None:
        connection.execute(runs.delete().where(runs.c.run_id == run.run_id))
    connection.execute(runs.insert(), {column.name: _json_ready(getattr(run, column.name)) for column in runs.columns})
    numbers = [
        {"run_id": run.run_id, "split": split, "name": name, "value": None if value != value else float(value)}
        for split, scored in run.scored.items()
        for name, value in scored.metrics.items()
    ]
    arrays = [
        {
            "run_id": run.run_id,
            "split": split,
            "clip_indices": scored.clip_indices.astype("<i4").tobytes(),
            "predicted": scored.predicted.astype("<f8").tobytes(),
        }
        for split, scored in run.scored.items()
    ]
    for table, lines in ((metrics, numbers), (predictions, arrays)):
        if lines:
            connection.execute(table.insert(), lines)
    return True


def replace_lines(connection: sa.Connection, table: sa.Table, lines: Sequence[Mapping[str, Any]]) -> None:
    """Put lines into a table, in place of those that have the same primary keys."""
    if lines:
        keys = [column.name for column in table.primary_key.columns]
        same = [table.c[name] == sa.bindparam(f"old_{name}") for name in keys]
        connection.execute(
            table.delete().where(*same), [{f"old_{name}": line[name] for name in keys} for line in lines]
        )
        connection.execute(table.insert(), lines)


def read_corpus(line: sa.Row[Any]) -> StoredCorpus:
    """The corpus of a line; like all that read, it raises whatever damage leads to."""
    clips, system_mos = _frame(line.clips), None if line.system_mos is None else _frame(line.system_mos)
    _check(set(clips) >= _CLIP_COLUMNS and len(clips) > 0, "it lacks clips or columns")
    return StoredCorpus(line.digest, line.name, line.simulated, clips, system_mos)


def read_scored(line: sa.Row[Any], values: dict[str, float]) -> Scored:
    """The predictions of a line with their metrics."""
    _check(len(line.predicted) == 4 * len(line.clip_indices) > 0, "they are truncated")
    indices = np.frombuffer(line.clip_indices, dtype="<i4")
    predicted = np.frombuffer(line.predicted, dtype="<f8").reshape(-1, 2)
    _check(bool(indices.min() >= 0), "they name clips that there are not")
    _check(bool(np.isfinite(predicted).all()), "they are not finite")
    return Scored(indices, predicted, values)


def read_header(line: sa.Row[Any]) -> RunHeader:
    """What planning needs of a run's line."""
    _check(isinstance(line.identity, dict), "it lacks its identity")
    return RunHeader(**line._mapping)


def read_run(line: sa.Row[Any], scored: dict[str, Scored]) -> Run:
    """The run of a line."""
    run = Run(**line._mapping, scored=scored)
    _check(run.state in ("done", "failed"), f"its state is {run.state!r}")
    _check(all(isinstance(part, dict) for part in (run.identity, run.details, run.manifest)), "it lacks its details")
    _check(isinstance(run.curve, list) and all(isinstance(epoch, dict) for epoch in run.curve), "its curve is none")
    _check(run.state == "failed" or bool(run.scored), "its predictions are missing")
    return run


def _check(right: bool, mistake: str) -> None:
    if not right:
        raise ValueError(mistake)


def _frame(text: str) -> pd.DataFrame:
    content = json.loads(text)
    return pd.DataFrame(content["data"], index=content["index"], columns=content["columns"])


def _json_ready(value: Any) -> Any:
    """NaN has no place in JSON: undefined numbers are stored as null."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def chunks(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts small enough for one statement: databases limit the number of its parameters."""
    return (run_ids[start : start + _MAX_PARAMETERS] for start in range(0, len(run_ids), _MAX_PARAMETERS))
