"""Rows of a store and their labels, as training takes them: pooled vectors in memory, frames mapped from files."""

import json
import os
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, SupportsIndex

import numpy as np
from jaxtyping import Float, Int, UInt8

from whisq_core.errors import InputError
from whisq_core.features.file import SUFFIX, frames_offset

if TYPE_CHECKING:  # torch takes a second to import, and a plan only asks what is missing
    import torch

UNCHECKED = "WHISQ_CHECK_FRAMES"  # 0 in the environment: frames are believed, for stores that take long to read
_KEPT_MAP_BYTES = 512 * 2**20  # maps beyond this are dropped after use: a process stays below 1.5 GB
_checked: set[tuple[str, int, int]] = set()  # files whose frames this process has compared with their checksum


class Maps:
    """Maps of item files: the first ones are kept for the next epoch, those beyond `_KEPT_MAP_BYTES` are not."""

    def __init__(self, dim: int) -> None:
        self._dim, self._start = dim, frames_offset(dim)
        self._kept: dict[Path, torch.Tensor] = {}
        self._num_bytes = 0

    def frames(self, path: Path, num_frames: int) -> "torch.Tensor":
        """float16 [num_frames, dim], a private map of the file: no copy, pages load when touched.

        An `InputError` when the file has vanished or shrunk, or, at its first map here, does not match its checksum.
        """
        import torch

        if path in self._kept:
            return self._kept[path]
        size = self._start + 2 * self._dim * num_frames
        try:
            whole = torch.from_file(str(path), shared=False, size=size // 2, dtype=torch.float16)
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be mapped any more. Run `whisq-study encode`.") from error
        _check_once(path, whole.view(torch.uint8).numpy(), self._start)
        frames = whole[self._start // 2 :].view(num_frames, self._dim)
        if self._num_bytes + size <= _KEPT_MAP_BYTES:
            self._kept[path] = frames
            self._num_bytes += size
        return frames


def _check_once(path: Path, content: UInt8[np.ndarray, " bytes"], start: int) -> None:
    """A bit that has flipped on a disk would change results without a word: half a millisecond per clip prevents it."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key in _checked or os.environ.get(UNCHECKED) == "0":
        return
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8].tobytes(), "little")].tobytes())["__metadata__"]
    if zlib.crc32(content[start:].data) != int(metadata["frames_crc32"]):
        raise InputError(
            f"{path}: corrupt: its frames do not match their checksum. Run `whisq-study doctor --fix` with --data: it "
            "encodes this item again."
        )
    _checked.add(key)


@dataclass(frozen=True)
class FeatureTable:
    """Rows of a store: lengths and pooled vectors in memory, frames mapped from their files when asked for."""

    keys: tuple[str, ...]
    folder: Path
    num_frames: Int[np.ndarray, " rows"]
    num_valid: Int[np.ndarray, " rows"]
    pooled_vectors: Float[np.ndarray, "2 rows dim"]
    maps: Maps = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        """The size of one frame."""
        return self.pooled_vectors.shape[2]

    def frames(self, row: SupportsIndex) -> "torch.Tensor":
        """float16 [num_frames[row], dim], a map of the file: no copy, pages load when touched, never written back.

        Raises
        ------
        InputError : when the file has vanished since the table was opened.
        """
        path = self.folder / f"{self.keys[row]}{SUFFIX}"
        return self.maps.frames(path, int(self.num_frames[row]))

    def pooled(self, frames: Literal["all", "valid"]) -> "torch.Tensor":
        """float32 [rows, dim]: the mean over all frames, or over those that hold signal (as `model.audio_frames`)."""
        import torch

        return torch.from_numpy(self.pooled_vectors[("all", "valid").index(frames)])

    def select(self, rows: Int[np.ndarray, " selected"]) -> "FeatureTable":
        """These rows, in this order; maps are shared with this table."""
        keys, pooled = tuple(self.keys[row] for row in rows), np.ascontiguousarray(self.pooled_vectors[:, rows])
        lengths = {"num_frames": self.num_frames[rows], "num_valid": self.num_valid[rows]}
        return replace(self, keys=keys, pooled_vectors=pooled, **lengths)


@dataclass(frozen=True)
class Dataset:
    """Clips with their features and labels: what training takes. Row i of `audio` belongs to clip i."""

    audio: FeatureTable
    text: FeatureTable  # one row per distinct prompt
    prompt_of: Int[np.ndarray, " clips"]  # the row of `text` of each clip
    omq: Float[np.ndarray, " clips"]  # NaN where there is no label
    ta: Float[np.ndarray, " clips"]

    def __post_init__(self) -> None:
        counts = {len(self.audio), len(self.prompt_of), len(self.omq), len(self.ta)}
        assert len(counts) == 1, counts
        assert self.prompt_of.max(initial=-1) < len(self.text)

    def __len__(self) -> int:
        return len(self.prompt_of)

    def select(self, indices: Int[np.ndarray, " selected"]) -> "Dataset":
        """These clips, in this order, with only their prompts."""
        prompts, prompt_of = np.unique(self.prompt_of[indices], return_inverse=True)
        return Dataset(
            audio=self.audio.select(indices),
            text=self.text.select(prompts),
            prompt_of=prompt_of,
            omq=self.omq[indices],
            ta=self.ta[indices],
        )
