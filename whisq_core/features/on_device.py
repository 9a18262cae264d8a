"""Frames of a table on a device: all of them where they fit, else batch after batch, read and copied one ahead.

Both give one padded half-precision array, from which a batch is gathered by its clips' places without any question to
the device.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Float16, Int
from torch import Tensor

from whisq_core.features.table import FeatureTable

_KEPT_SHARE = 0.6  # of a GPU's free memory
_KEPT_BYTES = 512 * 2**20  # of any other device's: a process stays below 1.5 GB

Frames = Float16[Tensor, "rows longest dim"]
_kept: dict[tuple[object, ...], Frames] = {}  # what a process has read stays there for its next trainings


class KeptFrames:
    """Every frame on the device, where a clip's place is its row."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def places(self, clips: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Where the frames of these clips lie in `frames`."""
        return clips

    def batches(self, order: Int[Tensor, " clips"], size: int) -> Iterator[Int[Tensor, " batch"]]:
        """The clips of `order`, given on the host, `size` at a time on the device, each batch with its frames there."""
        yield from torch.split(sent(order, self.frames.device), size)


class StreamedFrames:
    """Room for two batches: while a step computes with one, a thread reads the next and a stream of its own copies it.

    `batches` must be followed to its end, or not again used before its next call.
    """

    def __init__(self, table: FeatureTable, counts: Int[np.ndarray, " clips"], largest: int, device: torch.device):
        self._table, self._counts, self._half = table, counts, min(largest, len(table))
        shape = 2 * self._half, int(counts.max()), table.dim
        cuda = device.type == "cuda"
        self.frames = torch.zeros(shape, dtype=torch.float16, device=device)
        self._staged = torch.zeros(shape, dtype=torch.float16, pin_memory=cuda) if cuda else self.frames
        self._place_of = torch.zeros(len(table), dtype=torch.long, device=device)
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._copied, self._used = (_events() if cuda else [] for _ in range(2))

    def places(self, clips: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Where the frames of these clips lie in `frames`: those of the last batch that `batches` gave."""
        return self._place_of[clips]

    def batches(self, order: Int[Tensor, " clips"], size: int) -> Iterator[Int[Tensor, " batch"]]:
        """As those of `KeptFrames`."""
        assert size <= self._half or self._half == len(self._table)
        parts = torch.split(order, size)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._read, parts[0], 0)
            for number, clips in enumerate(torch.split(sent(order, self.frames.device), size)):
                half = number % 2
                coming.result()
                if self._stream is not None:
                    torch.cuda.current_stream().wait_event(self._copied[half])
                if number + 1 < len(parts):
                    coming = pool.submit(self._read, parts[number + 1], 1 - half)
                first = half * self._half
                self._place_of[clips] = torch.arange(first, first + len(clips), device=clips.device)
                yield clips
                if self._stream is not None:
                    self._used[half].record()

    def _read(self, clips: Int[Tensor, " batch"], half: int) -> None:
        """Fill a half, as soon as the step that computed with it has ended."""
        if self._stream is not None:
            self._copied[half].synchronize()  # the copy out of what is staged, two batches ago
        first = half * self._half
        for place, clip in enumerate(clips.tolist(), first):
            count = int(self._counts[clip])
            self._staged[place, :count] = self._table.frames(clip)[:count]
            self._staged[place, count:] = 0
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            if self._stream is not None:
                self._stream.wait_event(self._used[half])
                rows = slice(first, first + len(clips))
                self.frames[rows].copy_(self._staged[rows], non_blocking=True)
                self._copied[half].record()


def frames_on(
    device: torch.device, table: FeatureTable, counts: Int[np.ndarray, " clips"], largest: int
) -> KeptFrames | StreamedFrames:
    """The first `counts[row]` frames of each row of a table on a device; batches have at most `largest` clips.

    What is kept is shared by all trainings of this process. Where a table finds no room, those of earlier trainings
    make it; where there is none for it alone, its frames are streamed.
    """
    key = (device, table.folder, table.keys, counts.tobytes())
    if key not in _kept:
        size = 2 * len(table) * int(counts.max()) * table.dim
        if size > _room(device):
            _kept.clear()
        if size > _room(device):
            return StreamedFrames(table, counts, largest, device)
        _kept[key] = padded(table, counts)[0].to(device)
    return KeptFrames(_kept[key])


def _events() -> list[torch.cuda.Event]:
    """One for each half."""
    return [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]


def sent(order: Int[Tensor, " clips"], device: torch.device) -> Int[Tensor, " clips"]:
    """On the device; on CUDA nobody waits until it is there."""
    return order.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else order.to(device)


def padded(table: FeatureTable, counts: Int[np.ndarray, " rows"], step: int = 1) -> tuple[Frames, Int[Tensor, " rows"]]:
    """The first `counts[row]` frames of each row, zeros up to the longest rounded up to `step`; and the counts."""
    longest = -(-int(counts.max()) // step) * step
    frames = torch.zeros(len(table), longest, table.dim, dtype=torch.float16)
    for row, count in enumerate(counts.tolist()):
        frames[row, :count] = table.frames(row)[:count]
    return frames, torch.from_numpy(counts)


def _room(device: torch.device) -> float:
    """Bytes that may be kept on the device beyond what is."""
    if device.type != "cuda":
        return _KEPT_BYTES - sum(2 * frames.numel() for frames in _kept.values())
    torch.cuda.empty_cache()  # PyTorch keeps freed memory, which the driver does not count as free
    return _KEPT_SHARE * torch.cuda.mem_get_info(device)[0]
