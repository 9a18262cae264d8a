"""Predictions as the challenge's zip archives: bombs, holes, lies about sizes."""

import io
import zipfile
from collections.abc import Callable

import pytest
from helpers.malformed import EVALUATE, put, sampled

Attempt = Callable[..., object]


def zipped(method: int = zipfile.ZIP_DEFLATED, text: bytes = b"name,3.0,3.0\n" * 400) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("answer.txt", text)
    return target.getvalue()


def patched(content: bytes, *changes: tuple[int, bytes]) -> bytes:
    for start, new in changes:
        content = content[:start] + new + content[start + len(new) :]
    return content


def _holed(content: bytes) -> bytes:
    return content[:60] + content[-80:]


METHODS = {"stored": 0, "deflate": 8, "bzip2": 12, "lzma": 14}
_ZIP = zipped()
_LOCAL, _DIRECTORY, _END = 0, _ZIP.index(b"PK\1\2"), _ZIP.index(b"PK\5\6")
ARCHIVES: dict[str, Callable[[], bytes]] = {
    **{f"a bomb, {name}": lambda method=method: zipped(method, bytes(200 * 2**20)) for name, method in METHODS.items()},
    **{
        f"{name}, byte {at}": lambda method=method, at=at: patched(zipped(method), (at, b"\xaa\x55"))
        for name, method in METHODS.items()
        for at in (18, 28, 40, 44, 50, 60)
    },
    **{f"{name}, a hole": lambda method=method: _holed(zipped(method)) for name, method in METHODS.items()},
    "a huge offset": lambda: patched(_ZIP, (_DIRECTORY + 42, b"\xff\xff\xff\x7f")),
    "a huge directory offset": lambda: patched(_ZIP, (_END + 16, b"\xff\xff\xff\x7f")),
    "a huge directory": lambda: patched(_ZIP, (_END + 12, b"\xff\xff\xff\x7f")),
    "a broken directory": lambda: patched(_ZIP, (_DIRECTORY, b"XXXX")),
    "encrypted": lambda: patched(_ZIP, (6, b"\1"), (_DIRECTORY + 8, b"\1")),
    "an unknown method": lambda: patched(_ZIP, (8, b"\x63"), (_DIRECTORY + 10, b"\x63")),
    "a size that is a lie": lambda: patched(_ZIP, (_DIRECTORY + 24, b"\1\0\0\0")),
    "a version of tomorrow": lambda: patched(_ZIP, (_DIRECTORY + 6, b"\xff")),
    "a beginning alone": lambda: b"PK\3\4" + bytes(100),
    "an end alone": lambda: b"x" * 50 + b"PK\5\6" + bytes(18),
    "an end of absurd numbers": lambda: b"PK\5\6" + b"\xff" * 18,
}  # fmt: skip


@pytest.mark.parametrize("case", sampled(ARCHIVES, 5))
def test_an_archive_that_cannot_be_unpacked_is_refused(attempt: Attempt, case: str) -> None:
    attempt(put("answer.txt", ARCHIVES[case]()), EVALUATE, "answer.txt")
