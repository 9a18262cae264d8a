"""Files that are whole or absent, whatever happens to the process that writes them, and their remembered digests."""

import fcntl
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from whisq_core.errors import InputError

_OURS = re.compile(r".*\.whisq-[0-9a-f]{32}\.tmp")  # nothing else is ever removed
_ABANDONED_AFTER = 3600.0  # seconds after which another machine's temporary file cannot belong to a living writer


def write_atomically(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write `parts` one after the other under a temporary name, then rename: readers see all of it or none.

    Raises:
        InputError: when it cannot be written.
    """
    temporary = path.with_name(f"{path.stem}{_this_machine()}whisq-{uuid.uuid4().hex}.tmp")
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
        with suppress(OSError):
            temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left in `folder`; those of living writers stay."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):  # another process swept it, its writer has finished, or nothing may be removed here
            if not _OURS.fullmatch(path.name):
                continue
            if _this_machine() not in path.name:
                if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                    path.unlink()
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives
                path.unlink()


class FileDigests:
    """SHA-256 of files, remembered by path, size and modification time, so that unchanged files are not read again.

    What is remembered saves time only: it is made anew where it cannot be understood, and done without where it
    cannot be written.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._changed = False
        try:
            found = json.loads(memory.read_bytes())
        except (OSError, ValueError):
            found = {}
        self._entries: dict[str, list[Any]] = {
            path: entry
            for path, entry in (found.items() if isinstance(found, dict) else ())
            if isinstance(entry, list) and [type(item) for item in entry] == [int, int, str]
        }

    def known(self, path: Path) -> str | None:
        """The digest of a file that has not changed since it was remembered."""
        entry = self._entries.get(str(path))
        with suppress(OSError):
            return entry[2] if entry and entry[:2] == _stamp(path) else None
        return None

    def of(self, path: Path) -> str:
        """The digest of a file, read where it is not known."""
        if (known := self.known(path)) is not None:
            return known
        stamp = _stamp(path)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        self._entries[str(path)] = [*stamp, content]
        self._changed = True
        return content

    def save(self) -> None:
        """Remember what was read, for the next process."""
        if self._changed:
            sweep(self._memory.parent)
            with suppress(InputError):
                write_atomically(self._memory, [json.dumps(self._entries).encode()])


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _this_machine() -> str:
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
