"""The families of audio encoders: one function each, from a checkpoint to an `Encoder` of waves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from whisq_core.corpus.audio import CLAP_SAMPLE_RATE, SAMPLE_RATE
from whisq_core.encoders.checkpoints import Checkpoint
from whisq_core.encoders.pretrained import (
    Encoded,
    Encoder,
    Options,
    computing,
    count,
    load_model,
    model_config,
    quiet,
    to_device,
    to_numpy,
)
from whisq_core.errors import InputError

Wave = Float32[np.ndarray, " samples"]
WINDOW_SECONDS = 30  # Whisper's window; Wav2Vec2 hears the same part of a clip
WHISPER_FRAME = 320  # samples per frame: a hop of 160 and a convolution of stride 2
_CUDA_BATCH = 16  # clips
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Prepared:
    """A clip as an encoder takes it; `valid` counts the frames that hold signal."""

    array: Float32[np.ndarray, "..."]
    valid: int


AudioEncoder = Encoder[Wave, Prepared]


def whisper(checkpoint: Checkpoint, preprocessing: str, options: Options) -> AudioEncoder:
    """Whisper's encoder: log-mel, padded or cut to 30 s, 1500 frames at 50 Hz.

    HF Whisper ignores masks, so padding is encoded too; `valid` tells it apart.
    """
    config = model_config(checkpoint)
    extractor = _extractor(checkpoint, "WhisperFeatureExtractor", {"feature_size": config.num_mel_bins}, optional=True)
    num_frames = config.max_source_positions

    def prepare(wave: Wave) -> Prepared:
        mel = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0]
        return Prepared(mel, min(num_frames, math.ceil(len(wave) / WHISPER_FRAME)))

    def forward(model: Any, mel: Float[Tensor, "clips mel times"]) -> Float[Tensor, "clips frames dim"]:
        return model.encoder(mel).last_hidden_state

    mel_shape = (1, config.num_mel_bins, 2 * num_frames)
    on_ctranslate2 = checkpoint.format == "ctranslate2" and options == Options("float32", "cpu", options.workers)
    return AudioEncoder(
        dim=config.d_model,
        sample_rate=SAMPLE_RATE,
        frame_rate=SAMPLE_RATE / WHISPER_FRAME,
        preprocessing=preprocessing,
        counts=count(checkpoint, lambda model: [model.encoder], lambda model: forward(model, torch.zeros(mel_shape))),
        batch_size=_batch_size(options),
        prepare=prepare,
        run=_ctranslate2_run(checkpoint, options) if on_ctranslate2 else _torch_run(checkpoint, options, forward),
    )


def wav2vec2(checkpoint: Checkpoint, preprocessing: str, options: Options) -> AudioEncoder:
    """Wav2Vec2: the normalised wave, one clip at a time, since the base model takes no mask; about 49 Hz.

    Paper silent: the length heard. Cut to Whisper's 30 s, so that both backbones hear the same audio.
    """
    config = model_config(checkpoint)
    extractor = _extractor(checkpoint, "Wav2Vec2FeatureExtractor", {})
    window = WINDOW_SECONDS * SAMPLE_RATE

    def prepare(wave: Wave) -> Prepared:
        values = extractor(wave[:window], sampling_rate=SAMPLE_RATE, return_tensors="np")["input_values"][0]
        num_frames = len(values)
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            num_frames = (num_frames - kernel) // stride + 1
        return Prepared(values.astype(np.float32), num_frames)

    def forward(model: Any, values: Float[Tensor, "clips samples"]) -> Float[Tensor, "clips frames dim"]:
        return model(values).last_hidden_state

    return AudioEncoder(
        dim=config.hidden_size,
        sample_rate=SAMPLE_RATE,
        frame_rate=SAMPLE_RATE / math.prod(config.conv_stride),
        preprocessing=preprocessing,
        counts=count(checkpoint, lambda model: [model], lambda model: forward(model, torch.zeros(1, window))),
        batch_size=1,
        prepare=prepare,
        run=_torch_run(checkpoint, options, forward),
    )


def clap(checkpoint: Checkpoint, preprocessing: str, options: Options) -> AudioEncoder:
    """CLAP's normalised audio embedding, stored as a single frame.

    Its processor crops longer clips at random; here the first 10 s are taken. Shorter ones are repeated as often as
    they fit and padded with silence, as the processor does.
    """
    config = model_config(checkpoint)
    extractor = _extractor(checkpoint, "ClapFeatureExtractor", {"truncation": "rand_trunc"})
    channels = 4 if config.audio_config.enable_fusion else 1

    def prepare(wave: Wave) -> Prepared:
        head = wave[: extractor.nb_max_samples]
        mel = extractor(head, sampling_rate=CLAP_SAMPLE_RATE, return_tensors="np")["input_features"][0]
        return Prepared(mel.astype(np.float32), 1)

    def forward(model: Any, mel: Float[Tensor, "clips crops times mel"]) -> Float[Tensor, "clips 1 dim"]:
        # A fusion model adds details of longer clips; after the cut there are none.
        is_longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
        return model.get_audio_features(input_features=mel, is_longer=is_longer).pooler_output[:, None]

    mel_shape = (1, channels, extractor.nb_max_samples // extractor.hop_length + 1, extractor.feature_size)
    return AudioEncoder(
        dim=config.projection_dim,
        sample_rate=CLAP_SAMPLE_RATE,
        frame_rate=None,
        preprocessing=preprocessing,
        counts=count(
            checkpoint,
            lambda model: [model.audio_model, model.audio_projection],
            lambda model: forward(model, torch.zeros(mel_shape)),
        ),
        batch_size=_batch_size(options),
        prepare=prepare,
        run=_torch_run(checkpoint, options, forward, pools=True),
    )


def _batch_size(options: Options) -> int:
    """One clip on a CPU: a batch is no faster there, and a clip's features then depend on nothing but the clip."""
    return 1 if options.device == "cpu" else _CUDA_BATCH


def _torch_run(checkpoint: Checkpoint, options: Options, forward: Any, pools: bool = False) -> Any:
    model = load_model(checkpoint, options)

    def run(clips: Sequence[Prepared]) -> list[Encoded]:
        with computing(options):
            frames = to_numpy(forward(model, to_device([clip.array for clip in clips], options)))
        return [
            Encoded(array, clip.valid, array[0] if pools else None) for array, clip in zip(frames, clips, strict=True)
        ]

    return run


def _ctranslate2_run(checkpoint: Checkpoint, options: Options) -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise InputError(
            f"checkpoint '{checkpoint.name}': a CTranslate2 folder needs the package ctranslate2. "
            "Run `pip install 'whisq-study[ctranslate2]'`, or give a transformers folder."
        ) from None
    model = ctranslate2.models.Whisper(
        str(checkpoint.folder),
        device="cpu",
        compute_type="float32",
        inter_threads=options.workers,
        intra_threads=1,
    )

    def run(clips: Sequence[Prepared]) -> list[Encoded]:
        mel = np.ascontiguousarray(np.stack([clip.array for clip in clips]))
        frames = np.array(model.encode(ctranslate2.StorageView.from_array(mel)))
        return [Encoded(array, clip.valid) for array, clip in zip(frames, clips, strict=True)]

    return run


def _extractor(checkpoint: Checkpoint, class_name: str, defaults: dict[str, Any], optional: bool = False) -> Any:
    """The folder's own feature extractor; where a folder may do without, or there is none, one with `defaults`."""
    import transformers

    kind = getattr(transformers, class_name)
    if checkpoint.has_file(*_PREPROCESSORS):
        with quiet():
            return kind.from_pretrained(checkpoint.folder, local_files_only=True)
    if not optional and not checkpoint.untrained:
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder} has no {_PREPROCESSORS[0]}, which says how its input "
            "is normalised. Fetch the folder again, with that file."
        )
    return kind(**defaults)
