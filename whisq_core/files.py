"""Files as data: read within limits, written whole or not at all, and their remembered digests."""

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from whisq_core.errors import InputError

_OURS = re.compile(r".*\.whisq-[0-9a-f]{32}\.tmp")  # nothing else is ever removed
TEXT_BYTES = 64 * 2**20  # the longest list, table or configuration that is read
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_ABANDONED_AFTER = 3600.0  # seconds after which another machine's temporary file cannot belong to a living writer


def check_regular(path: Path, limit: int) -> int:
    """The size of a regular file of at most `limit` bytes.

    Raises:
        OSError: for anything else, which may never end or block for ever; `strerror` says what it is.
    """
    try:
        status = path.stat()
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL", str(path)) from None
    return _checked(status, path, limit)


def open_regular(path: Path, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, to be read.

    Raises:
        OSError: as `check_regular`, and when it cannot be opened.
    """
    check_regular(path, limit)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _checked(os.fstat(descriptor), path, limit)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int = TEXT_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def _checked(status: os.stat_result, path: Path, limit: int) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}, allowed: a file", str(path))
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, allowed: {limit:,}", str(path))
    return status.st_size


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
            found = json.loads(read_regular(memory))
        except (OSError, ValueError, RecursionError):
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
