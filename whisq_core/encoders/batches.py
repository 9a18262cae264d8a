"""Encoding in batches, as a GPU wants it: items of similar length together, decoded by processes while it computes.

Sound files are decoded and turned into what the model takes on every core, since one core cannot keep a GPU busy;
prompts are turned into tokens right here.
"""

import hashlib
import itertools
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisq_core.checkpoints import Checkpoint
from whisq_core.corpus import load
from whisq_core.encoders.backbone import Job
from whisq_core.encoders.families import Kind, load_family
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoded, Encoder, Family, Prepared

_AHEAD = 3  # batches that are decoded or wait for the device
_PROCESS_ITEMS = 16  # that a process must have to be worth its start

Outcomes = Iterator[tuple[int, list[str]]]
"""After each batch: how many items it had, and what is wrong with those that could not be encoded."""

_family: "Family | None" = None  # of a process that decodes


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
        ordered = sorted(keys, key=lambda key: _length(self.job.sources[key]))
        batches = [ordered[start : start + self.size] for start in range(0, len(ordered), self.size)]
        random.SystemRandom().shuffle(batches)  # so that two processes that fill one store meet rarely
        waiting: deque[tuple[list[str], dict[str, Future[Prepared | InputError]]]] = deque()
        with self._preparing(len(keys)) as prepare:
            for batch in itertools.chain(batches, [None] * _AHEAD):
                if batch is not None:
                    waiting.append((batch, {key: prepare(key) for key in self.job.store.missing(batch)}))
                if waiting and (batch is None or len(waiting) > _AHEAD):
                    done, futures = waiting.popleft()
                    yield len(done), self._encode(futures)

    def _encode(self, futures: "dict[str, Future[Prepared | InputError]]") -> list[str]:
        mistakes: list[str] = []
        groups: dict[int, dict[str, Prepared]] = {}
        for key, future in futures.items():
            item = future.result()
            if isinstance(item, InputError):
                mistakes += [f"{self.job.names[key]}: {mistake}" for mistake in item.mistakes]
            else:  # models that take no mask get items of exactly one length at once
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

    @contextmanager
    def _preparing(self, count: int) -> "Iterator[Callable[[str], Future[Prepared | InputError]]]":
        """What prepares an item: by processes where it is decoded and there is enough of it, else right here."""
        rate, sources = self.encoder.family.sample_rate, self.job.sources
        processes = min(_cores(), count // _PROCESS_ITEMS)
        if rate is None or processes < 2:
            with ThreadPoolExecutor(1, "prepare", set_threads, (1,)) as thread:
                yield lambda key: thread.submit(_prepared, self.encoder.prepare, sources[key], key, rate)
            return
        arguments = (self.job.checkpoint, self.job.kind)
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin_process, arguments)
        try:
            yield lambda key: pool.submit(_prepare_in_process, sources[key], key)
        finally:
            pool.shutdown(cancel_futures=True)


def store(job: Job, key: str, encoded: "Encoded") -> list[str]:
    """Store an item's features; what is wrong with them."""
    try:
        job.store.write(key, encoded.frames, encoded.valid, encoded.pooled)
    except InputError as error:
        return [f"{job.names[key]}: {mistake}" for mistake in error.mistakes]
    return []


def load_source(source: Path | str, key: str, sample_rate: int | None) -> Any:
    """A prompt, or the wave of a sound file.

    Raises InputError when the file cannot be read, or is not the one that was checked.
    """
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


def _prepared(
    prepare: "Callable[[Any], Prepared]", source: Path | str, key: str, rate: int | None
) -> "Prepared | InputError":
    try:
        return prepare(load_source(source, key, rate))
    except InputError as error:
        return error


def _begin_process(checkpoint: Checkpoint, kind: Kind) -> None:
    global _family
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(1)
    _family = load_family(checkpoint, kind)


def _end_with_parent() -> None:
    """Where the one that feeds the device is killed, nobody else would end this process."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prepare_in_process(source: Path | str, key: str) -> "Prepared | InputError":
    assert _family is not None, "the process has begun"
    return _prepared(_family.prepare, source, key, _family.sample_rate)


def _length(source: Path | str) -> int:
    return len(source) if isinstance(source, str) else source.stat().st_size


def _cores() -> int:
    """Those that decode: all but the one that feeds the device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, cores - 1)
