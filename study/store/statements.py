"""Parts of the database's transactions: a run with all that belongs to it, long lists in pieces, frames as text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from study.store.records import Run
from study.store.schema import metrics, predictions, runs

_MAX_PARAMETERS = 1000


def insert_run(connection: sa.Connection, run: Run) -> bool:
    """Insert a run with its metrics and predictions; False where a done one is there already."""
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


def chunks(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts small enough for one statement: databases limit the number of its parameters."""
    return (run_ids[start : start + _MAX_PARAMETERS] for start in range(0, len(run_ids), _MAX_PARAMETERS))


def frame(text: str) -> pd.DataFrame:
    """A frame from the JSON of its split form."""
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
