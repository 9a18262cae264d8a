"""Encode what is missing: each clip and each distinct prompt once, written as soon as it is ready.

Several processes may fill one store: each takes the items in its own random order and looks again before it starts
one, so two of them meet on a few items at the end at most, and then write the same file twice.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from whisq_core.corpus import Corpus, load
from whisq_core.encoders.checkpoints import Checkpoint, resolve
from whisq_core.encoders.families import Kind, load_encoder, preprocessing
from whisq_core.errors import InputError, raise_all
from whisq_core.features import Dataset, FeatureKey, FeatureStore, StoreMeta
from whisq_core.spec import BackboneSpec, digest

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoder

_BF16_LIMIT = 0.05  # of a pooled vector's length; Whisper and Wav2Vec2 in bf16 are .003 to .006 from float32


@dataclass(frozen=True)
class Backbone:
    """The resolved encoders of a `BackboneSpec` and the keys of their stores."""

    audio: Checkpoint
    text: Checkpoint
    audio_key: FeatureKey
    text_key: FeatureKey

    @property
    def digest(self) -> str:
        """The identity of the features that a run takes."""
        return digest([self.audio_key.digest, self.text_key.digest])

    @property
    def untrained(self) -> bool:
        """Whether either encoder has random weights."""
        return self.audio.untrained or self.text.untrained


@dataclass(frozen=True)
class Progress:
    """How far one kind of item is; `rate` in items per second."""

    kind: Kind
    done: int
    total: int
    rate: float


@dataclass(frozen=True)
class _Job:
    """The items of one kind: their keys, where each comes from and how a message names it."""

    kind: Kind
    checkpoint: Checkpoint
    store: FeatureStore
    sources: Mapping[str, Path | str]
    names: Mapping[str, str]


def resolve_backbone(spec: BackboneSpec, cache: Path) -> Backbone:
    """Find both checkpoints without loading their weights; hub ids are downloaded where they are not cached.

    Parameters
    ----------
    spec : names of the encoders, and their precision.
    cache : folder for joined weights and remembered digests.

    Raises
    ------
    InputError : with what is wrong with either.
    """
    found: list[tuple[Checkpoint, FeatureKey]] = []
    mistakes: list[str] = []
    kinds: tuple[tuple[Kind, str], ...] = (("audio", spec.audio), ("text", spec.text))
    for kind, name in kinds:
        try:
            checkpoint = resolve(name, cache)
            how = preprocessing(checkpoint, kind)
            found.append((checkpoint, FeatureKey(kind, checkpoint.digest, how, spec.precision)))
        except InputError as error:
            mistakes += error.mistakes
    raise_all(mistakes)
    (audio, audio_key), (text, text_key) = found
    return Backbone(audio, text, audio_key, text_key)


def missing(
    corpus: Corpus, audio_digests: Sequence[str] | np.ndarray, backbone: Backbone, root: Path
) -> tuple[int, int]:
    """How many distinct clips and prompts are still to be encoded; asks for no right to write."""
    audio, text = (len(job.store.missing(job.sources)) for job in _jobs(corpus, audio_digests, backbone, root))
    return audio, text


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
    audio, text = _jobs(corpus, audio_digests, backbone, root)
    for job in (text, audio):  # prompts take seconds: what is wrong with them should not come after hours
        keys = job.store.missing(job.sources)
        if keys or job.store.meta is None:
            job.store.sweep()
            _fill(job, keys, workers, device, progress)


def open_dataset(
    corpus: Corpus,
    audio_digests: Sequence[str] | np.ndarray,
    backbone: Backbone,
    root: Path,
    indices: Int[np.ndarray, " clips"],
) -> Dataset:
    """The features and labels of the clips with these row numbers, in this order; frames are mapped, not read.

    Raises
    ------
    InputError : features are missing or broken, with the command that makes them.
    """
    clips = corpus.clips.iloc[indices]
    audio, text = _jobs(corpus, audio_digests, backbone, root)
    prompts = list(dict.fromkeys(clips["prompt"]))
    position = {prompt: row for row, prompt in enumerate(prompts)}
    wanted = ((audio, [str(audio_digests[index]) for index in indices]), (text, [_text_key(each) for each in prompts]))
    tables = []
    mistakes = []
    for job, keys in wanted:
        try:
            tables.append(job.store.open(keys))
        except InputError as error:
            mistakes.append(
                f"{job.kind} features of {job.checkpoint.name}: {len(error.mistakes)} of {len(set(keys))} are not in "
                f"{job.store.folder}, the first is {error.mistakes[0]}"
            )
    raise_all(mistakes)
    return Dataset(
        utterances=tuple(clips["utterance"]),
        systems=tuple(clips["system"]),
        audio=tables[0],
        text=tables[1],
        prompt_of=np.array([position[prompt] for prompt in clips["prompt"]], dtype=np.int64),
        omq=clips["omq"].to_numpy(dtype=np.float64),
        ta=clips["ta"].to_numpy(dtype=np.float64),
    )


def _text_key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def _jobs(
    corpus: Corpus, audio_digests: Sequence[str] | np.ndarray, backbone: Backbone, root: Path
) -> tuple[_Job, _Job]:
    clips = corpus.clips
    keys = [str(key) for key in audio_digests]
    paths = {key: Path(path) for key, path in zip(keys, clips["audio"], strict=True)}
    utterances = dict(zip(keys, clips["utterance"], strict=True))
    prompts = {_text_key(prompt): prompt for prompt in dict.fromkeys(clips["prompt"])}
    quoted = {key: f"prompt {prompt!r}" for key, prompt in prompts.items()}
    audio = _Job("audio", backbone.audio, FeatureStore(root, backbone.audio_key), paths, utterances)
    text = _Job("text", backbone.text, FeatureStore(root, backbone.text_key), prompts, quoted)
    return audio, text


def _fill(job: _Job, keys: list[str], workers: int, device: str, progress: Callable[[Progress], None]) -> None:
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
            job.store.describe(_meta(job.checkpoint, encoder))
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


def _check_bf16(job: _Job, encoder: "Encoder", keys: Sequence[str], device: str) -> None:
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


def _encode_batch(job: _Job, encoder: "Encoder", keys: Sequence[str]) -> list[str]:
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


def _load(job: _Job, key: str, sample_rate: int | None) -> Any:
    source = job.sources[key]
    if isinstance(source, str):
        return source
    assert sample_rate is not None
    wave = load(source, sample_rate)
    if hashlib.sha256(source.read_bytes()).hexdigest() != key:
        raise InputError(f"{source}: changed since the corpus was read. Run the command again.")
    return wave


def _meta(checkpoint: Checkpoint, encoder: "Encoder") -> StoreMeta:
    return StoreMeta(
        name=checkpoint.name,
        dim=encoder.family.dim,
        num_parameters=encoder.counts.num_parameters,
        macs=encoder.counts.macs,
        frame_rate=encoder.family.frame_rate,
        untrained=checkpoint.untrained,
    )


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
