"""A corpus with its features, opened once per process, and the identity of a run on it."""

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from study.store import StoredCorpus
from whisq_core.corpus import Corpus, check_audio_files, corpus_digest, read_corpus
from whisq_core.encoders import Backbone, open_dataset, resolve_backbone
from whisq_core.features import Dataset
from whisq_core.plugins import used
from whisq_core.spec import BackboneSpec, RunSpec, digest

NUMERICS_VERSION = 3
"""Raise when the same spec on the same data gives other numbers; a golden run notices."""


class Workspace:
    """A corpus, its digests and its feature stores.

    Parameters
    ----------
    data
        MusicEval folder or CSV manifest.
    features
        Root of the feature stores.
    keeps
        Whether digests of files are remembered there, for the next process; a plan leaves nothing on the disk.

    Raises
    ------
    InputError
        With every mistake of the corpus.
    """

    def __init__(self, data: Path, features: Path, *, keeps: bool = True) -> None:
        self.data, self.features = data, features
        self._cache = features / "cache" if keeps else self._scratch()
        self.corpus: Corpus = read_corpus(data)
        self._backbones: dict[BackboneSpec, Backbone] = {}
        self._datasets: dict[tuple[str, bytes], Dataset] = {}

    @cached_property
    def audio_digests(self) -> np.ndarray:
        """SHA-256 of each clip's file; files seen before are not read again.

        Raises
        ------
        InputError
            With every sound file that is broken.
        """
        return check_audio_files(self.corpus, self._cache / "audio.json")

    @cached_property
    def digest(self) -> str:
        """The digest of the corpus: ids, audio, prompts, labels, split."""
        return corpus_digest(self.corpus, self.audio_digests)

    @cached_property
    def labels(self) -> np.ndarray:
        """OMQ and TA of each clip, [clips, 2]; NaN where there are none."""
        labels: np.ndarray = self.corpus.clips[["omq", "ta"]].to_numpy(np.float64)
        return labels

    @cached_property
    def systems(self) -> np.ndarray:
        """The system of each clip."""
        systems: np.ndarray = self.corpus.clips["system"].to_numpy(dtype=object)
        return systems

    def _scratch(self) -> Path:
        """A folder that goes with this object, with what is remembered so far."""
        folder = Path(tempfile.mkdtemp(prefix="whisq-plan-"))
        weakref.finalize(self, shutil.rmtree, folder, True)
        for path in (self.features / "cache").glob("*"):
            (folder / path.name).symlink_to(path.absolute()) if path.is_dir() else shutil.copy(path, folder)
        return folder

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


@dataclass(frozen=True)
class Identity:
    """Everything that decides the result of a run, and its name."""

    run_id: str
    parts: dict[str, Any]


def identify(spec: RunSpec, workspace: Workspace) -> Identity:
    """The identity of a resolved `spec` on this corpus and these encoders."""
    parts: dict[str, Any] = {**spec.deciding_settings(), "corpus": workspace.digest}
    if spec.uses_features:
        backbone = workspace.backbone(spec.backbone)
        parts |= {"features.audio": backbone.audio_key.digest, "features.text": backbone.text_key.digest}
        parts |= {f"plugin.{setting}": distribution for setting, distribution in distributions(spec).items()}
    parts["numerics_version"] = NUMERICS_VERSION
    return Identity(digest(parts), parts)


def distributions(spec: RunSpec) -> dict[str, str]:
    """Who brought each plug-in that this run uses, as ``name==version``, by setting."""
    return {setting: plugin.distribution for setting, plugin in used(spec.settings()).items()}
