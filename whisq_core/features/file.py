"""One item of a feature store as a file: its layout, its checks, its reading and writing.

Little-endian, each block on a 64-byte boundary:

    header  magic, dim, num_frames, num_valid, CRC-32 of the pooled block, of the frames and of the header,
            the item's SHA-256, the digest of the store's key
    pooled  float32 [2, dim]: the mean over all frames, the mean over valid frames
    frames  float16 [num_frames, dim]
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float16

from whisq_core.errors import InputError
from whisq_core.files import write_atomically

if TYPE_CHECKING:  # torch takes a second to import, and a plan only asks what is missing
    import torch

_MAGIC = b"WHISQF01"  # the last two digits are the version of the layout
_HEADER = struct.Struct("<8s6I32s16s")
_HEADER_BYTES = 128
_ALIGNMENT = 64
_PREFIX_BYTES = 16 * 1024  # one read that holds the header and the pooled block of the usual encoders


class Broken(Exception):
    """An item file that must not be read; the message says why."""


@dataclass(frozen=True)
class ItemKey:
    """Whose features a file holds: both are hexadecimal, 64 digits (SHA-256) and 32 digits."""

    item: str
    store: str


@dataclass(frozen=True)
class Item:
    """One item's header and pooled vectors."""

    dim: int
    num_frames: int
    num_valid: int
    frames_crc: int
    pooled: Float[np.ndarray, "2 dim"]


def write_item(
    path: Path,
    key: ItemKey,
    half: Float16[np.ndarray, "frames dim"],
    num_valid: int,
    pooled: Float[np.ndarray, "2 dim"],
) -> None:
    """Write the file atomically.

    Raises:
        InputError: when it cannot be written.
    """
    block = pooled.astype("<f4").tobytes()
    frames = memoryview(half.astype("<f2", copy=False).tobytes())
    num_frames, dim = half.shape
    header = _header(key, dim, num_frames, num_valid, zlib.crc32(block), zlib.crc32(frames))
    padding = bytes(_frames_offset(dim) - _HEADER_BYTES - len(block))
    write_atomically(path, [header, block, padding, frames])


def read_item(path: Path, key: ItemKey) -> Item:
    """The header and the pooled vectors, checked for size, identity and sums; frames are not touched.

    Raises:
        FileNotFoundError: when there is no file.
        Broken: when it is torn, foreign or corrupt.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        prefix = os.pread(descriptor, _PREFIX_BYTES, 0)
        if len(prefix) < _HEADER_BYTES:
            raise Broken(f"torn: {size} bytes are less than a header")
        magic, dim, num_frames, num_valid, pooled_crc, frames_crc, _, _, _ = _HEADER.unpack_from(prefix)
        if magic != _MAGIC:
            raise Broken("not a feature file of this version")
        if prefix[:_HEADER_BYTES] != _header(key, dim, num_frames, num_valid, pooled_crc, frames_crc):
            raise Broken("corrupt header, or the features of another item or encoder")
        if size != file_bytes(dim, num_frames):
            raise Broken(f"torn: {size} bytes instead of {file_bytes(dim, num_frames)}")
        end = _HEADER_BYTES + 8 * dim
        block = prefix[_HEADER_BYTES:end] if end <= len(prefix) else os.pread(descriptor, 8 * dim, _HEADER_BYTES)
    finally:
        os.close(descriptor)
    if zlib.crc32(block) != pooled_crc:
        raise Broken("corrupt: its pooled vectors do not match their checksum")
    return Item(dim, num_frames, num_valid, frames_crc, np.frombuffer(block, dtype="<f4").reshape(2, dim))


def verify_item(path: Path, key: ItemKey) -> None:
    """Read the whole file.

    Raises:
        FileNotFoundError, Broken: as `read_item`, and when frames do not match their checksum.
    """
    item = read_item(path, key)
    with path.open("rb") as file:
        file.seek(_frames_offset(item.dim))
        if zlib.crc32(file.read()) != item.frames_crc:
            raise Broken("corrupt: its frames do not match their checksum")


def map_frames(path: Path, num_frames: int, dim: int) -> "torch.Tensor":
    """float16 [num_frames, dim], a private map of the file: no copy, pages load when touched.

    Raises:
        InputError: when the file has vanished or shrunk.
    """
    import torch

    try:
        # Python's mmap keeps a descriptor per map and a store has thousands of files; torch's does not.
        size = file_bytes(dim, num_frames) // 2
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.float16)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be mapped any more. Run `whisq-study encode`.") from error
    return whole[_frames_offset(dim) // 2 :].view(num_frames, dim)


def file_bytes(dim: int, num_frames: int) -> int:
    """The size of an item's file."""
    return _frames_offset(dim) + 2 * dim * num_frames


def _header(key: ItemKey, dim: int, num_frames: int, num_valid: int, pooled_crc: int, frames_crc: int) -> bytes:
    identity = (bytes.fromhex(key.item), bytes.fromhex(key.store))
    numbers = (dim, num_frames, num_valid, pooled_crc, frames_crc)
    own_crc = zlib.crc32(_HEADER.pack(_MAGIC, *numbers, 0, *identity))
    return _HEADER.pack(_MAGIC, *numbers, own_crc, *identity).ljust(_HEADER_BYTES, b"\0")


def _frames_offset(dim: int) -> int:
    end = _HEADER_BYTES + 8 * dim  # two float32 vectors
    return -(-end // _ALIGNMENT) * _ALIGNMENT
