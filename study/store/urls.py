"""Storage URLs: SQLite on a local disk or PostgreSQL, opened the way that several processes need; passwords masked."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from whisq_core.errors import InputError

MAX_SQLITE_WORKERS = 8
QUEUE_LOCK = 4711042  # the advisory lock of our queue on PostgreSQL: any number that nobody else uses
DEFAULT_STORAGE = "sqlite:///results/whisq.db"
_POSTGRESQL_LINE = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
_NETWORK_FILE_SYSTEMS |= {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "9p"}


def parse(url: str) -> URL:
    """The parsed URL; plain `postgresql://` means the psycopg driver.

    Raises:
        InputError: for anything but SQLite and PostgreSQL, and for a SQLite file on a network file system.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(
            f"storage '{url}': not a storage URL. Allowed: sqlite:///FILE.db or {_POSTGRESQL_LINE}."
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InputError(
            f"storage '{masked(url)}': found '{parsed.drivername}'. Allowed: sqlite:///FILE.db or {_POSTGRESQL_LINE}."
        )
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise InputError(f"storage '{url}': several processes share it, so it must be a file: sqlite:///FILE.db.")
        kind = file_system(Path(str(parsed.database)))
        if kind in _NETWORK_FILE_SYSTEMS:
            raise InputError(
                f"storage '{url}': SQLite on a network file system ({kind}) loses data. "
                f"Use a local disk, or PostgreSQL: --storage {_POSTGRESQL_LINE}."
            )
    return parsed


def masked(url: str) -> str:
    """`url` fit for logs, errors and pages: its password replaced by ***."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.split("@")[-1]


def check_worker_count(url: str, workers: int) -> None:
    """Refuse more local workers than SQLite bears (it lost some of 40, none of 16; 8 leaves room).

    Raises:
        InputError: with the PostgreSQL line to use instead.
    """
    if workers < 1:
        raise InputError(f"--workers: found {workers}, allowed: 1 or more.")
    if sqlite_path(url) is not None and workers > MAX_SQLITE_WORKERS:
        raise InputError(
            f"--workers: found {workers}, SQLite is kept to at most {MAX_SQLITE_WORKERS} local workers. "
            f"For more use PostgreSQL: --storage {_POSTGRESQL_LINE}."
        )


def full(url: str) -> str:
    """The URL with driver and password, for Optuna's own engine."""
    return parse(url).render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """The database file, or None when `url` is not SQLite."""
    parsed = parse(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def engine_options(url: str) -> dict[str, Any]:
    """SQLAlchemy engine options for many short transactions from several processes."""
    if sqlite_path(url) is not None:
        return {"connect_args": {"timeout": 60}}
    return {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 3, "connect_args": {"connect_timeout": 10}}


def create_engine(url: str) -> sa.Engine:
    """An engine for our tables; the folder of a SQLite file is made when it is not there."""
    path = sqlite_path(url)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parse(url), **engine_options(url))
    except (OSError, ModuleNotFoundError, NoSuchModuleError) as error:
        raise open_error(url, error) from None
    lock_writers(engine)
    return engine


def lock_writers(engine: sa.Engine) -> None:
    """Begin every SQLite transaction as a writer, so that what it read still holds when it writes.

    Without it two workers read the same waiting trial and both claim it (SQLite's deferred transactions).
    """
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def open_error(url: str, error: Exception) -> InputError:
    """One line for a storage that cannot be opened."""
    if isinstance(error, ModuleNotFoundError):
        return InputError(f"storage '{masked(url)}': needs a driver. Run: pip install 'whisq-study[postgresql]'.")
    cause = error.orig if isinstance(error, DBAPIError) else error
    first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    return InputError(f"storage '{masked(url)}': cannot be opened: {first_line}.")


def file_system(path: Path) -> str:
    """The type of the file system that holds `path` ("ext4", "nfs4", ...); "" where the system does not tell."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    resolved = str(path.resolve())
    best, kind = "", ""
    for line in mounts.read_text(encoding="utf-8").splitlines():
        point, this_kind = line.split()[1:3]
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, this_kind
    return kind
