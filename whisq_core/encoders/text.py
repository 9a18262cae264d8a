"""The families of text encoders: any model that transformers' `AutoModel` loads, and CLAP's text side."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whisq_core.checkpoints import Checkpoint, hashed_tokens
from whisq_core.encoders.encoder import Family, Prepared, model_config, quiet
from whisq_core.errors import InputError

MAX_TOKENS = 512
NOMINAL_TOKENS = 24  # a usual prompt of MusicEval, for counting operations
_BATCH = 64  # prompts at a time on a GPU
_TOKENIZERS = (
    *("tokenizer.json", "vocab.json", "vocab.txt"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)


def sequences(checkpoint: Checkpoint) -> Family:
    """`last_hidden_state` of the real tokens, special ones included; no chat template (paper silent)."""
    config = model_config(checkpoint)
    if config.is_encoder_decoder:
        raise InputError(
            f"checkpoint '{checkpoint.name}': '{checkpoint.family}' is an encoder-decoder, which has no single "
            "sequence of text states. Give an encoder or a decoder such as BERT, ModernBERT, Qwen3 or Llama."
        )

    def forward(model: Any, tokens: Tensor, mask: Tensor | None) -> Float[Tensor, "prompts tokens dim"]:
        return model(input_ids=tokens, attention_mask=mask).last_hidden_state

    return _family(checkpoint, config.hidden_size, forward, lambda model: [model])


def clap(checkpoint: Checkpoint) -> Family:
    """CLAP's normalised text embedding, stored as a single frame."""

    def forward(model: Any, tokens: Tensor, mask: Tensor | None) -> Float[Tensor, "prompts 1 dim"]:
        return model.get_text_features(input_ids=tokens, attention_mask=mask).pooler_output[:, None]

    dim = model_config(checkpoint).projection_dim
    return _family(checkpoint, dim, forward, lambda model: [model.text_model, model.text_projection], pools=True)


def _family(checkpoint: Checkpoint, dim: int, forward: Any, parts: Any, pools: bool = False) -> Family:
    tokens_of, padding = _tokenizer(checkpoint)

    def prepare(prompt: str) -> Prepared:
        tokens = np.asarray(tokens_of(prompt), dtype=np.int64)
        num_frames = 1 if pools else len(tokens)
        return Prepared(tokens, num_frames, num_frames)

    return Family(
        dim=dim,
        prepare=prepare,
        forward=forward,
        parts=parts,
        nominal=torch.ones(1, NOMINAL_TOKENS, dtype=torch.long, device="meta"),
        batch_size=_BATCH,
        pools=pools,
        padding=padding,
    )


def _tokenizer(checkpoint: Checkpoint) -> tuple[Callable[[str], list[int]], int]:
    """Prompt to tokens, and the token to pad with (any will do where there is none: padding is masked).

    Raises InputError when the folder has no tokenizer, or one that cannot be loaded.
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
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    longest = getattr(model_config(checkpoint), "max_position_embeddings", MAX_TOKENS)
    limit = min(MAX_TOKENS, tokenizer.model_max_length, longest)
    lock = threading.Lock()  # setting the limit borrows the tokenizer mutably

    def tokens_of(prompt: str) -> list[int]:
        with lock:
            return tokenizer(prompt, truncation=True, max_length=limit)["input_ids"]

    return tokens_of, tokenizer.pad_token_id or 0
