"""What is wrong with a checkpoint's folder is one line that names it, whatever transformers says."""

import json
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from helpers.encoders import PROMPTS, audio_encoder, failure, run, text_encoder
from safetensors.torch import load_file, save_file

from whisq_core.checkpoints import resolve
from whisq_core.encoders.families import preprocessing
from whisq_core.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert len(run(text_encoder(resolve(str(folder), tmp_path), "float32"), PROMPTS)) == 3
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
