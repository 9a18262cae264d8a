"""Files that are whole or absent, whatever happens to the process that writes them."""

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from whisq_core.errors import InputError

_TEMPORARY_SUFFIX = ".tmp"
_ABANDONED_AFTER = 3600.0  # seconds after which a temporary file can no longer belong to a living writer


def write_atomically(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write `parts` one after the other under a temporary name, then rename: readers see all of it or none.

    Raises:
        InputError: when it cannot be written.
    """
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
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
    """Remove the temporary files that killed writers left in `folder`, once no living writer can own them."""
    for path in folder.glob(f"*{_TEMPORARY_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()
        except FileNotFoundError:  # another process swept it, or its writer has finished
            continue
