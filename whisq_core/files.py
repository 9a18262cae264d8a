"""Files that are whole or absent, whatever happens to the process that writes them."""

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from whisq_core.errors import InputError

_TEMPORARY_SUFFIX = ".tmp"
_ABANDONED_AFTER = 3600.0  # seconds after which another machine's temporary file cannot belong to a living writer


def write_atomically(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write `parts` one after the other under a temporary name, then rename: readers see all of it or none.

    Raises:
        InputError: when it cannot be written.
    """
    temporary = path.with_name(f"{path.stem}{_ours()}{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(temporary) as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the right size and the wrong bytes
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). Give another folder or free space.") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left in `folder`; those of living writers stay."""
    for path in folder.glob(f"*{_TEMPORARY_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process swept it, or its writer has finished
            if _ours() not in path.name:
                if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                    path.unlink()
                continue
            with path.open("rb") as file, suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives
                path.unlink()


def _ours() -> str:
    """The part of a temporary name that tells this machine's writers, whose locks can be seen, from others."""
    return f".{socket.gethostname()}."


def _locked(path: Path) -> BinaryIO:
    """A new file that `sweep` leaves alone until it is closed or its writer dies."""
    while True:
        file = path.open("xb")
        with suppress(OSError):  # a file system without locks, where nothing of ours is swept either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # swept between its making and its lock
