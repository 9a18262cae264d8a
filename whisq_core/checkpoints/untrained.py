"""Untrained encoders: the true architectures at small size, with seeded random weights and no download.

They serve tests and as placeholders. Their features carry little, and a table that uses them says so.
"""

import re
import zlib
from typing import Any

from whisq_core.spec import digest

UNTRAINED_SEED = 20_250_910  # any fixed number; weights never depend on a run's seed
UNTRAINED_VERSION = 1  # raise it when the weights or tokens of an unchanged architecture change

_VOCABULARY = 4096
_TEXT = {"vocab_size": _VOCABULARY, "hidden_size": 128, "num_attention_heads": 4}
_AUDIO = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024}
_CLAP_TEXT = {"num_hidden_layers": 2, "intermediate_size": 512, "max_position_embeddings": 514, "projection_dim": 512}
_CLAP_AUDIO = {"hidden_size": 256, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 8], "projection_dim": 512}
ENCODER_ONLY_WHISPER = {
    "decoder_layers": 0,
    "decoder_attention_heads": 1,
    "vocab_size": 1,
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "eos_token_id")),
    "decoder_start_token_id": 0,
}
_WHISPER = {"d_model": 256, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 1024}
_QWEN3 = {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 512}
_SPECIAL_TOKENS = {"pad_token_id": 0} | dict.fromkeys(
    ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1
)
ARCHITECTURES: dict[str, dict[str, Any]] = {  # what differs from the defaults of each family's configuration class
    "whisper": _WHISPER | ENCODER_ONLY_WHISPER,
    "wav2vec2": {**_AUDIO, "conv_dim": [64] * 7, "num_conv_pos_embeddings": 32},
    "clap": {
        "text_config": _TEXT | _CLAP_TEXT,
        "audio_config": {"patch_embeds_hidden_size": 32} | _CLAP_AUDIO,
        "projection_dim": 512,
    },
    "qwen3": _TEXT | _QWEN3,
    "modernbert": {**_TEXT, "num_hidden_layers": 4, "intermediate_size": 256, **_SPECIAL_TOKENS},
}
_NUM_RESERVED = 4  # 0 and 1 are padding in one family or another, 2 and 3 begin and end a sentence
_BEGIN, _END = 2, 3


def untrained_digest(family: str) -> str:
    """The identity of an untrained encoder: its architecture and where its numbers come from."""
    return digest([family, ARCHITECTURES[family], UNTRAINED_SEED, UNTRAINED_VERSION])


def hashed_tokens(text: str) -> list[int]:
    """Words and marks to numbers by a checksum: a tokenizer without a vocabulary file."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    tokens = [_NUM_RESERVED + zlib.crc32(word.encode()) % (_VOCABULARY - _NUM_RESERVED) for word in words]
    return [_BEGIN, *tokens, _END]
