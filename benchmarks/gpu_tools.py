"""What the parts of `gpu_check.py` share: the runs that they make, their features, and how time and memory are read."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from step import Sizes, synthetic_dataset

from whisq_core.device import resolve_auto
from whisq_core.features import Dataset, on_device
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training.replay import SWITCH

if TYPE_CHECKING:
    from gpu_check import Check

PAPER = Sizes(frames=1500, tokens=24, audio_dim=512, text_dim=1024, batch=128, textbook_batch=128, prompts=384)
TINY = Sizes(frames=20, tokens=5, audio_dim=16, text_dim=12, batch=6, textbook_batch=3, prompts=4)


def run_spec(check: "Check", sizes: Sizes, precision: str, **settings: Any) -> RunSpec:
    """Table I on the device that is checked."""
    fixed = {
        "model.feature_dim": sizes.audio_dim,
        "train.batch_size": sizes.batch,
        "train.device": check.device,
        "train.precision": precision,
        "train.threads": 1,
    }
    spec = with_settings(RunSpec(), fixed | settings)
    return spec.model_copy(update={"train": resolve_auto(spec.train)})


@cache
def dataset(sizes: Sizes) -> Dataset:
    """Random features of these sizes, in a store that lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="gpu-check-")
    _folders.append(folder)
    return synthetic_dataset(Path(folder.name), sizes)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def settle(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        getattr(torch, device).synchronize()


def seconds_of(check: "Check", task: Callable[[], object], repeats: int = 5) -> float:
    """The median over repeats; the first two calls are not counted: they compile, capture and warm up."""
    times = []
    for _ in range(repeats + 2):
        settle(check.device)
        started = time.perf_counter()
        task()
        settle(check.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


@contextmanager
def graphs(switch: str) -> Iterator[None]:
    """Inside, steps are replayed ("on") or eager ("off")."""
    os.environ[SWITCH] = switch
    try:
        yield
    finally:
        del os.environ[SWITCH]


@contextmanager
def no_room() -> Iterator[None]:
    """Inside, no table finds room on the device."""
    before = on_device._KEPT_SHARE, on_device._KEPT_BYTES
    on_device._KEPT_SHARE, on_device._KEPT_BYTES = 0.0, 0
    try:
        yield
    finally:
        on_device._KEPT_SHARE, on_device._KEPT_BYTES = before


def reset_peak(check: "Check") -> None:
    if check.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(check: "Check") -> float | None:
    """Gigabytes that PyTorch has held at most, what it caches included: what a card must have."""
    return torch.cuda.max_memory_reserved() / 1e9 if check.device == "cuda" else None
