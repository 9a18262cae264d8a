"""Whisper's encoder in a CTranslate2 `model.bin`, faster-whisper's form: its sizes, and its weights for transformers.

The file, little-endian: version, name of the specification, its revision, number of variables; each variable: name,
rank, sizes, type, number of bytes, bytes; then number of aliases, each the names of two equal variables. A string is
its length with the closing zero, then its bytes. Source: `ModelSpec._serialize` of CTranslate2 4, file version 6.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from whisq_core.errors import InputError
from whisq_core.files import open_regular

if TYPE_CHECKING:  # a plan only asks what kind of file it is
    import torch

_VERSION = 6
_LARGEST = 2**40  # bytes
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_ITEM_BYTES = (4, 1, 2, 4, 2, 2)
_ENCODER = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm"}  # of transformers -> of CTranslate2
_LAYER = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.out_proj": "self_attention/linear_1",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}


class _Variable(NamedTuple):
    """Where one array lies in the file."""

    shape: tuple[int, ...]
    type: int
    offset: int
    num_bytes: int


def specification(path: Path) -> str:
    """The name of the model's kind, such as WhisperSpec.

    Raises InputError when the file is not one of CTranslate2, or of another version.
    """
    with _explained(path), open_regular(path, _LARGEST) as file:
        return _head(path, file)


def whisper_settings(path: Path) -> dict[str, Any]:
    """The encoder's sizes, under the names of transformers' `WhisperConfig`.

    Raises InputError when the file is not a whole Whisper model.
    """
    with _explained(path):
        variables = _variables(path)
        dim, num_mel_bins, _ = variables["encoder/conv1/weight"].shape
        found = {
            "d_model": dim,
            "num_mel_bins": num_mel_bins,
            "encoder_layers": _num_layers(variables),
            "encoder_attention_heads": int(_read(path, variables, "encoder/num_heads")),
            "encoder_ffn_dim": variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
            "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
        }
        if 0 in found.values():
            raise ValueError(f"a size of 0: {', '.join(name for name, size in found.items() if not size)}")
        return found


def whisper_weights(path: Path) -> "dict[str, torch.Tensor]":
    """The encoder's weights in float32, under the names of transformers' `WhisperEncoder`.

    Raises InputError when the file is not a whole Whisper model.
    """
    with _explained(path):
        variables = _variables(path)
        weights = {"embed_positions.weight": _read(path, variables, "encoder/position_encodings/encodings")}
        weights |= _modules(path, variables, _ENCODER, "", "encoder/")
        for layer in range(_num_layers(variables)):
            source, target = f"encoder/layer_{layer}", f"layers.{layer}"
            weights |= _modules(path, variables, _LAYER, f"{target}.", f"{source}/")
            for kind in ("weight", "bias"):  # one array holds queries, keys and values
                parts = _read(path, variables, f"{source}/self_attention/linear_0/{kind}").chunk(3)
                for projection, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                    weights[f"{target}.self_attn.{projection}.{kind}"] = part
            del weights[f"{target}.self_attn.k_proj.bias"]  # Whisper's keys have none; the file holds zeros
        return weights


def _modules(
    path: Path, variables: dict[str, _Variable], names: dict[str, str], target: str, source: str
) -> "dict[str, torch.Tensor]":
    """Weight and bias of modules; those of norms are called gamma and beta in the file."""
    found = {}
    for ours, theirs in names.items():
        kinds = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        for kind, name in zip(("weight", "bias"), kinds, strict=True):
            found[f"{target}{ours}.{kind}"] = _read(path, variables, f"{source}{theirs}/{name}")
    return found


def _num_layers(variables: dict[str, _Variable]) -> int:
    return len({name.split("/")[1] for name in variables if name.startswith("encoder/layer_") and name.count("/") > 2})


def _read(path: Path, variables: dict[str, _Variable], name: str) -> "torch.Tensor":
    import torch

    variable = variables[name]
    with path.open("rb") as file:
        file.seek(variable.offset)
        content = bytearray(file.read(variable.num_bytes))
    array = torch.frombuffer(content, dtype=getattr(torch, _TYPES[variable.type])).reshape(variable.shape).float()
    if f"{name}_scale" in variables:  # quantised: one scale, or one for each row
        scale = _read(path, variables, f"{name}_scale")
        array /= scale.reshape(scale.shape + (1,) * (array.ndim - scale.ndim)) if scale.ndim else scale
    return array


def _head(path: Path, file: BinaryIO) -> str:
    if (version := _number(file, "<I")) != _VERSION:
        raise InputError(f"{path}: CTranslate2 file version {version}, allowed: {_VERSION}. Convert the model again.")
    return _string(file)


def _variables(path: Path) -> dict[str, _Variable]:
    size = path.stat().st_size
    with path.open("rb") as file:
        _head(path, file)
        _number(file, "<I")  # revision of the specification
        found = {}
        for _ in range(_number(file, "<I")):
            name = _string(file)
            shape = tuple(_number(file, "<I") for _ in range(_number(file, "<B")))
            kind, num_bytes = _number(file, "<B"), _number(file, "<I")
            if num_bytes != math.prod(shape) * _ITEM_BYTES[kind]:
                raise ValueError(f"{name} has {num_bytes} bytes for the sizes {list(shape)}")
            found[name] = _Variable(shape, kind, file.tell(), num_bytes)
            if file.seek(num_bytes, 1) > size:
                raise ValueError(f"it ends within {name}")
        for _ in range(_number(file, "<I")):
            alias, name = _string(file), _string(file)
            found[alias] = found[name]
    return found


def _number(file: BinaryIO, layout: str) -> int:
    content = file.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise ValueError("it ends too early")
    return int(struct.unpack(layout, content)[0])


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "<H")).rstrip(b"\0").decode()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever a truncated or absurd file leads to, as one line that names it."""
    try:
        yield
    except (ValueError, KeyError, IndexError, RuntimeError, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else f"{error}".splitlines()[0]
        raise InputError(
            f"{path}: not a whole CTranslate2 Whisper model ({reason}). Fetch or convert the model again."
        ) from error
