"""The families of audio encoders: one function each, from a checkpoint to what it does with a wave."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from whisq_core.checkpoints import Checkpoint
from whisq_core.corpus import CLAP_SAMPLE_RATE, SAMPLE_RATE
from whisq_core.encoders.encoder import Family, Prepared, model_config, quiet
from whisq_core.errors import InputError

Wave = Float32[np.ndarray, " samples"]
WINDOW_SECONDS = 30  # Whisper's window; Wav2Vec2 hears the same part of a clip
WHISPER_FRAME = 320  # samples per frame: a hop of 160 and a convolution of stride 2
_BATCH = 32  # clips at a time on a GPU
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")


def whisper(checkpoint: Checkpoint) -> Family:
    """Whisper's encoder: log-mel, padded or cut to 30 s, 1500 frames at 50 Hz.

    HF Whisper ignores masks, so padding is encoded too; the number of valid frames tells it apart.
    """
    config = model_config(checkpoint)
    defaults = {"feature_size": config.num_mel_bins}
    extractor = _extractor(checkpoint, "WhisperFeatureExtractor", SAMPLE_RATE, defaults, optional=True)
    num_frames = config.max_source_positions

    def prepare(wave: Wave) -> Prepared:
        mel = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0]
        return Prepared(mel, num_frames, min(num_frames, math.ceil(len(wave) / WHISPER_FRAME)))

    def forward(model: Any, mel: Float[Tensor, "clips mel times"], mask: object) -> Float[Tensor, "clips frames dim"]:
        return model.encoder(mel).last_hidden_state

    return Family(
        dim=config.d_model,
        prepare=prepare,
        forward=forward,
        parts=lambda model: [model.encoder],
        nominal=torch.zeros(1, config.num_mel_bins, 2 * num_frames, device="meta"),
        batch_size=_BATCH,
        sample_rate=SAMPLE_RATE,
        frame_rate=SAMPLE_RATE / WHISPER_FRAME,
    )


def wav2vec2(checkpoint: Checkpoint) -> Family:
    """Wav2Vec2: the normalised wave, only clips of one length at a time, since the base model takes no mask; 49 Hz.

    Paper silent: the length heard. Cut to Whisper's 30 s, so that both backbones hear the same audio.
    """
    config = model_config(checkpoint)
    extractor = _extractor(checkpoint, "Wav2Vec2FeatureExtractor", SAMPLE_RATE, {})
    window = WINDOW_SECONDS * SAMPLE_RATE

    def prepare(wave: Wave) -> Prepared:
        values = extractor(wave[:window], sampling_rate=SAMPLE_RATE, return_tensors="np")["input_values"][0]
        num_frames = len(values)
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            num_frames = (num_frames - kernel) // stride + 1
        return Prepared(values.astype(np.float32), num_frames, num_frames)

    def forward(model: Any, values: Float[Tensor, "clips samples"], mask: object) -> Float[Tensor, "clips frames dim"]:
        return model(values).last_hidden_state

    return Family(
        dim=config.hidden_size,
        prepare=prepare,
        forward=forward,
        parts=lambda model: [model],
        nominal=torch.zeros(1, window, device="meta"),
        batch_size=_BATCH,
        pads=False,
        sample_rate=SAMPLE_RATE,
        frame_rate=SAMPLE_RATE / math.prod(config.conv_stride),
    )


def clap(checkpoint: Checkpoint) -> Family:
    """CLAP's normalised audio embedding, stored as a single frame.

    Its processor crops longer clips at random; here the first 10 s are taken. Shorter ones are repeated as often as
    they fit and padded with silence, as the processor does.
    """
    config = model_config(checkpoint)
    extractor = _extractor(checkpoint, "ClapFeatureExtractor", CLAP_SAMPLE_RATE, {"truncation": "rand_trunc"})
    channels = 4 if config.audio_config.enable_fusion else 1

    def prepare(wave: Wave) -> Prepared:
        head = wave[: extractor.nb_max_samples]
        mel = extractor(head, sampling_rate=CLAP_SAMPLE_RATE, return_tensors="np")["input_features"][0]
        return Prepared(mel.astype(np.float32), 1, 1)

    def forward(model: Any, mel: Float[Tensor, "clips crops times mel"], mask: object) -> Float[Tensor, "clips 1 dim"]:
        # A fusion model adds details of longer clips; after the cut there are none.
        is_longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
        return model.get_audio_features(input_features=mel, is_longer=is_longer).pooler_output[:, None]

    num_times = extractor.nb_max_samples // extractor.hop_length + 1
    return Family(
        dim=config.projection_dim,
        prepare=prepare,
        forward=forward,
        parts=lambda model: [model.audio_model, model.audio_projection],
        nominal=torch.zeros(1, channels, num_times, extractor.feature_size, device="meta"),
        batch_size=_BATCH,
        sample_rate=CLAP_SAMPLE_RATE,
        pools=True,
    )


def _extractor(
    checkpoint: Checkpoint, class_name: str, sample_rate: int, defaults: dict[str, Any], optional: bool = False
) -> Any:
    """The folder's own feature extractor; where a folder may do without, or there is none, one with `defaults`."""
    import transformers

    kind = getattr(transformers, class_name)
    if checkpoint.has_file(*_PREPROCESSORS):
        with quiet(), warnings.catch_warnings(action="ignore"):  # of filters that hear nothing at another rate
            extractor = kind.from_pretrained(checkpoint.folder, local_files_only=True)
        if methods := [name for name in vars(extractor) if callable(getattr(kind, name, None))]:
            raise InputError(
                f"checkpoint '{checkpoint.name}': '{methods[0]}' in its {_PREPROCESSORS[0]} is a method's name and no "
                "setting. Fetch the folder again."
            )
        if extractor.sampling_rate != sample_rate:
            raise InputError(
                f"checkpoint '{checkpoint.name}': 'sampling_rate' in its {_PREPROCESSORS[0]} is "
                f"{extractor.sampling_rate}, this family takes {sample_rate}. Fetch the folder again."
            )
        return extractor
    if not optional and not checkpoint.untrained:
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder} has no {_PREPROCESSORS[0]}, which says how its input "
            "is normalised. Fetch the folder again, with that file."
        )
    return kind(**defaults)
