"""One item of a feature store as a safetensors file: its layout, its checks, its reading and writing.

Two tensors: `pooled`, float32 [2, dim] (the mean over all frames, the mean over valid frames), then `frames`, float16
[num_frames, dim]. The metadata names the item and the store and holds `num_valid` and two CRC-32: of the frames, and
of everything else. The header is padded with spaces, as the format allows, so that frames begin on a 64-byte boundary
that depends on dim alone: the compiled kernels read them in place.

Written and read here rather than by the library, whose maps keep a file descriptor each: a store has thousands of
files.
"""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16

from whisq_core.files import open_regular, read_regular, write_atomically

SUFFIX = ".safetensors"
LAYOUT = "whisq-features-2"  # raise the number when files written before can no longer be read
_HEADER_BYTES = 512
_ALIGNMENT = 64
_LARGEST = 2**32  # bytes of one file
_PREFIX_BYTES = 16 * 1024  # one read that holds the header and the pooled vectors of the usual encoders


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


def write_item(path: Path, key: ItemKey, half: Float16[np.ndarray, "frames dim"], num_valid: int,
               pooled: Float[np.ndarray, "2 dim"]) -> None:  # fmt: skip
    """Write the file atomically.

    Raises:
        InputError: when it cannot be written.
    """
    block, frames = pooled.astype("<f4").tobytes(), half.astype("<f2").tobytes()
    num_frames, dim = half.shape
    frames_crc = zlib.crc32(frames)
    crc = _crc(dim, num_frames, num_valid, frames_crc, block)
    write_atomically(path, [_header(key, dim, num_frames, num_valid, frames_crc, crc), block, frames])


def read_item(path: Path, key: ItemKey) -> Item:
    """The header and the pooled vectors, checked for size, identity and checksum; frames are not touched.

    Raises:
        FileNotFoundError: when there is no file.
        Broken: when it is truncated, mismatched or corrupt.
    """
    with open_regular(path, _LARGEST) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        prefix = os.pread(descriptor, _PREFIX_BYTES, 0)
        dim, num_frames, num_valid, frames_crc, crc = _parse(prefix, size, key)
        start = frames_offset(dim) - 8 * dim
        if frames_offset(dim) <= len(prefix):
            block = prefix[start : start + 8 * dim]
        else:
            block = os.pread(descriptor, 8 * dim, start)
    if _crc(dim, num_frames, num_valid, frames_crc, block) != crc:
        raise Broken("corrupt: its header and pooled vectors do not match their checksum")
    return Item(dim, num_frames, num_valid, frames_crc, np.frombuffer(block, dtype="<f4").reshape(2, dim))


def verify_item(path: Path, key: ItemKey) -> None:
    """Read the whole file.

    Raises:
        FileNotFoundError, Broken: as `read_item`, and when frames do not match their checksum.
    """
    item = read_item(path, key)
    content = read_regular(path, _LARGEST)
    pooled, start = item.pooled.tobytes(), frames_offset(item.dim)
    numbers = (item.dim, item.num_frames, item.num_valid, item.frames_crc)
    if content[:start] != _header(key, *numbers, _crc(*numbers, pooled)) + pooled:
        raise Broken("corrupt: its header contradicts itself")
    if zlib.crc32(memoryview(content)[start:]) != item.frames_crc:
        raise Broken("corrupt: its frames do not match their checksum")


def file_bytes(dim: int, num_frames: int) -> int:
    """The size of an item's file."""
    return frames_offset(dim) + 2 * dim * num_frames


def frames_offset(dim: int) -> int:
    """Where frames begin; the pooled vectors end there."""
    return _HEADER_BYTES + -(-8 * dim // _ALIGNMENT) * _ALIGNMENT


def _header(key: ItemKey, dim: int, num_frames: int, num_valid: int, frames_crc: int, crc: int) -> bytes:
    metadata = {"format": LAYOUT, "item": key.item, "store": key.store}
    metadata |= {"num_valid": f"{num_valid}", "frames_crc32": f"{frames_crc}", "crc32": f"{crc}"}
    middle, end = 8 * dim, 8 * dim + 2 * dim * num_frames
    pooled = {"dtype": "F32", "shape": [2, dim], "data_offsets": [0, middle]}
    frames = {"dtype": "F16", "shape": [num_frames, dim], "data_offsets": [middle, end]}
    text = json.dumps({"__metadata__": metadata, "pooled": pooled, "frames": frames}, separators=(",", ":")).encode()
    length = frames_offset(dim) - middle - 8
    return length.to_bytes(8, "little") + text.ljust(length)


def _parse(prefix: bytes, size: int, key: ItemKey) -> tuple[int, int, int, int, int]:
    """dim, num_frames, num_valid and both checksums of this item's header."""
    end = 8 + int.from_bytes(prefix[:8], "little")
    if len(prefix) < 8 or size < end <= _PREFIX_BYTES:
        raise Broken(f"truncated: {size} bytes are less than its header")
    try:
        header = json.loads(prefix[8:end])
        metadata = header["__metadata__"]
        identity = ItemKey(metadata["item"], metadata["store"])
        num_frames, dim = header["frames"]["shape"]
        num_valid, frames_crc, crc = (int(metadata[name]) for name in ("num_valid", "frames_crc32", "crc32"))
        is_ours = min(dim, num_frames) > 0 and end == frames_offset(dim) - 8 * dim
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        is_ours = False
    if not is_ours:
        raise Broken("not a feature file of this version")
    if identity != key:
        raise Broken("mismatched: the features of another item or encoder")
    whole = file_bytes(dim, num_frames)
    if size != whole:
        raise Broken(f"{'truncated' if size < whole else 'corrupt'}: {size} bytes instead of {whole}")
    return dim, num_frames, num_valid, frames_crc, crc


def _crc(dim: int, num_frames: int, num_valid: int, frames_crc: int, pooled: bytes) -> int:
    return zlib.crc32(pooled, zlib.crc32(f"{dim} {num_frames} {num_valid} {frames_crc}".encode()))
