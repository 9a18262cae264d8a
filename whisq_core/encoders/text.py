"""Text encoders: any model that transformers' `AutoModel` loads, and CLAP's text side."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
from whisq_core.encoders.untrained import hashed_tokens
from whisq_core.errors import InputError

MAX_TOKENS = 512
NOMINAL_TOKENS = 24  # a usual prompt of MusicEval, for counting operations
_CUDA_BATCH = 64  # prompts
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)

TextEncoder = Encoder[str, list[int]]
Forward = Callable[[Any, Int[Tensor, "prompts tokens"], Int[Tensor, "prompts tokens"] | None], Tensor]


def sequences(checkpoint: Checkpoint, preprocessing: str, options: Options) -> TextEncoder:
    """`last_hidden_state` of the real tokens, special ones included; no chat template (paper silent)."""
    config = model_config(checkpoint)
    if config.is_encoder_decoder:
        raise InputError(
            f"checkpoint '{checkpoint.name}': '{checkpoint.family}' is an encoder-decoder, which has no single "
            "sequence of text states. Give an encoder or a decoder such as BERT, ModernBERT, Qwen3 or Llama."
        )

    def forward(model: Any, tokens: Tensor, mask: Tensor | None) -> Float[Tensor, "prompts tokens dim"]:
        return model(input_ids=tokens, attention_mask=mask).last_hidden_state

    return _encoder(checkpoint, preprocessing, options, config.hidden_size, forward, lambda model: [model])


def clap(checkpoint: Checkpoint, preprocessing: str, options: Options) -> TextEncoder:
    """CLAP's normalised text embedding, stored as a single frame."""

    def forward(model: Any, tokens: Tensor, mask: Tensor | None) -> Float[Tensor, "prompts 1 dim"]:
        return model.get_text_features(input_ids=tokens, attention_mask=mask).pooler_output[:, None]

    dim = model_config(checkpoint).projection_dim
    return _encoder(
        checkpoint, preprocessing, options, dim, forward, lambda model: [model.text_model, model.text_projection], True
    )


def _encoder(
    checkpoint: Checkpoint,
    preprocessing: str,
    options: Options,
    dim: int,
    forward: Forward,
    parts: Callable[[Any], list[torch.nn.Module]],
    pools: bool = False,
) -> TextEncoder:
    nominal = torch.ones(1, NOMINAL_TOKENS, dtype=torch.long, device="meta")
    prepare, padding = _tokenizer(checkpoint)
    model = load_model(checkpoint, options)

    def run(prompts: Sequence[list[int]]) -> list[Encoded]:
        tokens, mask = _padded(prompts, padding)
        with computing(options):
            frames = to_numpy(
                forward(model, to_device(list(tokens), options), to_device(list(mask.astype(np.int64)), options))
            )
        if pools:
            return [Encoded(array, 1, array[0]) for array in frames]
        return [Encoded(array[real], int(real.sum())) for array, real in zip(frames, mask, strict=True)]

    return TextEncoder(
        dim=dim,
        sample_rate=None,
        frame_rate=None,
        preprocessing=preprocessing,
        counts=count(checkpoint, parts, lambda model: forward(model, nominal, None)),
        # One prompt on a CPU: its features then depend on nothing but the prompt, to the last bit.
        batch_size=1 if options.device == "cpu" else _CUDA_BATCH,
        prepare=prepare,
        run=run,
    )


def _padded(
    prompts: Sequence[list[int]], padding: int
) -> tuple[Int[np.ndarray, "prompts tokens"], Bool[np.ndarray, "prompts tokens"]]:
    """Padded at the end whatever the tokenizer prefers: causal models then never see padding before real tokens."""
    length = max(len(prompt) for prompt in prompts)
    mask = np.array([[position < len(prompt) for position in range(length)] for prompt in prompts])
    tokens = np.full(mask.shape, padding, dtype=np.int64)
    tokens[mask] = np.concatenate([np.asarray(prompt, dtype=np.int64) for prompt in prompts])
    return tokens, mask


def _tokenizer(checkpoint: Checkpoint) -> tuple[Callable[[str], list[int]], int]:
    """Prompt to tokens, and the token to pad with (any will do where there is none: padding is masked).

    Raises:
        InputError: when the folder has no tokenizer.
    """
    if checkpoint.untrained:
        return hashed_tokens, 0
    if not checkpoint.has_file(*_TOKENIZERS):
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder} has no tokenizer ({', '.join(_TOKENIZERS)}). "
            "Fetch the folder again, with its tokenizer."
        )
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    longest = getattr(model_config(checkpoint), "max_position_embeddings", MAX_TOKENS)
    limit = min(MAX_TOKENS, tokenizer.model_max_length, longest)
    lock = threading.Lock()  # setting the limit borrows the tokenizer mutably

    def prepare(prompt: str) -> list[int]:
        with lock:
            return tokenizer(prompt, truncation=True, max_length=limit)["input_ids"]

    return prepare, tokenizer.pad_token_id or 0
