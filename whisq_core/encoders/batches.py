"""Encoding in batches, as a GPU wants it: items of similar length together, decoded by processes while it computes.

Sound files are decoded and turned into what the model takes on every core, since one core cannot keep a GPU busy;
prompts are turned into tokens right here.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisq_core.corpus import load
from whisq_core.encoders.backbone import Job
from whisq_core.encoders.families import load_family
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoded, Encoder, Family, Prepared

_PROCESS_ITEMS = 16  # that a process must have to be worth its start

Outcomes = Iterator[tuple[int, list[str]]]
"""After each batch: how many items it had, and what is wrong with those that could not be encoded."""


@dataclass
class Batches:
    """Encodes items of one kind, at most `size` at a time; half as many from the moment when they do not fit."""

    job: Job
    encoder: "Encoder"
    size: int
    writers: ThreadPoolExecutor
    notify: Callable[[str], None]

    def encode(self, keys: Sequence[str]) -> Outcomes:
        """Encode and store these items, unless another process has done it meanwhile."""
        from torch.utils.data import DataLoader

        ordered = sorted(keys, key=lambda key: _length(self.job.sources[key]))
        batches = [ordered[start : start + self.size] for start in range(0, len(ordered), self.size)]
        random.SystemRandom().shuffle(batches)  # so that two processes that fill one store meet rarely
        processes = 0 if self.encoder.family.sample_rate is None else min(_cores(), len(keys) // _PROCESS_ITEMS)
        if processes > 1:
            how: dict[str, Any] = {"num_workers": processes, "multiprocessing_context": "spawn", "prefetch_factor": 1}
            items = _Items(self.job)
        else:
            how, items = {}, _Items(self.job, self.encoder.family)
        for batch in DataLoader(items, batch_sampler=batches, collate_fn=list, **how):  # type: ignore[arg-type]
            yield len(batch), self._encode(dict(batch))

    def _encode(self, items: "dict[str, Prepared | InputError | None]") -> list[str]:
        mistakes: list[str] = []
        groups: dict[int, dict[str, Prepared]] = {}
        for key, item in items.items():
            if isinstance(item, InputError):
                mistakes += self.job.mistakes(key, item)
            elif item is not None:  # models that take no mask get items of exactly one length at once
                groups.setdefault(0 if self.encoder.family.pads else len(item.array), {})[key] = item
        stored: list[Future[list[str]]] = []
        for group in groups.values():
            for key, encoded in zip(group, self.run(list(group.values())), strict=True):
                stored.append(self.writers.submit(store, self.job, key, encoded))
        return mistakes + [mistake for future in stored for mistake in future.result()]

    def run(self, items: "Sequence[Prepared]") -> "list[Encoded]":
        """Features of these items. Raises InputError when not even one fits into the device's memory."""
        import torch

        found: list[Encoded] = []
        while len(found) < len(items):
            part = items[len(found) : len(found) + self.size]
            try:
                found += self.encoder.run(part)
                continue
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise InputError(
                        f"checkpoint '{self.job.checkpoint.name}': a single {self.job.kind} item does not fit into the "
                        "memory of the device. Use --device cpu."
                    ) from None
            self.size = len(part) // 2
            self.notify(f"{len(part)} {self.job.kind} items do not fit into the device's memory: {self.size} at a time")
            if self.encoder.device.type == "cuda":
                torch.cuda.empty_cache()
        return found


@dataclass
class _Items:
    """Items by their keys, each as the model takes it; a process of its own finds out first what the family does."""

    job: Job
    family: "Family | None" = None

    def __getitem__(self, key: str) -> "tuple[str, Prepared | InputError | None]":
        self.family = self.family or load_family(self.job.checkpoint, self.job.kind)
        return key, prepared_item(self.job, self.family, key)


def prepared_item(job: Job, family: "Family", key: str) -> "Prepared | InputError | None":
    """An item as the model takes it, or what is wrong with it; None where another process has encoded it meanwhile."""
    from whisq_core.encoders.encoder import prepared

    try:
        missing = job.store.missing([key])
        return prepared(job.checkpoint, family, _load(job.sources[key], key, family.sample_rate)) if missing else None
    except InputError as error:
        return error


def store(job: Job, key: str, encoded: "Encoded") -> list[str]:
    """Store an item's features; what is wrong with them."""
    try:
        job.store.write(key, encoded.frames, encoded.valid, encoded.pooled)
    except InputError as error:
        return job.mistakes(key, error)
    return []


def _load(source: Path | str, key: str, sample_rate: int | None) -> Any:
    """A prompt, or the wave of a sound file, which has to be the one that was checked."""
    if isinstance(source, str):
        return source
    assert sample_rate is not None
    wave = load(source, sample_rate)
    if hashlib.sha256(source.read_bytes()).hexdigest() != key:
        raise InputError(f"{source}: changed since the corpus was read. Run the command again.")
    return wave


def set_threads(count: int) -> None:
    """Threads of each operation that this thread calls."""
    import torch

    torch.set_num_threads(count)


def _length(source: Path | str) -> int:
    return len(source) if isinstance(source, str) else source.stat().st_size


def _cores() -> int:
    """Those that decode: all but the one that feeds the device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, max(2, cores - 1))
