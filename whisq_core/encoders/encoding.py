"""Encode what is missing: each clip and each distinct prompt once, written as soon as it is ready.

Several processes may fill one store: each takes the items in its own random order and looks again before it starts
one, so two of them meet on a few items at the end at most, and then write the same file twice.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whisq_core.corpus import Corpus, load
from whisq_core.encoders.backbone import Backbone, Job, jobs
from whisq_core.encoders.families import Kind, load_encoder
from whisq_core.errors import InputError, raise_all

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoder

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
    progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Encode what is not in the stores; killed at any moment, it loses only the items in work.

    On a CPU `workers` threads encode one item each, decoding included, so that no core waits for another and an
    item's features do not depend on the number of workers. On CUDA batches are decoded while others are computed.

    Parameters
    ----------
    corpus, audio_digests : as `read_corpus` and `check_audio_files` give them.
    backbone : as `resolve_backbone` gives it.
    root : the folder of the feature stores.
    workers : threads on a CPU.
    device : `auto`, `cpu` or `cuda`.
    progress : called after each batch.

    Raises
    ------
    InputError : a checkpoint cannot be loaded; bf16 is too far from float32; or, when all other items of its kind
        have been encoded, each one that could not be.
    """
    audio, text = jobs(corpus, audio_digests, backbone, root)
    for job in (text, audio):  # prompts take seconds: what is wrong with them should not come after hours
        keys = job.store.missing(job.sources)
        if keys or job.store.meta is None:
            job.store.sweep()
            _fill(job, keys, workers, device, progress)


def _fill(job: Job, keys: list[str], workers: int, device: str, progress: Callable[[Progress], None]) -> None:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    workers = workers if device == "cpu" else max(workers, 4)  # one batch on the device, the next ones being decoded
    with _undisturbed():
        encoder = load_encoder(job.checkpoint, job.kind, job.store.key.precision, device)
        # OpenMP and MKL keep the number of threads per operation for each calling thread.
        pool = ThreadPoolExecutor(workers, "encode", torch.set_num_threads, (1,))
        try:
            if job.store.key.precision == "bf16":
                pool.submit(_check_bf16, job, encoder, keys, device).result()
            job.store.describe(encoder.meta)
            random.SystemRandom().shuffle(keys)
            size = encoder.batch_size
            batches = [keys[start : start + size] for start in range(0, len(keys), size)]
            futures = {pool.submit(_encode_batch, job, encoder, batch): len(batch) for batch in batches}
            started, done = time.perf_counter(), 0
            mistakes: list[str] = []
            for future in as_completed(futures):
                mistakes += future.result()
                done += futures[future]
                progress(Progress(job.kind, done, len(keys), done / (time.perf_counter() - started)))
        finally:
            pool.shutdown(cancel_futures=True)
    raise_all(mistakes)


def _check_bf16(job: Job, encoder: "Encoder", keys: Sequence[str], device: str) -> None:
    """Compare the first item that can be read with float32: PyTorch miscomputes some sizes on CPUs with AMX units."""
    for key in keys:
        try:
            item = encoder.prepare(_load(job, key, encoder.family.sample_rate))
        except InputError:
            continue  # it is named when its turn comes
        exact = load_encoder(job.checkpoint, job.kind, "float32", device)
        rounded, expected = (each.run([item])[0].frames.mean(axis=0) for each in (encoder, exact))
        error = float(np.linalg.norm(rounded - expected) / np.linalg.norm(expected))
        if not error <= _BF16_LIMIT:
            raise InputError(
                f"checkpoint '{job.checkpoint.name}' in bf16: the features of {job.names[key]} are {100 * error:.0f} % "
                f"from those in float32, allowed: {100 * _BF16_LIMIT:.0f} %. Set backbone.precision to float32; on a "
                "CPU with AMX units, ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment may mend it."
            )
        return


def _encode_batch(job: Job, encoder: "Encoder", keys: Sequence[str]) -> list[str]:
    """Encode and store these items, unless another process has done it meanwhile; the mistakes of those that fail."""
    mistakes: list[str] = []
    prepared = {}
    for key in job.store.missing(keys):
        try:
            prepared[key] = encoder.prepare(_load(job, key, encoder.family.sample_rate))
        except InputError as error:
            mistakes += [f"{job.names[key]}: {mistake}" for mistake in error.mistakes]
    if not prepared:
        return mistakes
    for key, encoded in zip(prepared, encoder.run(list(prepared.values())), strict=True):
        try:
            job.store.write(key, encoded.frames, encoded.valid, encoded.pooled)
        except InputError as error:
            mistakes += [f"{job.names[key]}: {mistake}" for mistake in error.mistakes]
    return mistakes


def _load(job: Job, key: str, sample_rate: int | None) -> Any:
    source = job.sources[key]
    if isinstance(source, str):
        return source
    assert sample_rate is not None
    wave = load(source, sample_rate)
    if hashlib.sha256(source.read_bytes()).hexdigest() != key:
        raise InputError(f"{source}: changed since the corpus was read. Run the command again.")
    return wave


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Puts back torch's threads per operation and its random stream, from which Wav2Vec2 draws."""
    import torch

    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
