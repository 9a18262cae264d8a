"""A saved model, or all seeds of a row, and what it predicts of anybody's clips."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.models.clips import clips_of
from study.models.folders import find_models
from whisq_core.corpus import Corpus, check_audio_files
from whisq_core.encoders import Backbone, Progress, encode, open_dataset, resolve_backbone
from whisq_core.errors import InputError, raise_all

if TYPE_CHECKING:
    from whisq_core.training import TrainedModel

BATCH = 128  # clips whose features lie on the disk at once, 1.5 MB each


@dataclass(frozen=True)
class Model:
    """A trained model with its frozen encoders' names; several seeds of a row predict their mean.

    `config` is the `config.json` of the first seed; `audio` and `text` name other places of the same encoders.
    """

    networks: "tuple[TrainedModel, ...]"
    config: dict[str, Any]
    audio: str | None = None
    text: str | None = None

    @classmethod
    def from_folder(cls, folder: str | Path, audio: str | None = None, text: str | None = None) -> "Model":
        """Load a model that `whisq-study ablate --save-models` wrote.

        Parameters
        ----------
        folder
            Its folder; OUT/models/ROW for all seeds of a row; or `table/row/seed`, `table/row` of ./results.
        audio, text
            Where the encoders lie, if not where their names lead. Only the weights of the training are accepted.

        Raises
        ------
        InputError
            When there is no such model, or a file is truncated or mismatched.
        """
        from whisq_core.training import load, read_config

        folders = find_models(str(folder))
        configs = [read_config(path) for path in folders]
        encoders = {str(config.get("features")) for config in configs}
        if not all(_names_encoders(config) for config in configs):
            raise InputError(f"model '{folder}': its config.json does not say what its encoders were. Save it again.")
        if len(encoders) > 1:
            raise InputError(f"model '{folder}': its seeds were trained with different encoders. Give one of them.")
        return cls(tuple(load(path) for path in folders), configs[0], audio, text)

    @property
    def warning(self) -> str:
        """What must stand wherever a number of this model does; empty for trained encoders on people's ratings."""
        found = {"simulated": "trained on simulated data", "untrained": "an encoder is untrained"}
        return "; ".join(text for name, text in found.items() if self.config.get(name))

    def predict(
        self,
        audio: str | Path | Sequence[str | Path],
        prompt: str | Sequence[str] | None = None,
        *,
        features: Path | None = None,
        workers: int = 1,
    ) -> pd.DataFrame:
        """OMQ and TA of clips.

        Parameters
        ----------
        audio, prompt
            As `clips_of`: sound files, folders, or a CSV with its own prompts.
        features
            Folder that keeps the encoded clips for the next time; by default nothing is kept.
        workers
            Threads that encode.

        Returns
        -------
        DataFrame
            One line for each clip: audio, prompt, omq, ta on the scale of the ratings, not clipped; with several
            seeds their mean, and omq_sd, ta_sd over `seeds` of them. A column `warning` where there is one.

        Raises
        ------
        InputError
            With every clip that is no sound, and for encoders that are missing or not those of the training.
        """
        clips = clips_of([audio] if isinstance(audio, str | Path) else audio, prompt)
        return pd.concat(self.batches(clips, features, workers), ignore_index=True)

    def batches(
        self,
        clips: Corpus,
        features: Path | None = None,
        workers: int = 1,
        move: Callable[[int, int, str], None] = lambda done, total, text: None,
    ) -> Iterator[pd.DataFrame]:
        """`predict`, batch by batch; what can be wrong with clips is found before the first. `move` shows progress."""
        with TemporaryDirectory(prefix="whisq-predict-") if features is None else nullcontext(str(features)) as root:
            digests = check_audio_files(clips, Path(root) / "cache" / "audio.json")
            backbone, total = self._backbone(Path(root) / "cache"), len(clips.clips)
            for start in range(0, total, BATCH):
                part = slice(start, start + BATCH)

                def show(now: Progress, before: int = start) -> None:
                    if now.kind == "audio":
                        move(before + now.done, total, f"{now.rate:.1f}/s")

                with TemporaryDirectory(dir=root) if features is None else nullcontext(root) as store:
                    some = replace(clips, clips=clips.clips.iloc[part])
                    yield self._predicted(some, digests[part], backbone, Path(store), workers, show)

    def _backbone(self, cache: Path) -> Backbone:
        """The encoders, checked to be those of the training."""
        named = self.networks[0].spec.backbone
        given = {kind: name for kind, name in (("audio", self.audio), ("text", self.text)) if name is not None}
        try:
            backbone = resolve_backbone(named.model_copy(update=given), cache)
        except InputError as error:
            advice = "Where the encoders of the training lie elsewhere, give --audio NAME and --text NAME."
            raise InputError(*(f"{mistake} {advice}" for mistake in error.mistakes)) from None
        keys, trained = {"audio": backbone.audio_key, "text": backbone.text_key}, self.config["features"]
        raise_all(
            [
                f"{kind} encoder '{given.get(kind, getattr(named, kind))}': not the weights that the model was trained "
                f"with (features {key.digest[:12]}, allowed: {trained[kind][:12]} of '{getattr(named, kind)}'). "
                f"Give those with --{kind} NAME."
                for kind, key in keys.items()
                if key.digest != trained[kind]
            ]
        )
        return backbone

    def _predicted(
        self,
        corpus: Corpus,
        digests: np.ndarray,
        backbone: Backbone,
        root: Path,
        workers: int,
        show: Callable[[Progress], None],
    ) -> pd.DataFrame:
        from whisq_core.training import predict

        encode(corpus, digests, backbone, root, workers=workers, progress=show)
        data = open_dataset(corpus, digests, backbone, root, np.arange(len(digests)))
        values = np.stack([predict(network, data) for network in self.networks])
        omq, ta = values.mean(axis=0).T
        names, prompts = corpus.clips["utterance"].tolist(), corpus.clips["prompt"].tolist()
        frame = pd.DataFrame({"audio": names, "prompt": prompts, "omq": omq, "ta": ta})
        if len(values) > 1:
            frame[["omq_sd", "ta_sd"]] = values.std(axis=0, ddof=1)
            frame["seeds"] = len(values)
        return frame.assign(warning=self.warning) if self.warning else frame


def _names_encoders(config: dict[str, Any]) -> bool:
    """Whether a model says which encoders it was trained on."""
    found = config.get("features")
    return isinstance(found, dict) and all(isinstance(found.get(kind), str) for kind in ("audio", "text"))
