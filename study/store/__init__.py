"""The database of runs: what is stored, as values; storage URLs; the one lock of all that write.

Nothing here computes or trains. `Database` is the door.
"""

from study.store.database import Database
from study.store.records import CellEntry, Declaration, Run, RunHeader, Scored, StoredCorpus, Tuned
from study.store.retry import with_retry
from study.store.urls import DEFAULT_STORAGE, engine_options, full, masked, open_error, sqlite_path

__all__ = [
    "DEFAULT_STORAGE",
    "CellEntry",
    "Database",
    "Declaration",
    "Run",
    "RunHeader",
    "Scored",
    "StoredCorpus",
    "Tuned",
    "engine_options",
    "full",
    "masked",
    "open_error",
    "sqlite_path",
    "with_retry",
]
