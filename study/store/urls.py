"""Storage URLs: SQLite on a local disk or PostgreSQL; passwords never leave this module unmasked."""

import atexit
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from whisq_core.errors import InputError
from whisq_core.files import check_regular

DEFAULT_STORAGE = "sqlite:///results/whisq.db"
POSTGRESQL_FORM = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_ALLOWED = f"Allowed: sqlite:///FILE.db or {POSTGRESQL_FORM}."
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
_NETWORK_FILE_SYSTEMS |= {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "9p"}
_SECRET = re.compile(r"(password|passwd|pwd|secret|token)", re.IGNORECASE)
_HIDDEN = "(a storage URL with what may be a password, not shown)"
_LARGEST = 2**40  # bytes of a database
_WAIT_FOR_LOCK = 60  # seconds that SQLite waits for another writer, such as the dashboard's page


def parse(url: str) -> URL:
    """The parsed URL of SQLite, on no network file system, or PostgreSQL; plain `postgresql://` means psycopg's."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(f"storage '{masked(url)}': not a storage URL. {_ALLOWED}") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InputError(f"storage '{masked(url)}': found '{parsed.drivername}'. {_ALLOWED}")
    if parsed.drivername == "sqlite":
        _check_file(url, parsed)
    elif re.search("=", parsed.username or "") or re.search("[=@]", f"{parsed.host}{parsed.database}"):
        raise InputError(  # what the driver's errors would repeat, and it may be a password
            f"storage '{masked(url)}': '=' or '@' stands where a user, host or database is named: in a password write "
            f"%3D and %40. {_ALLOWED}"
        )
    return parsed


def _check_file(url: str, parsed: URL) -> None:
    if parsed.database in (None, "", ":memory:") or parsed.host or parsed.password:
        raise InputError(f"storage '{masked(url)}': it must name a file: sqlite:///FILE.db (three slashes).")
    if re.search(r"[\0?]", url) or parsed.query:
        raise InputError(f"storage '{masked(url)}': not a file name. {_ALLOWED}")
    if re.search(":[^/]*@", str(parsed.database)):
        raise InputError(f"storage '{masked(url)}': what may be a password stands in a file's name. {_ALLOWED}")
    path = Path(str(parsed.database))
    try:
        check_regular(path, _LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        pass  # it is to be made, or the command names what is in its way
    except OSError as error:
        remedy = "Give another file: --storage sqlite:///FILE.db."
        raise InputError(f"storage '{masked(url)}': cannot be opened, {error.strerror}. {remedy}") from None
    kind = file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise InputError(
            f"storage '{masked(url)}': SQLite on a network file system ({kind}) loses data. "
            f"Use a local disk, or PostgreSQL: --storage {POSTGRESQL_FORM}."
        )


def masked(url: str) -> str:
    """`url` fit for logs, errors and pages. What cannot be parsed for certain is described, not shown."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url if _is_harmless(url) else _HIDDEN
    if parsed.drivername.startswith("sqlite"):
        return url if _is_harmless(url) else "(a SQLite URL with what may be a password, not shown)"
    parts = (parsed.username, parsed.host, parsed.database)
    if url.count("@") > 1 or not re.match(r"[a-z0-9+]+://", url) or not all(_is_harmless(part or "") for part in parts):
        return _HIDDEN
    shown = parsed.set(
        query={name: "***" if _SECRET.search(f"{name}={value}") else value for name, value in parsed.query.items()}
    )
    return shown.render_as_string(hide_password=True)


def _is_harmless(url: str) -> bool:
    return "@" not in url and not _SECRET.search(url)


def full(url: str) -> str:
    """The URL with driver and password, for Optuna's own engine."""
    return parse(url).render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """The database file, or None when `url` is not SQLite."""
    parsed = parse(url)
    return Path(str(parsed.database)) if parsed.drivername == "sqlite" else None


def engine_options(url: str) -> dict[str, Any]:
    """SQLAlchemy engine options for many short transactions, one of them writing at a time.

    A SQLite file that cannot be written, or whose journal beside it cannot, is opened as it is, for reading alone.
    """
    path = sqlite_path(url)
    if path is not None and path.exists() and not all(os.access(place, os.W_OK) for place in (path, path.parent)):
        address = f"file:{quote(str(_whole(path.resolve())))}?mode=ro&immutable=1"
        return {"creator": lambda: sqlite3.connect(address, uri=True, check_same_thread=False)}
    if path is not None:
        return {"connect_args": {"timeout": _WAIT_FOR_LOCK}}
    return {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 3, "connect_args": {"connect_timeout": 10}}


def create_engine(url: str) -> sa.Engine:
    """An engine for our tables. Nothing is made on disk before the first write."""
    options = engine_options(url)
    try:
        engine = sa.create_engine(parse(url), **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise open_error(url, error) from None
    engine.dialect.use_insertmanyvalues_wo_returning = engine.dialect.name == "postgresql"  # lines in one round trip
    if engine.dialect.name == "sqlite" and "creator" not in options:
        sa.event.listen(engine, "connect", _configure)
    return engine


@cache
def _whole(path: Path) -> Path:
    """A file with all that was committed: a copy where a writer was ended before it moved its journal into the file."""
    journal = Path(f"{path}-wal")
    if not journal.exists() or not journal.stat().st_size:
        return path
    folder = Path(tempfile.mkdtemp(prefix="whisq-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / path.name
    shutil.copyfile(path, copy)
    shutil.copyfile(journal, f"{copy}-wal")
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return copy


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    """Readers do not wait for the writer; a power cut loses at most the last transaction, never the file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def open_error(url: str, error: Exception) -> InputError:
    """One line for a storage that cannot be opened."""
    if isinstance(error, ModuleNotFoundError | NoSuchModuleError):
        return InputError(f"storage '{masked(url)}': needs a driver. Run: pip install 'whisq-study[postgresql]'.")
    cause = error.orig if isinstance(error, DBAPIError) else error
    first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    return InputError(f"storage '{masked(url)}': cannot be opened: {first_line}.")


def file_system(path: Path) -> str:
    """The type of the file system that holds `path` ("ext4", "nfs4", ...); "" where the system does not tell."""
    resolved = path.resolve()
    around = [mount for mount in psutil.disk_partitions(all=True) if resolved.is_relative_to(mount.mountpoint)]
    return max(reversed(around), key=lambda mount: len(mount.mountpoint)).fstype if around else ""
