"""Run one `RunSpec`: identity -> features -> fit -> predictions -> metrics. Knows no Optuna."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from study.store.records import Scored, StoredCorpus, StoredRun
from whisq_core.controls import predict_control
from whisq_core.corpus import (
    Corpus,
    Split,
    check_audio_files,
    corpus_digest,
    inner_split,
    read_corpus,
    split,
    system_truth,
)
from whisq_core.encoders import Backbone, open_dataset, resolve_backbone
from whisq_core.features.store import Dataset, FeatureStore, StoreMeta
from whisq_core.metrics import evaluate
from whisq_core.spec import BackboneSpec, RunSpec, digest

NUMERICS_VERSION = 2
"""Raise when the same spec on the same data gives other numbers; a golden run notices."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides the result of a run, and its name."""

    run_id: str
    parts: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one run produced."""

    scored: dict[str, Scored]
    curve: list[dict[str, float]]
    details: dict[str, Any]
    seconds: float
    model: Any


class Workspace:
    """A corpus, its digests and its feature stores, opened once per process."""

    def __init__(self, data: Path, features: Path) -> None:
        """Read the corpus at `data`; `features` is the root of the feature stores.

        Raises:
            InputError: with every mistake of the corpus.
        """
        self.data = data
        self.features = features
        self.corpus: Corpus = read_corpus(data)
        self._backbones: dict[BackboneSpec, Backbone] = {}
        self._datasets: dict[tuple[str, bytes], Dataset] = {}

    @cached_property
    def audio_digests(self) -> np.ndarray:
        """SHA-256 of each clip's file; files seen before are not read again."""
        self._cache.mkdir(parents=True, exist_ok=True)
        return check_audio_files(self.corpus, self._cache / "audio.json")

    def check_audio(self) -> None:
        """Look at every sound file that is new or has changed.

        Raises:
            InputError: with every one that is broken.
        """
        _ = self.audio_digests

    @cached_property
    def digest(self) -> str:
        """The digest of the corpus: ids, audio, prompts, labels, split."""
        return corpus_digest(self.corpus, self.audio_digests)

    @property
    def _cache(self) -> Path:
        return self.features / "cache"

    def stored_corpus(self) -> StoredCorpus:
        """The corpus as the database keeps it: without paths."""
        clips = self.corpus.clips.drop(columns="audio")
        return StoredCorpus(self.digest, self.corpus.name, self.corpus.simulated, clips, self.corpus.system_mos)

    def backbone(self, spec: BackboneSpec) -> Backbone:
        """The resolved encoders of `spec`, without their weights."""
        if spec not in self._backbones:
            self._backbones[spec] = resolve_backbone(spec, self._cache)
        return self._backbones[spec]

    def dataset(self, backbone: Backbone, indices: np.ndarray) -> Dataset:
        """Memory-mapped features and labels of some clips."""
        key = (backbone.digest, indices.tobytes())
        if key not in self._datasets:
            self._datasets[key] = open_dataset(self.corpus, self.audio_digests, backbone, self.features, indices)
        return self._datasets[key]


def identify(spec: RunSpec, workspace: Workspace) -> Identity:
    """The identity of a resolved `spec` on this corpus and these encoders."""
    parts: dict[str, Any] = {**spec.deciding_settings(), "corpus": workspace.digest}
    if spec.uses_features:
        backbone = workspace.backbone(spec.backbone)
        parts |= {"features.audio": backbone.audio_key.digest, "features.text": backbone.text_key.digest}
    parts["numerics_version"] = NUMERICS_VERSION
    return Identity(digest(parts), parts)


OnEpoch = Callable[[Any, np.ndarray | None], None]


def execute(spec: RunSpec, workspace: Workspace, on_epoch: OnEpoch, *, watch: str | None = None) -> Outcome:
    """Train and score one resolved run.

    `on_epoch(record, predictions)` is called after each epoch; with `watch` it gets the predictions on that split.

    Raises:
        InputError: when features are missing.
        whisq_core.training.Diverged: when the loss is not finite.
    """
    started = time.perf_counter()
    parts = split(workspace.corpus, spec.data)
    if spec.uses_features:
        predicted, curve, details, model = _train(spec, workspace, parts, on_epoch, watch)
    else:
        predicted, curve, details, model = _control(spec, workspace, parts), [], {}, None
    details = {**details, "system_truth": spec.data.system_truth}
    scored = {name: score(parts.score[name], values, workspace, spec) for name, values in predicted.items()}
    return Outcome(scored, curve, details, time.perf_counter() - started, model)


def score(clip_indices: np.ndarray, predicted: np.ndarray, workspace: Workspace, spec: RunSpec) -> Scored:
    """Metrics of predictions on some clips of the corpus."""
    clips = workspace.corpus.clips.iloc[clip_indices]
    truth, systems = clips[["omq", "ta"]].to_numpy(np.float64), list(clips["system"])
    published = system_truth(workspace.corpus, spec.data.system_truth, systems)
    metrics = evaluate(predicted, truth, systems, published)
    return Scored(np.asarray(clip_indices), predicted, metrics)


def _control(spec: RunSpec, workspace: Workspace, parts: Split) -> dict[str, np.ndarray]:
    name = spec.model.predictor
    assert name != "whisq", "a control hears nothing"
    fitted = workspace.corpus.clips.iloc[parts.fit]
    labels = fitted[["omq", "ta"]].to_numpy(np.float64)
    systems = workspace.corpus.clips["system"]
    return {
        part: predict_control(name, labels, list(fitted["system"]), list(systems.iloc[indices]))
        for part, indices in parts.score.items()
    }


def _train(
    spec: RunSpec, workspace: Workspace, parts: Split, on_epoch: OnEpoch, watch: str | None
) -> tuple[dict[str, np.ndarray], list[dict[str, float]], dict[str, Any], Any]:
    from whisq_core.training.fit import fit, predict  # torch costs a second to import; a control does not need it

    backbone = workspace.backbone(spec.backbone)
    fitted, inner = parts.fit, None
    if spec.train.patience is not None:
        fitted, inner_clips = inner_split(workspace.corpus, parts.fit, spec.data)
        inner = workspace.dataset(backbone, inner_clips)
    train = workspace.dataset(backbone, fitted)
    watched = None if watch is None else workspace.dataset(backbone, parts.score[watch])
    result = fit(spec, train, watch=watched, inner=inner, on_epoch=on_epoch)
    predicted = {
        name: predict(result.model, workspace.dataset(backbone, indices)) for name, indices in parts.score.items()
    }
    return (
        predicted,
        [asdict(record) for record in result.curve],
        _details(spec, workspace, backbone, train),
        result.model,
    )


def _details(spec: RunSpec, workspace: Workspace, backbone: Backbone, train: Dataset) -> dict[str, Any]:
    """Size and cost of the model with its encoders: parameters, and multiply-accumulates per clip."""
    from whisq_core.model.whisq import count

    frames = int(np.mean(train.audio.num_valid if spec.model.audio_frames == "valid" else train.audio.num_frames))
    tokens = int(np.mean(train.text.num_frames))
    counts = count(spec.model, train.audio.dim, train.text.dim, frames, tokens)
    encoders = [_described(FeatureStore(workspace.features, key)) for key in (backbone.audio_key, backbone.text_key)]
    encoder_macs = [encoder.macs for encoder in encoders if encoder.macs is not None]
    return {
        "num_trainable": counts.trainable,
        "num_total": counts.trainable + sum(encoder.num_parameters for encoder in encoders),
        "macs": counts.macs + sum(encoder_macs) if len(encoder_macs) == len(encoders) else None,
        "untrained": backbone.audio.untrained or backbone.text.untrained,
        "audio_dim": train.audio.dim,
        "num_train_clips": len(train),
        "frames": frames,
        "tokens": tokens,
    }


def _described(store: FeatureStore) -> StoreMeta:
    """What a store that has been opened says about its encoder."""
    meta = store.meta
    assert meta is not None, f"{store.folder} has features but no description"
    return meta


def stored(
    identity: Identity, outcome: Outcome, *, table_name: str, row: str, seed: int, manifest: dict[str, Any]
) -> StoredRun:
    """A finished run as the database keeps it."""
    return StoredRun(
        run_id=identity.run_id,
        table_name=table_name,
        row=row,
        seed=seed,
        state="done",
        identity=identity.parts,
        details=outcome.details,
        curve=outcome.curve,
        manifest=manifest,
        seconds=outcome.seconds,
        finished_at=time.time(),
        scored=outcome.scored,
    )
