"""Frozen encoders by family: which ones there are, what each does to its input, and how to get one.

`preprocessing` is part of a feature store's key and is known without loading anything; transformers is imported only
when an encoder is made. To add a family: one function in `audio` or `text`, one entry here.
"""

from typing import TYPE_CHECKING, Literal

from whisq_core.checkpoints import Checkpoint
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from whisq_core.encoders.encoder import Encoder, Family

Kind = Literal["audio", "text"]

# Say what decides the features; change a text when they change, and clips are encoded anew.
_AUDIO = {
    "whisper": "mono 16 kHz, log-mel of the folder's extractor, padded or cut to 30 s; encoder's last hidden state",
    "wav2vec2": "mono 16 kHz, first 30 s, normalised as the folder says, no mask; last hidden state",
    "clap": "mono 48 kHz, first 10 s, shorter clips repeated as they fit, then silence; normalised audio embedding",
}
_TEXT = {"clap": "folder's tokenizer, at most 512 tokens; normalised text embedding"}
_ANY_TEXT = "folder's tokenizer with its special tokens, at most 512 tokens, no chat template; last hidden state"
_UNTRAINED_TEXT = "hashed words; last hidden state"


def preprocessing(checkpoint: Checkpoint, kind: Kind) -> str:
    """What is done to the input and which state is taken, in stable words, without loading the checkpoint.

    Raises InputError when the checkpoint's family cannot serve as this kind of encoder.
    """
    family = checkpoint.family
    if checkpoint.format == "plugin":
        return f"a plug-in's own, of {kind}"
    if kind == "audio":
        if family not in _AUDIO:
            raise InputError(
                f"backbone.audio: checkpoint '{checkpoint.name}' is a '{family}'. Allowed: {', '.join(_AUDIO)}."
            )
        return _AUDIO[family]
    if family in _AUDIO and family not in _TEXT:
        raise InputError(
            f"backbone.text: checkpoint '{checkpoint.name}' is a '{family}', which encodes audio. Allowed: text models "
            "such as Qwen3, ModernBERT, BERT or Llama, and clap."
        )
    return _TEXT.get(family, _UNTRAINED_TEXT if checkpoint.untrained else _ANY_TEXT)


def load_encoder(
    checkpoint: Checkpoint, kind: Kind, precision: Literal["float32", "bf16"], device: str = "cpu"
) -> "Encoder":
    """Load an encoder of waves or of prompts.

    Raises InputError when the family cannot serve as this kind, or the folder cannot be loaded: in one line, whatever
    transformers raises over it.
    """
    from whisq_core.encoders.encoder import Encoder, PluginEncoder, explained

    if checkpoint.format == "plugin":
        return PluginEncoder(checkpoint, kind)
    with explained(checkpoint, "loaded"):
        return Encoder(checkpoint, load_family(checkpoint, kind), precision, device)


def load_family(checkpoint: Checkpoint, kind: Kind) -> "Family":
    """What an encoder does with its input, without its weights. Raises InputError as `load_encoder`."""
    preprocessing(checkpoint, kind)
    from whisq_core.encoders import audio, text
    from whisq_core.encoders.encoder import explained

    if kind == "audio":
        make = {"whisper": audio.whisper, "wav2vec2": audio.wav2vec2, "clap": audio.clap}[checkpoint.family]
    else:
        make = text.clap if checkpoint.family == "clap" else text.sequences
    with explained(checkpoint, "loaded"):
        return make(checkpoint)


def operations(checkpoint: Checkpoint, kind: Kind) -> int | None:
    """Multiply-accumulates of one usual item, counted without weights; None where an architecture cannot be counted.

    Raises InputError as `load_encoder`.
    """
    from whisq_core.encoders.encoder import count, explained

    if checkpoint.format == "plugin":
        return None
    with explained(checkpoint, "loaded"):
        return count(checkpoint, load_family(checkpoint, kind))[1]
