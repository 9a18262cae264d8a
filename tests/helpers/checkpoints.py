"""Tiny checkpoints of every family as local transformers folders: real files, random weights, no download.

They take the same way through the code as a folder that `hf download` or `save_pretrained` made.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WHISPER_SECONDS = 2  # a short window instead of Whisper's 30 s, so that tests are quick
WHISPER_DIM, WAV2VEC2_DIM, CLAP_DIM, QWEN3_DIM, MODERNBERT_DIM = 32, 48, 64, 40, 24
AUDIO_FAMILIES = ("whisper", "wav2vec2", "clap")
TEXT_FAMILIES = ("qwen3", "modernbert", "bert", "llama", "clap")

_TEXT_SIZES = {"num_hidden_layers": 2, "intermediate_size": 48, "max_position_embeddings": 128}
_WORDS = ("a", "slow", "fast", "sad", "happy", "piano", "flute", "organ", "guitar", "music", "tone", "high", "low")


def write_checkpoint(
    folder: Path, family: str, dtype: torch.dtype = torch.float32, seed: int = 0, dim: int | None = None
) -> Path:
    """Write a loadable folder of `family`, its weights saved as `dtype`, and return it; `dim` for those that hear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(_CONFIGS[family](*([dim] if dim else [])))
    # Freshly drawn models have zero biases and tiny weights, which would hide a layer that is not loaded.
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.to(dtype).save_pretrained(folder)
    if family in _EXTRACTORS:
        _EXTRACTORS[family]().save_pretrained(folder)
    if family in TEXT_FAMILIES:
        _tokenizer(family).save_pretrained(folder)
    return folder


def write_all(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Path]:
    """One folder per family."""
    return {family: write_checkpoint(folder / family, family, dtype) for family in _CONFIGS}


def _whisper(dim: int = WHISPER_DIM) -> Any:
    return transformers.WhisperConfig(
        d_model=dim,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        max_source_positions=50 * WHISPER_SECONDS,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )


def _wav2vec2(dim: int = WAV2VEC2_DIM) -> Any:
    return transformers.Wav2Vec2Config(
        hidden_size=dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=[64 if dim == 64 else 16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )


def _clap() -> Any:
    text = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "projection_dim": CLAP_DIM}
    audio = {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 4], "hidden_size": 32}
    return transformers.ClapConfig(
        text_config=text | _TEXT_SIZES, audio_config=audio | {"projection_dim": CLAP_DIM}, projection_dim=CLAP_DIM
    )


def _qwen3() -> Any:
    return transformers.Qwen3Config(
        vocab_size=64, hidden_size=QWEN3_DIM, num_attention_heads=4, num_key_value_heads=2, head_dim=16, **_TEXT_SIZES
    )


def _modernbert() -> Any:
    tokens = {"pad_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return transformers.ModernBertConfig(
        vocab_size=64, hidden_size=MODERNBERT_DIM, num_attention_heads=4, **tokens, **_TEXT_SIZES
    )


def _bert() -> Any:
    return transformers.BertConfig(vocab_size=64, hidden_size=32, num_attention_heads=4, **_TEXT_SIZES)


def _llama() -> Any:
    return transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, **_TEXT_SIZES
    )


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Known words and an unknown one. Qwen3 pads on the left, Llama has no padding token: both must not matter."""
    special = ("<unk>", "<pad>", "<s>", "</s>")
    vocabulary = {token: number for number, token in enumerate((*special, *_WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if family != "qwen3":
        ends = [("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token=None if family == "llama" else "<pad>",
        padding_side="left" if family == "qwen3" else "right",
    )


def _whisper_extractor() -> Any:
    return transformers.WhisperFeatureExtractor(chunk_length=WHISPER_SECONDS)


def _wav2vec2_extractor() -> Any:
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True)


def _clap_extractor() -> Any:
    return transformers.ClapFeatureExtractor(truncation="rand_trunc")


_CONFIGS: dict[str, Callable[..., Any]] = {
    "whisper": _whisper,
    "wav2vec2": _wav2vec2,
    "clap": _clap,
    "qwen3": _qwen3,
    "modernbert": _modernbert,
    "bert": _bert,
    "llama": _llama,
}
_EXTRACTORS: dict[str, Callable[..., Any]] = {
    "whisper": _whisper_extractor,
    "wav2vec2": _wav2vec2_extractor,
    "clap": _clap_extractor,
}
