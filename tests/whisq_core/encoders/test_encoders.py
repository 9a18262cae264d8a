"""Every family of encoder, through the loading code that a hub id takes, against transformers itself."""

import numpy as np
import pytest
import torch
import transformers
from helpers.checkpoints import AUDIO_FAMILIES, TEXT_FAMILIES, WHISPER_DIM, write_checkpoint
from helpers.encoders import PROMPTS, WHISPER_MACS, audio_encoder, run, sound, text_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.encoders.encoder import Family, count

pytestmark = pytest.mark.usefixtures("one_thread")


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
    [encoded] = run(encoder, [wave])
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
    for prompt, encoded in zip(PROMPTS, run(encoder, PROMPTS), strict=True):
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
    [encoded] = run(hearing("wav2vec2"), [sound(samples / 16_000)])
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
        features.append(run(encoder, [other])[0])
    np.testing.assert_array_equal(features[0].frames, features[1].frames)
    np.testing.assert_array_equal(features[0].pooled, features[0].frames[0])
    assert features[0].frames.shape == (1, encoder.family.dim)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_bf16_stays_near_float32(tmp_path, family):
    """64 wide, as real models are in multiples: on CPUs with AMX units PyTorch miscomputes other sizes."""
    checkpoint = resolve(str(write_checkpoint(tmp_path / "wide", family, dim=64)), tmp_path)
    encoders = (audio_encoder(checkpoint, precision) for precision in ("float32", "bf16"))
    exact, rounded = (run(encoder, [sound(0.5)])[0].frames.mean(axis=0) for encoder in encoders)
    assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 1e-2


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "clap", "qwen3", "modernbert"])
def test_untrained_encoders_neither_read_nor_disturb_the_global_stream(tmp_path, family):
    kind = audio_encoder if family in AUDIO_FAMILIES else text_encoder
    item = sound(1, 48_000) if family in AUDIO_FAMILIES else PROMPTS[0]
    before = torch.get_rng_state()
    first_encoder = kind(resolve(f"untrained:{family}", tmp_path), "float32")
    assert torch.get_rng_state().equal(before)
    first = run(first_encoder, [item])[0].frames
    torch.manual_seed(3)
    second = run(kind(resolve(f"untrained:{family}", tmp_path), "float32"), [item])[0].frames
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    assert first.std() > 0


def test_untrained_prompts_differ(tmp_path):
    encoder = text_encoder(resolve("untrained:qwen3", tmp_path), "float32")
    assert [encoded.valid for encoded in run(encoder, PROMPTS)] == [6, 3, 13]
    assert encoder.prepare("A Piano!").array.tolist() == encoder.prepare("a piano !").array.tolist()
    assert encoder.prepare("a piano").array.tolist() != encoder.prepare("a flute").array.tolist()


# Parameters: the encoders' own model cards and the paper's table.
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


def test_whisper_without_a_preprocessor_uses_the_mel_bands_of_its_configuration(made, tmp_path):
    sizes = {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_layers": 1}
    config = transformers.WhisperConfig(
        d_model=WHISPER_DIM, num_mel_bins=128, decoder_attention_heads=4, decoder_ffn_dim=32, **sizes
    )
    transformers.WhisperModel(config).save_pretrained(tmp_path / "large")
    encoder = audio_encoder(resolve(str(tmp_path / "large"), tmp_path), "float32")
    assert encoder.prepare(sound(1)).array.shape == (128, 3000)
