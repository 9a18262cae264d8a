"""Whisper's encoder in a CTranslate2 `model.bin`: sizes for counting, and its weights for PyTorch.

CTranslate2 itself runs the file on a CPU in float32. For bf16 and for CUDA the same weights run in PyTorch, so a
folder of this form serves every precision and device.

The file, little-endian: version, name of the specification, its revision, number of variables; each variable: name,
rank, sizes, type, number of bytes, bytes. A string is its length with the closing zero, then its bytes.
Source: `ModelSpec._serialize` of CTranslate2 4, file version 6.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from whisq_core.errors import InputError

if TYPE_CHECKING:
    import torch

_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}
_PREFIX = "encoder/"
_NAMES = {  # of CTranslate2 -> of transformers, inside a layer
    "self_attention/layer_norm/gamma": "self_attn_layer_norm.weight",
    "self_attention/layer_norm/beta": "self_attn_layer_norm.bias",
    "self_attention/linear_1/weight": "self_attn.out_proj.weight",
    "self_attention/linear_1/bias": "self_attn.out_proj.bias",
    "ffn/layer_norm/gamma": "final_layer_norm.weight",
    "ffn/layer_norm/beta": "final_layer_norm.bias",
    "ffn/linear_0/weight": "fc1.weight",
    "ffn/linear_0/bias": "fc1.bias",
    "ffn/linear_1/weight": "fc2.weight",
    "ffn/linear_1/bias": "fc2.bias",
}


@dataclass(frozen=True)
class _Variable:
    """Where one array lies in the file."""

    shape: tuple[int, ...]
    type: int
    offset: int
    num_bytes: int


def whisper_settings(path: Path) -> dict[str, Any]:
    """The encoder's sizes, under the names of transformers' `WhisperConfig`."""
    variables = _variables(path)
    dim, num_mel_bins, _ = variables["encoder/conv1/weight"].shape
    layers = {name.split("/")[1] for name in variables if name.startswith("encoder/layer_") and name.count("/") > 2}
    return {
        "d_model": dim,
        "num_mel_bins": num_mel_bins,
        "encoder_layers": len(layers),
        "encoder_attention_heads": int(_read(path, variables["encoder/num_heads"])),
        "decoder_layers": 0,  # only the encoder is built
        "decoder_attention_heads": 1,
        "vocab_size": 1,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "decoder_start_token_id": 0,
        "encoder_ffn_dim": variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
    }


def whisper_weights(path: Path) -> "dict[str, torch.Tensor]":
    """The encoder's weights in float32, under the names of transformers' `WhisperEncoder`.

    Raises:
        InputError: when the weights are quantised.
    """
    import torch

    variables = {name.removeprefix(_PREFIX): at for name, at in _variables(path).items() if name.startswith(_PREFIX)}
    if any(at.type in (1, 2) for name, at in variables.items() if name.endswith("weight")):
        raise InputError(
            f"{path}: quantised weights run in float32 on a CPU only. Set backbone.precision to float32, or convert "
            "the model without --quantization, or with --quantization float16."
        )
    weights = {}
    for name, at in variables.items():
        if name == "num_heads":
            continue
        for new_name, array in _renamed(name, _read(path, at).astype(np.float32)):
            weights[new_name] = torch.from_numpy(array)
    return weights


def _renamed(name: str, array: Shaped[np.ndarray, "..."]) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
    if name == "position_encodings/encodings":
        yield "embed_positions.weight", array
    elif name.startswith("layer_norm/"):
        yield ("layer_norm.weight" if name.endswith("gamma") else "layer_norm.bias"), array
    elif name.startswith("conv"):
        yield name.replace("/", "."), array
    else:
        layer, _, inner = name.removeprefix("layer_").partition("/")
        if not inner.startswith("self_attention/linear_0/"):
            yield f"layers.{layer}.{_NAMES[inner]}", array
            return
        kind = inner.rsplit("/", 1)[1]  # one array holds queries, keys and values
        for projection, part in zip(("q_proj", "k_proj", "v_proj"), np.split(array, 3), strict=True):
            if (projection, kind) != ("k_proj", "bias"):  # Whisper's keys have no bias; the file holds zeros
                yield f"layers.{layer}.self_attn.{projection}.{kind}", part


def _variables(path: Path) -> dict[str, _Variable]:
    with path.open("rb") as file:
        version = _number(file, "<I")
        if version != 6:
            raise InputError(f"{path}: CTranslate2 file version {version}, allowed: 6. Convert the model again.")
        _string(file)
        _number(file, "<I")  # revision of the specification
        found = {}
        for _ in range(_number(file, "<I")):
            name = _string(file)
            shape = tuple(_number(file, "<I") for _ in range(_number(file, "<B")))
            kind, num_bytes = _number(file, "<B"), _number(file, "<I")
            found[name] = _Variable(shape, kind, file.tell(), num_bytes)
            file.seek(num_bytes, 1)
    return found


def _read(path: Path, variable: _Variable) -> Shaped[np.ndarray, "..."]:
    with path.open("rb") as file:
        file.seek(variable.offset)
        return np.frombuffer(file.read(variable.num_bytes), dtype=_TYPES[variable.type]).reshape(variable.shape)


def _number(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "<H")).rstrip(b"\0").decode()
