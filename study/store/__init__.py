"""The database of runs: what is stored, as values; storage URLs; the one lock of all that write.

Nothing here computes or trains. `Database` is the door.
"""

from study.store.database import Database
from study.store.inventory import conditions, done_cells, list_runs, remove, save_conditions, shared_runs, stored_tables
from study.store.records import CellEntry, Conditions, Declaration, Run, RunHeader, RunLine, Scored, StoredCorpus, Tuned
from study.store.retry import with_retry
from study.store.urls import DEFAULT_STORAGE, engine_options, full, masked, open_error, sqlite_path

__all__ = [
    "DEFAULT_STORAGE",
    "CellEntry",
    "Conditions",
    "Database",
    "Declaration",
    "Run",
    "RunHeader",
    "RunLine",
    "Scored",
    "StoredCorpus",
    "Tuned",
    "conditions",
    "done_cells",
    "engine_options",
    "full",
    "list_runs",
    "masked",
    "open_error",
    "remove",
    "save_conditions",
    "shared_runs",
    "sqlite_path",
    "stored_tables",
    "with_retry",
]
