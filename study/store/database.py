"""Runs, metrics and predictions in the same database as Optuna's tables: the truth of what has been computed.

A finished run is written in one transaction; `run_id` is unique, so finishing a run twice changes nothing.
"""

import fcntl
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from study.store.records import CellEntry, RunHeader, Scored, StoredCorpus, StoredRun, Tuned
from study.store.urls import QUEUE_LOCK, create_engine, masked, open_error, sqlite_path
from whisq_core.errors import InputError

_metadata = sa.MetaData()

_corpora = sa.Table(
    "whisq_corpora",
    _metadata,
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("clips", sa.Text, nullable=False),
    sa.Column("system_mos", sa.Text),
)
_runs = sa.Table(
    "whisq_runs",
    _metadata,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("table_name", sa.String(200), nullable=False),
    sa.Column("row", sa.String(200), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("curve", sa.JSON, nullable=False),  # last: it is long, and SQLite reads a line up to what is asked for
    # What planning asks, answered from the index alone: the newest run of each cell, and the newest of all.
    sa.Index("whisq_runs_of_cells", "table_name", "row", "seed", "state", "finished_at"),
    sa.Index("whisq_runs_by_time", "state", "finished_at"),
)
_cells = sa.Table(
    "whisq_cells",
    _metadata,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("row", sa.String(200), primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(32)),
    sa.Column("problem", sa.Text),
    sa.Column("corpus_digest", sa.String(32), nullable=False),
)
_tuned = sa.Table(
    "whisq_tuned",
    _metadata,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("row", sa.String(200), primary_key=True),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("num_trials", sa.Integer, nullable=False),
)
_metrics = sa.Table(
    "whisq_metrics",
    _metadata,
    sa.Column("run_id", sa.ForeignKey("whisq_runs.run_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("split", sa.String(10), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Float),
)
_predictions = sa.Table(
    "whisq_predictions",
    _metadata,
    sa.Column("run_id", sa.ForeignKey("whisq_runs.run_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("split", sa.String(10), primary_key=True),
    sa.Column("clip_indices", sa.LargeBinary, nullable=False),
    sa.Column("predicted", sa.LargeBinary, nullable=False),
)


_HEADER = [_runs.c[name] for name in RunHeader.__dataclass_fields__]
_MAX_PARAMETERS = 1000

Result = TypeVar("Result")


def with_retry(action: Callable[[], Result], *, patience_seconds: float = 600.0) -> Result:
    """Run `action` again while the connection is lost or locked, waiting 0.1 s, 0.2 s, ... 30 s between tries."""
    pause, deadline = 0.1, time.monotonic() + patience_seconds
    while True:
        try:
            return action()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() + pause > deadline:
                raise
            if pause > 1.0:
                print(f"the database does not answer, trying again: {error.orig}", file=sys.stderr)
            time.sleep(pause)
            pause = min(2 * pause, 30.0)


class Database:
    """Our tables behind one storage URL; safe to open from several processes and machines."""

    def __init__(self, url: str) -> None:
        """Open `url`, creating file and tables when they are not there.

        Raises:
            InputError: when the URL is malformed or cannot be opened; passwords are masked.
        """
        self.url = url
        self.masked_url = masked(url)
        self.engine = create_engine(url)
        self._lock_file = sqlite_path(url)
        try:
            with self.exclusive():
                _metadata.create_all(self.engine)
        except (DBAPIError, OSError) as error:
            raise open_error(url, error) from None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the queue lock of this storage: a file lock beside SQLite, an advisory lock on PostgreSQL.

        It is released by the system when the holder dies.
        """
        if self._lock_file is not None:
            with open(f"{self._lock_file}.lock", "a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        elif self.engine.dialect.name == "postgresql":
            with self.engine.connect() as connection:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": QUEUE_LOCK})
                yield
        else:
            raise InputError(f"storage '{self.masked_url}': only sqlite:/// and postgresql+psycopg:// are supported.")

    # --- corpora -----------------------------------------------------------------------------------------------------

    def save_corpus(self, corpus: StoredCorpus) -> None:
        """Remember the labels of a corpus; a digest that is there already is left as it is."""
        values = {
            "digest": corpus.digest,
            "name": corpus.name,
            "simulated": corpus.simulated,
            "clips": corpus.clips.to_json(orient="split"),
            "system_mos": None if corpus.system_mos is None else corpus.system_mos.to_json(orient="split"),
        }
        with self.exclusive(), self.engine.begin() as connection:
            if not connection.scalar(sa.select(sa.func.count()).where(_corpora.c.digest == corpus.digest)):
                connection.execute(_corpora.insert(), values)

    def corpus(self, digest: str) -> StoredCorpus:
        """The corpus saved under `digest`."""
        with self.engine.begin() as connection:
            line = connection.execute(sa.select(_corpora).where(_corpora.c.digest == digest)).one()
        system_mos = None if line.system_mos is None else _frame(line.system_mos)
        return StoredCorpus(line.digest, line.name, line.simulated, _frame(line.clips), system_mos)

    # --- runs --------------------------------------------------------------------------------------------------------

    def save_run(self, run: StoredRun) -> bool:
        """Store a run with its metrics and predictions in one transaction.

        Returns:
            False when a done run of this identity is there already: the first one stays. A failed one is replaced.
        """
        try:
            return with_retry(lambda: self._save_run(run))
        except IntegrityError:  # another process finished the same run between our look and our write
            return False

    def _save_run(self, run: StoredRun) -> bool:
        with self.engine.begin() as connection:
            state = connection.scalar(sa.select(_runs.c.state).where(_runs.c.run_id == run.run_id))
            if state == "done":
                return False
            if state is not None:
                connection.execute(_runs.delete().where(_runs.c.run_id == run.run_id))
            connection.execute(
                _runs.insert(), {column.name: _json_ready(getattr(run, column.name)) for column in _runs.columns}
            )
            metrics = [
                {"run_id": run.run_id, "split": split, "name": name, "value": _null_for_nan(value)}
                for split, scored in run.scored.items()
                for name, value in scored.metrics.items()
            ]
            predictions = [
                {
                    "run_id": run.run_id,
                    "split": split,
                    "clip_indices": scored.clip_indices.astype("<i4").tobytes(),
                    "predicted": scored.predicted.astype("<f8").tobytes(),
                }
                for split, scored in run.scored.items()
            ]
            if metrics:
                connection.execute(_metrics.insert(), metrics)
            if predictions:
                connection.execute(_predictions.insert(), predictions)
        return True

    def headers(self, table_name: str) -> list[RunHeader]:
        """The runs made for one table, oldest first."""
        ours = sa.select(*_HEADER).where(_runs.c.table_name == table_name).order_by(_runs.c.finished_at)
        with self.engine.begin() as connection:
            return [RunHeader(*line) for line in connection.execute(ours)]

    def headers_for_plan(self, table_name: str, run_ids: Sequence[str]) -> list[RunHeader]:
        """The runs of `run_ids`, whatever table they were made for, and the newest done one of each cell of a table."""
        done = sa.and_(_runs.c.table_name == table_name, _runs.c.state == "done")
        cell = (_runs.c.row, _runs.c.seed)
        newest = sa.select(*cell, sa.func.max(_runs.c.finished_at).label("at")).where(done).group_by(*cell).subquery()
        same = [_runs.c.row == newest.c.row, _runs.c.seed == newest.c.seed, _runs.c.finished_at == newest.c.at]
        queries = [sa.select(*_HEADER).join(newest, sa.and_(*same)).where(done)]
        queries += [sa.select(*_HEADER).where(_runs.c.run_id.in_(some)) for some in _chunks(run_ids)]
        with self.engine.begin() as connection:
            found = [RunHeader(*line) for query in queries for line in connection.execute(query)]
        return list({header.run_id: header for header in found}.values())

    def state_of(self, run_id: str) -> str | None:
        """ "done", "failed", or None when there is no such run."""
        with self.engine.begin() as connection:
            return connection.scalar(sa.select(_runs.c.state).where(_runs.c.run_id == run_id))

    def runs(self, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The stored runs among `run_ids`, with metrics and predictions."""
        with self.engine.begin() as connection:
            lines, metrics, blobs = (_lines(connection, table, run_ids) for table in (_runs, _metrics, _predictions))
        values: dict[tuple[str, str], dict[str, float]] = {}
        for metric in metrics:
            value = float("nan") if metric.value is None else metric.value
            values.setdefault((metric.run_id, metric.split), {})[metric.name] = value
        scored: dict[str, dict[str, Scored]] = {}
        for blob in blobs:
            scored.setdefault(blob.run_id, {})[blob.split] = Scored(
                np.frombuffer(blob.clip_indices, dtype="<i4"),
                np.frombuffer(blob.predicted, dtype="<f8").reshape(-1, 2),
                values.get((blob.run_id, blob.split), {}),
            )
        return {line.run_id: StoredRun(**line._mapping, scored=scored.get(line.run_id, {})) for line in lines}

    def recent_costs(self, limit: int = 200) -> list[tuple[dict[str, Any], dict[str, Any], float]]:
        """Identity, details and seconds of the newest done runs."""
        columns = (_runs.c.identity, _runs.c.details, _runs.c.seconds)
        newest = sa.select(*columns).where(_runs.c.state == "done").order_by(_runs.c.finished_at.desc()).limit(limit)
        with self.engine.begin() as connection:
            return [(line.identity, line.details, line.seconds) for line in connection.execute(newest)]

    # --- cells -------------------------------------------------------------------------------------------------------

    def save_cells(self, table_name: str, entries: Sequence[CellEntry]) -> None:
        """Point the cells of a table at their current runs; cells that are not named stay as they are."""
        with self.exclusive(), self.engine.begin() as connection:
            for entry in entries:
                values = {"table_name": table_name, **asdict(entry)}
                same = sa.and_(*(_cells.c[name] == values[name] for name in ("table_name", "row", "seed")))
                connection.execute(_cells.delete().where(same))
                connection.execute(_cells.insert(), values)

    def cells(self, table_name: str) -> dict[tuple[str, int], CellEntry]:
        """The cells of a table by (row, seed)."""
        columns = [_cells.c[name] for name in CellEntry.__dataclass_fields__]
        with self.engine.begin() as connection:
            lines = connection.execute(sa.select(*columns).where(_cells.c.table_name == table_name)).all()
        return {(line.row, line.seed): CellEntry(*line) for line in lines}

    # --- tuned rows --------------------------------------------------------------------------------------------------

    def save_tuned(self, table_name: str, rows: Mapping[str, Tuned]) -> None:
        """Remember what the rows of a table were tuned to; rows that are not named stay as they are."""
        with self.exclusive(), self.engine.begin() as connection:
            for row, tuned in rows.items():
                connection.execute(_tuned.delete().where(_tuned.c.table_name == table_name, _tuned.c.row == row))
                connection.execute(_tuned.insert(), {"table_name": table_name, "row": row, **asdict(tuned)})

    def tuned(self, table_name: str) -> dict[str, Tuned]:
        """The tuned rows of a table."""
        columns = (_tuned.c.row, _tuned.c.settings, _tuned.c.num_trials)
        with self.engine.begin() as connection:
            lines = connection.execute(sa.select(*columns).where(_tuned.c.table_name == table_name)).all()
        return {line.row: Tuned(line.settings, line.num_trials) for line in lines}

    def count_runs(self) -> int:
        """How many runs are stored."""
        with self.engine.begin() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(_runs)) or 0


def _chunks(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts small enough for one statement: databases limit the number of its parameters."""
    return (run_ids[start : start + _MAX_PARAMETERS] for start in range(0, len(run_ids), _MAX_PARAMETERS))


def _lines(connection: sa.Connection, table: sa.Table, run_ids: Sequence[str]) -> list[sa.Row[Any]]:
    queries = [sa.select(table).where(table.c.run_id.in_(some)) for some in _chunks(run_ids)]
    return [line for query in queries for line in connection.execute(query)]


def _frame(text: str) -> pd.DataFrame:
    content = json.loads(text)
    return pd.DataFrame(content["data"], index=content["index"], columns=content["columns"])


def _null_for_nan(value: float) -> float | None:
    return None if value != value else float(value)


def _json_ready(value: Any) -> Any:
    """NaN has no place in JSON: undefined numbers are stored as null."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value
