"""Runs, metrics and predictions, beside Optuna's tables: the record of what has been computed.

A finished run is written in one transaction. Only the holder of the storage's lock writes; everybody may read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from study.store.lines import chunks, insert_run, read_corpus, read_header, read_run, read_scored, replace_lines
from study.store.lock import StorageLock
from study.store.records import CellEntry, Declaration, Run, RunHeader, Scored, StoredCorpus, Tuned
from study.store.retry import tried_for, with_retry
from study.store.schema import (
    SCHEMA_VERSION,
    cells,
    corpora,
    declarations,
    metrics,
    predictions,
    read_version,
    runs,
    schema,
    tables,
)
from study.store.schema import tuned as tuned_rows
from study.store.urls import create_engine, masked, open_error, sqlite_path
from whisq_core.errors import InputError

_HEADER = [runs.c[name] for name in RunHeader.__dataclass_fields__]
_SECONDS_TO_OPEN = 1.0  # a connection may be cut while it is made; a server that is not there is told soon

Result = TypeVar("Result")


class Database:
    """Our tables behind one storage URL.

    Parameters
    ----------
    url
        ``sqlite:///FILE.db`` or ``postgresql+psycopg://...``; nothing is made before the first write.

    Raises
    ------
    InputError
        When the URL is malformed, cannot be opened, or holds a database that is not ours; passwords are masked.
    """

    def __init__(self, url: str) -> None:
        self.url, self.masked_url = url, masked(url)
        self.engine = create_engine(url)
        self._file = sqlite_path(url)
        self._lock = StorageLock(url, self.engine)
        try:
            self._version = tried_for(_SECONDS_TO_OPEN, self._read_version)
        except (DBAPIError, OSError) as error:
            raise open_error(url, error) from None

    # --- reading and writing -----------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, command: str, wait: bool = False) -> Iterator[None]:
        """Hold the storage's one lock, as `StorageLock.held` does, and have our tables there."""
        with self._lock.held(command, wait):
            if self._version != SCHEMA_VERSION:
                self.write(self._make_tables)
                self._version = SCHEMA_VERSION
            yield

    @property
    def is_current(self) -> bool:
        """Whether its tables are of this version: older ones know neither conditions nor declarations."""
        return self._version == SCHEMA_VERSION

    def writer(self) -> str | None:
        """Who is writing to this storage, in words, or None."""
        return self._lock.holder()

    def _read_version(self) -> int:
        if self._file is not None and not self._file.exists():
            return 0  # to look must not make it
        with self.engine.connect() as connection:
            return read_version(connection, self.masked_url)

    def _make_tables(self, connection: sa.Connection) -> None:
        schema.create_all(connection)
        connection.execute(tables.delete())
        connection.execute(tables.insert(), {"version": SCHEMA_VERSION})

    def write(self, action: Callable[[sa.Connection], Result]) -> Result:
        """One transaction of the lock's holder, tried again while the database is away."""

        def attempt() -> Result:
            with self._lock.transaction() as connection:
                return action(connection)

        return with_retry(attempt)

    def replace(self, table: sa.Table, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines in one transaction, in place of those that have the same primary keys; the others stay."""
        if lines:
            self.write(lambda connection: replace_lines(connection, table, lines))

    def select(self, *queries: sa.Select[Any]) -> list[sa.Row[Any]]:
        """The lines of some queries at one moment; none where there are no tables yet."""
        if self._version == 0:
            self._version = with_retry(self._read_version)
        if self._version == 0:
            return []

        def attempt() -> list[sa.Row[Any]]:
            with self.engine.connect() as connection:
                return [line for query in queries for line in connection.execute(query)]

        with self._intact("a stored value"):
            return with_retry(attempt)

    @contextmanager
    def _intact(self, what: str) -> Iterator[None]:
        """Whatever a damaged value leads to while it is decoded, as one line."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, UnicodeError, RecursionError) as error:
            raise InputError(
                f"storage '{self.masked_url}': {what} cannot be read ({type(error).__name__}: {str(error)[:200]}). "
                "Restore the database from a copy."
            ) from error

    # --- corpora -----------------------------------------------------------------------------------------------------

    def save_corpus(self, corpus: StoredCorpus) -> None:
        """Remember a corpus; of one that is there already, only what is no part of its digest can have changed."""
        tables = {"clips": corpus.clips, "system_mos": corpus.system_mos}
        texts = {name: None if table is None else table.to_json(orient="split") for name, table in tables.items()}
        line = {"digest": corpus.digest, "name": corpus.name, "simulated": corpus.simulated, **texts}
        self.replace(corpora, [line])

    def corpus(self, digest: str) -> StoredCorpus:
        """The corpus saved under `digest`.

        Raises
        ------
        InputError
            When its line is gone.
        """
        for line in self.select(sa.select(corpora).where(corpora.c.digest == digest)):
            with self._intact(f"the corpus {digest}"):
                return read_corpus(line)
        raise InputError(
            f"storage '{self.masked_url}': the corpus {digest} of stored runs is missing. Run `whisq-study ablate` "
            "with the --data of these runs: it stores the corpus again."
        )

    # --- runs --------------------------------------------------------------------------------------------------------

    def save_run(self, run: Run) -> bool:
        """Store a run with its metrics and predictions in one transaction.

        False when a done run of this identity is there already: the first one stays. A failed one is replaced.
        """
        return self.write(lambda connection: insert_run(connection, run))

    def headers(self, table_name: str, run_ids: Sequence[str]) -> list[RunHeader]:
        """The runs of `run_ids`, whatever table they were made for, and the newest done one of each cell of a table."""
        done = sa.and_(runs.c.table_name == table_name, runs.c.state == "done")
        cell = (runs.c.row, runs.c.seed)
        newest = sa.select(*cell, sa.func.max(runs.c.finished_at).label("at")).where(done).group_by(*cell).subquery()
        same = [runs.c.row == newest.c.row, runs.c.seed == newest.c.seed, runs.c.finished_at == newest.c.at]
        queries = [sa.select(*_HEADER).join(newest, sa.and_(*same)).where(done)]
        queries += [sa.select(*_HEADER).where(runs.c.run_id.in_(some)) for some in chunks(run_ids)]
        with self._intact(f"a run of table '{table_name}'"):
            found = [read_header(line) for line in self.select(*queries)]
        return list({header.run_id: header for header in found}.values())

    def state_of(self, run_id: str) -> str | None:
        """ "done", "failed", or None when there is no such run."""
        return next((line.state for line in self.select(sa.select(runs.c.state).where(runs.c.run_id == run_id))), None)

    def runs(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """The stored runs among `run_ids`, with metrics and predictions."""
        values: dict[tuple[str, str], dict[str, float]] = {}
        for metric in self._of(metrics, run_ids):
            value = float("nan") if metric.value is None else metric.value
            values.setdefault((metric.run_id, metric.split), {})[metric.name] = value
        scored: dict[str, dict[str, Scored]] = {}
        for blob in self._of(predictions, run_ids):
            with self._intact(f"the predictions of run {blob.run_id}"):
                numbers = values.get((blob.run_id, blob.split), {})
                scored.setdefault(blob.run_id, {})[blob.split] = read_scored(blob, numbers)
        found = {}
        for line in self._of(runs, run_ids):
            with self._intact(f"run {line.run_id}"):
                found[line.run_id] = read_run(line, scored.get(line.run_id, {}))
        return found

    def _of(self, table: sa.Table, run_ids: Sequence[str]) -> list[sa.Row[Any]]:
        return self.select(*(sa.select(table).where(table.c.run_id.in_(some)) for some in chunks(run_ids)))

    def recent_costs(self, limit: int = 200) -> list[tuple[dict[str, Any], dict[str, Any], float]]:
        """Identity, details and seconds of the newest done runs."""
        columns = (runs.c.identity, runs.c.details, runs.c.seconds)
        newest = sa.select(*columns).where(runs.c.state == "done").order_by(runs.c.finished_at.desc()).limit(limit)
        return [(line.identity, line.details, line.seconds) for line in self.select(newest)]

    def count_runs(self) -> int:
        """How many runs are stored."""
        return sum(line.number for line in self.select(sa.select(sa.func.count().label("number")).select_from(runs)))

    # --- cells and tuned rows ----------------------------------------------------------------------------------------

    def save_cells(self, table_name: str, entries: Sequence[CellEntry]) -> None:
        """Point the cells of a table at their current runs; cells that are not named stay as they are."""
        self.replace(cells, [{"table_name": table_name, **asdict(entry)} for entry in entries])

    def cells(self, table_name: str) -> dict[tuple[str, int], CellEntry]:
        """The cells of a table by (row, seed)."""
        columns = [cells.c[name] for name in CellEntry.__dataclass_fields__]
        lines = self.select(sa.select(*columns).where(cells.c.table_name == table_name))
        return {(line.row, line.seed): CellEntry(**line._mapping) for line in lines}

    def declare(self, run_ids: Sequence[str], declaration: Declaration) -> None:
        """Tie runs that are about to begin to what is declared now; a run that is done keeps what it was tied to."""

        def save(connection: sa.Connection) -> None:
            for some in chunks(run_ids):
                done = sa.select(runs.c.run_id).where(runs.c.run_id.in_(some), runs.c.state == "done")
                begun = sorted(set(some) - set(connection.scalars(done)))
                replace_lines(connection, declarations, [{"run_id": one, **asdict(declaration)} for one in begun])

        if run_ids:
            self.write(save)

    def declarations(self, run_ids: Sequence[str]) -> dict[str, Declaration]:
        """What was declared when each of these runs was begun; runs that older programs stored are left out."""
        lines = self._of(declarations, run_ids) if self.is_current else []
        return {line.run_id: Declaration(line.digest, line.text) for line in lines}

    def save_tuned(self, table_name: str, rows: Mapping[str, Tuned]) -> None:
        """Remember what the rows of a table were tuned to; rows that are not named stay as they are."""
        self.replace(
            tuned_rows, [{"table_name": table_name, "row": row, **asdict(tuned)} for row, tuned in rows.items()]
        )

    def tuned(self, table_name: str) -> dict[str, Tuned]:
        """The tuned rows of a table."""
        lines = self.select(sa.select(tuned_rows).where(tuned_rows.c.table_name == table_name))
        return {line.row: Tuned(line.settings, line.num_trials) for line in lines}
