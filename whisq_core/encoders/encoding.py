"""Encode what is missing: each clip and each distinct prompt once, written as soon as it is ready.

Several processes may fill one store: each takes the items in its own random order and looks again before it starts
one, so two of them meet on a few items at the end at most, and then write the same file twice.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whisq_core.corpus import Corpus
from whisq_core.device import resolve_device
from whisq_core.encoders.backbone import Backbone, Job, jobs
from whisq_core.encoders.batches import Batches, Outcomes, prepared_item, set_threads, store
from whisq_core.encoders.families import Kind, load_encoder
from whisq_core.errors import InputError, raise_all

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoder

_WRITERS = 4  # threads that store the features of batches
_BF16_LIMIT = 0.05  # of a pooled vector's length; Whisper and Wav2Vec2 in bf16 are .003 to .006 from float32


@dataclass(frozen=True)
class Progress:
    """How far one kind of item is; `rate` in items per second."""

    kind: Kind
    done: int
    total: int
    rate: float


def encode(
    corpus: Corpus,
    audio_digests: Sequence[str] | np.ndarray,
    backbone: Backbone,
    root: Path,
    *,
    workers: int = 1,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    notify: Callable[[str], None] = lambda message: None,
) -> None:
    """Encode what is not in the stores; killed at any moment, it loses only the items in work.

    On a CPU `workers` threads encode one item each, decoding included, so that no core waits for another and an
    item's features do not depend on the number of workers. On a GPU, and where `batch_size` asks for it, items of
    similar length go in batches, the next ones being decoded by a process for each core meanwhile.

    Parameters
    ----------
    corpus, audio_digests : as `read_corpus` and `check_audio_files` give them.
    backbone : as `resolve_backbone` gives it.
    root : the folder of the feature stores.
    workers : threads on a CPU.
    device : `auto`, `cpu`, `cuda` or `mps`.
    batch_size : items at a time; None: what the encoder's family takes on a GPU, 1 on a CPU.
    progress : called after each batch.
    notify : called with a line for a person: a batch did not fit into memory and is now smaller.

    Raises
    ------
    InputError : the device is not there; a checkpoint cannot be loaded; bf16 is too far from float32; or, when all
        other items of its kind have been encoded, each one that could not be.
    """
    device = resolve_device(device, "--device")
    audio, text = jobs(corpus, audio_digests, backbone, root)
    for job in (text, audio):  # prompts take seconds: what is wrong with them should not come after hours
        keys = job.store.missing(job.sources)
        if keys or job.store.meta is None:
            job.store.sweep()
            with _undisturbed():
                encoder = load_encoder(job.checkpoint, job.kind, job.store.key.precision, device)
                _fill(job, encoder, keys, batch_size, workers, progress, notify)


def _fill(
    job: Job, encoder: "Encoder", keys: list[str], batch_size: int | None, workers: int,
    progress: Callable[[Progress], None], notify: Callable[[str], None],
) -> None:  # fmt: skip
    size = 1 if job.checkpoint.format == "plugin" else batch_size or encoder.batch_size
    # OpenMP and MKL keep the number of threads per operation for each calling thread.
    pool = ThreadPoolExecutor(workers if size == 1 else _WRITERS, "encode", set_threads, (1,))
    try:
        if job.store.key.precision == "bf16":
            pool.submit(_check_bf16, job, encoder, keys).result()
        job.store.describe(encoder.meta)
        random.SystemRandom().shuffle(keys)
        batches = Batches(job, encoder, size, pool, notify)
        started, done = time.perf_counter(), 0
        mistakes: list[str] = []
        for count, found in each_item(job, encoder, keys, pool) if size == 1 else batches.encode(keys):
            mistakes += found
            done += count
            progress(Progress(job.kind, done, len(keys), done / (time.perf_counter() - started)))
    finally:
        pool.shutdown(cancel_futures=True)
    raise_all(mistakes)


def each_item(job: Job, encoder: "Encoder", keys: Sequence[str], pool: ThreadPoolExecutor) -> Outcomes:
    """Each thread takes one item through everything."""
    futures = [pool.submit(_encode_item, job, encoder, key) for key in keys]
    for future in as_completed(futures):
        yield 1, future.result()


def _encode_item(job: Job, encoder: "Encoder", key: str) -> list[str]:
    """Encode and store this item; what is wrong with it."""
    item = prepared_item(job, encoder.family, key)
    if isinstance(item, InputError):
        return job.mistakes(key, item)
    return [] if item is None else store(job, key, encoder.run([item])[0])


def _check_bf16(job: Job, encoder: "Encoder", keys: Sequence[str]) -> None:
    """Compare the first item that can be read with float32: PyTorch miscomputes some sizes on CPUs with AMX units."""
    for key in keys:
        item = prepared_item(job, encoder.family, key)
        if item is None or isinstance(item, InputError):
            continue  # it is named when its turn comes
        exact = load_encoder(job.checkpoint, job.kind, "float32", encoder.device.type)
        rounded, expected = (each.run([item])[0].frames.mean(axis=0) for each in (encoder, exact))
        error = float(np.linalg.norm(rounded - expected) / np.linalg.norm(expected))
        if not error <= _BF16_LIMIT:
            raise InputError(
                f"checkpoint '{job.checkpoint.name}' in bf16: the features of {job.names[key]} are {100 * error:.0f} % "
                f"from those in float32, allowed: {100 * _BF16_LIMIT:.0f} %. Set backbone.precision to float32; on a "
                "CPU with AMX units, ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment may mend it."
            )
        return


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Puts back torch's threads per operation and its random stream, from which Wav2Vec2 draws.

    Inside, convolutions in float32 are not rounded to TF32 on a GPU, which PyTorch does by default.
    """
    import torch

    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)
