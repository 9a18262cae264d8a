"""Encoding what is missing: once ever, whatever kills it, however many fill the store."""

import hashlib
import multiprocessing
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.checkpoints import CLAP_DIM, MODERNBERT_DIM, QWEN3_DIM, WAV2VEC2_DIM, WHISPER_DIM
from helpers.encoders import opened
from safetensors.torch import load_file, save_file

from whisq_core.encoders import Progress, encode, missing, open_dataset, resolve_backbone
from whisq_core.errors import InputError
from whisq_core.features import FeatureStore
from whisq_core.spec import BackboneSpec

SPAWNED = multiprocessing.get_context("forkserver")
SPAWNED.set_forkserver_preload(  # each child starts from a clean process that has imported these
    [
        "transformers.models.whisper.modeling_whisper",
        "transformers.models.qwen3.modeling_qwen3",
        "torch.utils.flop_counter",
        "transformers.models.auto.tokenization_auto",
        "scipy.signal",
        "pytest",
        "whisq_core.encoders.encoder",
        "whisq_core.encoders.audio",
        "whisq_core.encoders.text",
    ]
)


def contents(root: Path) -> dict[str, bytes]:
    """Every finished file of the stores under `root`."""
    files = [
        path for path in root.glob("*/*") if path.suffix in (".safetensors", ".json") and path.parent.name != "cache"
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_second_call_encodes_nothing(data, spec, undisturbed):
    arguments = opened(data, spec, undisturbed)
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*.safetensors")}
    encode(*arguments)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*.safetensors")} == before
    assert missing(*arguments) == (0, 0)


def test_features_do_not_depend_on_the_number_of_workers(data, spec, undisturbed, tmp_path):
    encode(*opened(data, spec, tmp_path), workers=3)
    assert contents(tmp_path) == contents(undisturbed)


def test_progress_counts_to_the_end_and_torch_is_left_as_it_was(data, spec, tmp_path):
    seen: list[Progress] = []
    threads, stream = torch.get_num_threads(), torch.get_rng_state()
    arguments = opened(data, spec, tmp_path)
    clips, prompts = missing(*arguments)
    encode(*arguments, workers=2, progress=seen.append)
    assert [(each.kind, each.done) for each in seen] == [
        *(("text", done + 1) for done in range(prompts)),
        *(("audio", done + 1) for done in range(clips)),
    ]
    assert all(each.rate > 0 for each in seen)
    assert torch.get_num_threads() == threads
    assert torch.get_rng_state().equal(stream)


def test_a_dataset_has_the_features_and_labels_of_its_clips(data, spec, undisturbed):
    corpus, digests, backbone, root = opened(data, spec, undisturbed)
    chosen = np.array([17, 2, 9, 3])
    dataset = open_dataset(corpus, digests, backbone, root, chosen)
    clips = corpus.clips.iloc[chosen]
    np.testing.assert_array_equal(dataset.omq, clips["omq"])
    np.testing.assert_array_equal(dataset.ta, clips["ta"])
    assert (dataset.audio.dim, dataset.text.dim) == (WHISPER_DIM, QWEN3_DIM)
    assert [dataset.audio.keys[row] for row in range(4)] == [
        hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in clips["audio"]
    ]
    for row, prompt in enumerate(clips["prompt"]):
        assert dataset.text.keys[dataset.prompt_of[row]] == hashlib.sha256(prompt.encode()).hexdigest()
    for row, path in enumerate(clips["audio"]):
        assert dataset.audio.num_valid[row] == min(100, -(-soundfile.info(path).frames // 320))


def test_a_store_describes_its_encoder(data, spec, undisturbed):
    _, _, backbone, root = opened(data, spec, undisturbed)
    meta = FeatureStore(root, backbone.audio_key).meta
    assert (meta.name, meta.dim, meta.frame_rate, meta.untrained) == (spec.audio, WHISPER_DIM, 50.0, False)
    assert meta.num_parameters > 0
    assert meta.macs > 0
    assert not backbone.untrained


@pytest.mark.parametrize(
    ("audio", "text", "dims"),
    [("wav2vec2", "modernbert", (WAV2VEC2_DIM, MODERNBERT_DIM)), ("clap", "clap", (CLAP_DIM, CLAP_DIM))],
)
def test_every_family_fills_a_store(data, folders, tmp_path, audio, text, dims):
    spec = BackboneSpec(audio=str(folders[audio]), text=str(folders[text]))
    arguments = opened(data, spec, tmp_path)
    encode(*arguments)
    dataset = open_dataset(*arguments, np.arange(20))
    assert (dataset.audio.dim, dataset.text.dim) == dims
    assert (dataset.audio.num_frames == dataset.audio.num_valid).all()
    if audio == "clap":
        assert set(dataset.audio.num_frames) == {1}
        assert dataset.audio.pooled("all").norm(dim=1).allclose(torch.ones(20))


def test_precision_has_stores_of_its_own(data, spec, tmp_path):
    keys = [
        opened(data, spec.model_copy(update={"precision": precision}), tmp_path)[2] for precision in ("float32", "bf16")
    ]
    assert keys[0].audio_key.digest != keys[1].audio_key.digest
    assert keys[0].digest != keys[1].digest


def test_a_lost_description_is_written_anew_and_nothing_is_encoded_twice(data, spec, undisturbed, tmp_path):
    root = Path(shutil.copytree(undisturbed, tmp_path / "features"))
    arguments = opened(data, spec, root)
    (FeatureStore(root, arguments[2].audio_key).folder / "store.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in root.glob("*/*.safetensors")}
    encode(*arguments)
    assert contents(root) == contents(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in root.glob("*/*.safetensors")} == before


def test_a_complete_store_that_may_not_be_written_serves(data, spec, undisturbed, tmp_path):
    root = Path(shutil.copytree(undisturbed, tmp_path / "features"))
    shutil.rmtree(root / "cache")
    (root / "cache").write_text("where nothing can be remembered")
    arguments = opened(data, spec, root)
    for folder in root.glob("*-*"):
        folder.chmod(0o555)
    assert missing(*arguments) == (0, 0)
    encode(*arguments)
    assert len(open_dataset(*arguments, np.arange(20))) == 20


def test_bf16_fills_a_store_where_it_is_near_float32(data, spec, undisturbed, tmp_path):
    arguments = opened(data, spec.model_copy(update={"precision": "bf16"}), tmp_path)
    encode(*arguments)
    rounded = open_dataset(*arguments, np.arange(20)).audio.pooled("all")
    exact = open_dataset(*opened(data, spec, undisturbed), np.arange(20)).audio.pooled("all")
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.01


def test_bf16_is_refused_where_it_is_far_from_float32(data, spec, folders, tmp_path):
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "steep"))
    weights = load_file(folder / "model.safetensors")
    steep = {name: 40 * tensor if "attention.self" in name else tensor for name, tensor in weights.items()}
    save_file(steep, folder / "model.safetensors", {"format": "pt"})
    arguments = opened(data, BackboneSpec(audio=spec.audio, text=str(folder), precision="bf16"), tmp_path)
    with pytest.raises(InputError) as raised:
        encode(*arguments)
    text = str(raised.value)
    assert text.startswith(f"checkpoint '{folder}' in bf16: the features of prompt ")
    assert "% from those in float32, allowed: 5 %. Set backbone.precision to float32" in text
    assert not list(tmp_path.glob("text-*"))


def test_missing_features_name_the_command(data, spec, tmp_path):
    corpus, digests, backbone, root = opened(data, spec, tmp_path)
    with pytest.raises(InputError) as raised:
        open_dataset(corpus, digests, backbone, root, np.array([4, 5]))
    audio, text = (FeatureStore(root, key) for key in (backbone.audio_key, backbone.text_key))
    prompts = dict.fromkeys(corpus.clips["prompt"].iloc[[4, 5]])
    first = hashlib.sha256(next(iter(prompts)).encode()).hexdigest()
    assert raised.value.mistakes == (
        f"audio features of {spec.audio}: 2 of 2 are not in {audio.folder}, the first is {audio.path(digests[4])}: "
        "missing. Run `whisq-study encode`.",
        f"text features of {spec.text}: {len(prompts)} of {len(prompts)} are not in {text.folder}, the first is "
        f"{text.path(first)}: missing. Run `whisq-study encode`.",
    )


def test_truncated_mismatched_and_corrupt_files_are_named_and_rebuilt(data, spec, undisturbed, tmp_path):
    root = Path(shutil.copytree(undisturbed, tmp_path / "features"))
    arguments = opened(data, spec, root)
    audio = FeatureStore(root, arguments[2].audio_key)
    truncated, mismatched, corrupt = (audio.path(key) for key in arguments[1][:3])
    truncated.write_bytes(truncated.read_bytes()[:-10])
    mismatched.write_bytes(audio.path(arguments[1][5]).read_bytes())
    content = bytearray(corrupt.read_bytes())
    content[600] ^= 255
    corrupt.write_bytes(content)
    assert missing(*arguments) == (3, 0)
    assert list(audio.problems(arguments[1]).values()) == [
        f"{truncated}: truncated: {len(content) - 10} bytes instead of {len(content)}",
        f"{mismatched}: mismatched: the features of another item or encoder",
        f"{corrupt}: corrupt: its header and pooled vectors do not match their checksum",
    ]
    encode(*arguments)
    assert contents(root) == contents(undisturbed)


def test_a_file_that_changes_meanwhile_is_not_stored_under_its_old_name(data, spec, tmp_path):
    own = Path(shutil.copytree(data, tmp_path / "data"))
    corpus, digests, backbone, root = opened(own, spec, tmp_path)
    changed = Path(corpus.clips["audio"].iloc[3])
    soundfile.write(changed, np.zeros(16_000), 16_000)
    with pytest.raises(InputError) as raised:
        encode(corpus, digests, backbone, root)
    utterance = corpus.clips["utterance"].iloc[3]
    assert str(raised.value) == f"{utterance}: {changed}: changed since the corpus was read. Run the command again."
    assert missing(corpus, digests, backbone, root) == (1, 0)


def test_both_encoders_mistakes_are_reported_at_once(tmp_path):
    with pytest.raises(InputError) as raised:
        resolve_backbone(BackboneSpec(audio="untrained:qwen3", text="untrained:bert"), tmp_path)
    assert raised.value.mistakes == (
        "backbone.audio: checkpoint 'untrained:qwen3' is a 'qwen3'. Allowed: whisper, wav2vec2, clap.",
        "checkpoint 'untrained:bert': unknown architecture 'bert'. Allowed: clap, modernbert, qwen3, wav2vec2, "
        "whisper.",
    )


def fill(data: Path, spec: BackboneSpec, root: Path, workers: int) -> None:
    """What a process of its own does."""
    encode(*opened(data, spec, root), workers=workers)


def start(data: Path, spec: BackboneSpec, root: Path, workers: int):
    process = SPAWNED.Process(target=fill, args=(data, spec, root, workers))
    process.start()
    return process


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_it_goes_on_where_it_was(data, spec, undisturbed, tmp_path, seed):
    generator = random.Random(seed)
    for kill_after in sorted(generator.sample(range(25), 2)):
        process = start(data, spec, tmp_path, workers=2)
        while process.is_alive() and len(list(tmp_path.glob("*/*.safetensors"))) < kill_after:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.03))
        process.kill()
        process.join()
    arguments = opened(data, spec, tmp_path)
    stores = [FeatureStore(tmp_path, key) for key in (arguments[2].audio_key, arguments[2].text_key)]
    assert [problem for store in stores for problem in store.verify().values()] == []
    encode(*arguments, workers=2)
    assert contents(tmp_path) == contents(undisturbed)


def test_two_processes_fill_one_store(data, spec, undisturbed, tmp_path):
    processes = [start(data, spec, tmp_path, workers=1) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(tmp_path) == contents(undisturbed)
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_device_that_is_not_there_is_named(data, spec, tmp_path):
    if torch.backends.mps.is_available():
        pytest.skip("its device is there")
    with pytest.raises(InputError, match="--device: mps, but PyTorch finds no Apple GPU here"):
        encode(*opened(data, spec, tmp_path), device="mps")
