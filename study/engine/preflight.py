"""Checks that every command makes before it starts anything."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from study.config.design import AblationFile, Row
from study.engine.runs import Workspace
from study.store.urls import sqlite_path
from whisq_core import kernels
from whisq_core.device import resolve_auto
from whisq_core.errors import InputError, raise_all
from whisq_core.spec import RunSpec


@contextmanager
def noted(mistakes: list[str]) -> Iterator[None]:
    """Keep what the block finds wrong for later, so that checks which do not need each other report together."""
    try:
        yield
    except InputError as error:
        mistakes.extend(error.mistakes)


def check_splits(file: AblationFile, rows: Sequence[Row], workspace: Workspace) -> None:
    """Every split that a row fits or scores must have labelled clips."""
    clips = workspace.corpus.clips
    labelled = set(clips.loc[clips["omq"].notna(), "split"])
    mistakes = []
    for row in rows:
        needed = [row.spec.data.fit, *(name for name in row.spec.data.score if name != "inner")]
        mistakes += [
            f"{file.path}:{row.line}, row '{row.id}': split '{name}' has no labelled clips in {workspace.data}. "
            f"Found: {', '.join(sorted(labelled)) or 'none'}."
            for name in needed
            if name not in labelled
        ]
    raise_all(mistakes)


def output_folder(given: Path | None, file: AblationFile) -> Path:
    """Where the tables of a file go: `--out`, else results/<its name>."""
    return given or Path("results") / file.name


def check_writable(folder: Path, option: str) -> None:
    """See that `folder` can be written, or made; nothing is made yet.

    Raises:
        InputError: naming the `option` that gave it.
    """
    problem = _unwritable(folder)
    if problem:
        raise InputError(f"{option} {folder}: cannot be written, {problem}. Give another folder.")


def check_kernels() -> None:
    """See that the kernels which the environment asks for by name are there; otherwise every cell would fail."""
    kernels.chosen()


def check_storage(url: str) -> None:
    """See that a SQLite file can be opened, or made; nothing is made yet. A server is asked when it is connected to.

    Raises:
        InputError: also when `url` is no storage URL.
    """
    path = sqlite_path(url)
    if path is None:
        return
    problem = None
    if path.is_dir():
        problem = f"{path} is a folder"
    elif path.exists() and path.stat().st_size and not _is_sqlite(path):
        problem = f"{path} is not a SQLite database"
    elif not path.exists():
        problem = _unwritable(path.parent)
    if problem:
        raise InputError(
            f"storage '{url}': cannot be opened, {problem}. Give another file: --storage sqlite:///FILE.db."
        )


def check_stored(url: str, command: str) -> None:
    """See that a SQLite file is there; one that is not would be made, empty, by looking at it.

    Raises:
        InputError: naming the `command` that makes it.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise InputError(f"storage '{url}': there is no {path}. Give the --storage of your runs, or run: {command}.")


def _is_sqlite(path: Path) -> bool:
    """Whether SQLite takes the file for a database.

    It is asked, not read around: closing any other handle of the file would drop this process' locks on it (POSIX),
    another process would take itself for the last user, and the database would be destroyed.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        return "not a database" not in str(error)  # locked, unreadable or torn: not a matter of what it is
    return True


def _unwritable(folder: Path) -> str | None:
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if not existing.is_dir():
        return f"{existing} is a file"
    return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} is not yours"


def make_folder(folder: Path) -> None:
    """Make the folder that `--out` names.

    Raises:
        InputError: when it cannot be written.
    """
    check_writable(folder, "--out")
    folder.mkdir(parents=True, exist_ok=True)


def resolved(spec: RunSpec) -> RunSpec:
    """`spec` with device and precision made concrete for this machine, so that they are part of its identity."""
    if not spec.uses_features:
        return spec
    return spec.model_copy(update={"train": resolve_auto(spec.train)})
