"""Optuna's side of a storage: opened with our engine options, and waited for while its server is away."""

import sqlite3
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from study.store import Database, engine_options, full, open_error, with_retry
from whisq_core.errors import InputError
from whisq_core.metrics import higher_is_better

Result = TypeVar("Result")
_storages: "WeakKeyDictionary[Database, RDBStorage]" = WeakKeyDictionary()  # to open one takes a tenth of a second


def open_storage(database: Database) -> RDBStorage:
    """Optuna's storage on the URL of `database`, opened once for it.

    Raises
    ------
    InputError
        When the URL cannot be opened or holds tables of another Optuna.
    """
    if (known := _storages.get(database)) is not None:
        return known
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = with_retry(partial(_opened, database.url))
    except (DBAPIError, RuntimeError) as error:
        raise open_error(database.url, error) from None
    if storage.engine.dialect.name == "sqlite":
        storage.engine.dispose()  # connections opened so far are slow: each of many small writes waits for the disk
        sa.event.listen(storage.engine, "connect", _configure)
    _storages[database] = storage
    return storage


def _opened(url: str) -> RDBStorage:
    """Optuna makes its tables where there are none, and another process may be about to do the same."""
    opened = partial(RDBStorage, full(url), engine_kwargs=engine_options(url))
    try:
        return opened()
    except (IntegrityError, ProgrammingError):  # the other one was first
        time.sleep(1.0)
        return opened()


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def open_study(storage: RDBStorage, name: str, kind: str, metric: str, title: str | None = None) -> optuna.Study:
    """Create or load a study; `title` names its objective, `metric` gives its direction.

    Raises
    ------
    InputError
        When the name belongs to a study of another kind.
    """
    direction = StudyDirection.MAXIMIZE if higher_is_better(metric) else StudyDirection.MINIMIZE
    study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    found = study.user_attrs.get("kind")
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([title or metric])
        study.set_user_attr("kind", kind)
    elif found != kind:
        raise InputError(f"study '{name}': there is one of another kind ({found}, not {kind}). Give another name.")
    return study


def retried(action: Callable[[], Result]) -> Result:
    """Run `action` again and again while the database cannot be reached; any other error passes.

    `with_retry` has to see what the driver said, and Optuna hides it inside its own exception.
    """

    def attempt() -> Result:
        try:
            return action()
        except StorageInternalError as error:
            cause = error.__cause__
            while cause is not None and not isinstance(cause, DBAPIError):
                cause = cause.__cause__ or cause.__context__  # what Optuna tried next may hide the loss a second time
            raise cause or error from None

    return with_retry(attempt)
