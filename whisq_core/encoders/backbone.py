"""A backbone: both encoders of a run, the items of a corpus that they encode, and the features that are there."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.corpus import Corpus
from whisq_core.encoders.families import Kind, preprocessing
from whisq_core.errors import InputError, raise_all
from whisq_core.features import Dataset, FeatureKey, FeatureStore
from whisq_core.spec import BackboneSpec, digest


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
class Job:
    """The items of one kind: their keys, where each comes from and how a message names it."""

    kind: Kind
    checkpoint: Checkpoint
    store: FeatureStore
    sources: Mapping[str, Path | str]
    names: Mapping[str, str]

    def mistakes(self, key: str, error: InputError) -> list[str]:
        """What is wrong with an item, with its name."""
        return [f"{self.names[key]}: {mistake}" for mistake in error.mistakes]


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
            if checkpoint.format == "plugin" and spec.precision != "float32":
                raise InputError(f"backbone.{kind}: '{name}' is a plug-in, backbone.precision: allowed is float32.")
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
    audio, text = (len(job.store.missing(job.sources)) for job in jobs(corpus, audio_digests, backbone, root))
    return audio, text


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
    audio, text = jobs(corpus, audio_digests, backbone, root)
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
        audio=tables[0],
        text=tables[1],
        prompt_of=np.array([position[prompt] for prompt in clips["prompt"]], dtype=np.int64),
        omq=clips["omq"].to_numpy(dtype=np.float64),
        ta=clips["ta"].to_numpy(dtype=np.float64),
    )


def _text_key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def jobs(corpus: Corpus, audio_digests: Sequence[str] | np.ndarray, backbone: Backbone, root: Path) -> tuple[Job, Job]:
    """The distinct clips and the distinct prompts of a corpus."""
    clips = corpus.clips
    keys = [str(key) for key in audio_digests]
    paths = {key: Path(path) for key, path in zip(keys, clips["audio"], strict=True)}
    utterances = dict(zip(keys, clips["utterance"], strict=True))
    prompts = {_text_key(prompt): prompt for prompt in dict.fromkeys(clips["prompt"])}
    quoted = {key: f"prompt {prompt!r}" for key, prompt in prompts.items()}
    audio = Job("audio", backbone.audio, FeatureStore(root, backbone.audio_key), paths, utterances)
    text = Job("text", backbone.text, FeatureStore(root, backbone.text_key), prompts, quoted)
    return audio, text
