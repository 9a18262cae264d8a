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
    """All of an item's file but the frames: numbers, and pooled vectors in little-endian float32."""

    dim: int
    num_frames: int
    num_valid: int
    frames_crc: int
    pooled: Float[np.ndarray, "2 dim"]

    @property
    def crc(self) -> int:
        """The checksum of everything but the frames."""
        numbers = f"{self.dim} {self.num_frames} {self.num_valid} {self.frames_crc}"
        return zlib.crc32(self.pooled.tobytes(), zlib.crc32(numbers.encode()))

    def head(self, key: ItemKey) -> bytes:
        """What comes before the frames in the file."""
        metadata = {"format": LAYOUT, "item": key.item, "store": key.store}
        metadata |= {"num_valid": f"{self.num_valid}", "frames_crc32": f"{self.frames_crc}", "crc32": f"{self.crc}"}
        middle, end = 8 * self.dim, 8 * self.dim + 2 * self.dim * self.num_frames
        pooled = {"dtype": "F32", "shape": [2, self.dim], "data_offsets": [0, middle]}
        frames = {"dtype": "F16", "shape": [self.num_frames, self.dim], "data_offsets": [middle, end]}
        header = {"__metadata__": metadata, "pooled": pooled, "frames": frames}
        length = frames_offset(self.dim) - middle - 8
        text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
        return length.to_bytes(8, "little") + text + self.pooled.tobytes()


def write_item(path: Path, key: ItemKey, half: Float16[np.ndarray, "frames dim"], num_valid: int,
               pooled: Float[np.ndarray, "2 dim"]) -> None:  # fmt: skip
    """Write the file atomically; `InputError` where it cannot be written."""
    frames, (num_frames, dim) = half.astype("<f2").tobytes(), half.shape
    item = Item(dim, num_frames, num_valid, zlib.crc32(frames), pooled.astype("<f4"))
    write_atomically(path, [item.head(key), frames])


def read_item(path: Path, key: ItemKey) -> Item:
    """The header and the pooled vectors, checked for size, identity and checksum; frames are not touched.

    `FileNotFoundError` where there is no file, `Broken` where it is truncated, mismatched or corrupt.
    """
    with open_regular(path, _LARGEST) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        prefix = os.pread(descriptor, _PREFIX_BYTES, 0)
        dim, num_frames, num_valid, frames_crc, crc = _parse(prefix, size, key)
        start, end = frames_offset(dim) - 8 * dim, frames_offset(dim)
        block = prefix[start:end] if end <= len(prefix) else os.pread(descriptor, 8 * dim, start)
    item = Item(dim, num_frames, num_valid, frames_crc, np.frombuffer(block, dtype="<f4").reshape(2, dim))
    if item.crc != crc:
        raise Broken("corrupt: its header and pooled vectors do not match their checksum")
    return item


def verify_item(path: Path, key: ItemKey) -> None:
    """Read the whole file: as `read_item`, and `Broken` where frames do not match their checksum."""
    item = read_item(path, key)
    content, start = read_regular(path, _LARGEST), frames_offset(item.dim)
    if content[:start] != item.head(key):
        raise Broken("corrupt: its header contradicts itself")
    if zlib.crc32(memoryview(content)[start:]) != item.frames_crc:
        raise Broken("corrupt: its frames do not match their checksum")


def file_bytes(dim: int, num_frames: int) -> int:
    """The size of an item's file."""
    return frames_offset(dim) + 2 * dim * num_frames


def frames_offset(dim: int) -> int:
    """Where frames begin; the pooled vectors end there."""
    return _HEADER_BYTES + -(-8 * dim // _ALIGNMENT) * _ALIGNMENT


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
