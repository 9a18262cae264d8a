"""The feature store: what is written is read back, and nothing else is ever read."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset, write_table
from helpers.stores import KEY, META, item, random_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core.errors import InputError
from whisq_core.features import FeatureStore
from whisq_core.features import table as feature_table


@settings(deadline=None, max_examples=25)
@given(num_frames=st.integers(1, 70), dim=st.sampled_from([1, 3, 16, 384, 2500]), seed=st.integers(0, 9))
def test_what_was_written_is_read_back(tmp_path_factory, num_frames, dim, seed):
    frames = random_frames(num_frames, dim, seed)
    valid = 1 + seed * (num_frames - 1) // 9
    store = FeatureStore(tmp_path_factory.mktemp("store"), KEY)
    store.write(item("clip"), frames, valid)
    table = store.open([item("clip")])
    assert (len(table), table.dim, table.num_frames[0], table.num_valid[0]) == (1, dim, num_frames, valid)
    np.testing.assert_array_equal(table.frames(0).numpy(), frames.astype(np.float16))
    torch.testing.assert_close(table.pooled("all")[0], torch.from_numpy(frames.mean(0)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(table.pooled("valid")[0], torch.from_numpy(frames[:valid].mean(0)), atol=1e-6, rtol=1e-5)


def test_an_encoder_that_pools_decides_its_pooled_vector(tmp_path):
    vector = random_frames(1, 8)
    table = write_table(tmp_path, "audio", [random_frames()], valid=[4], pooled=[vector[0]])
    assert table.pooled("all").equal(torch.from_numpy(vector))
    assert table.pooled("valid").equal(torch.from_numpy(vector))


def test_frames_are_aligned_maps_that_never_write_back(store):
    table = store.open([item("one")])
    frames = table.frames(0)
    assert frames.dtype == torch.float16
    assert frames.data_ptr() % 64 == 0
    before = store.path(item("one")).read_bytes()
    frames.zero_()
    assert store.path(item("one")).read_bytes() == before


def test_maps_beyond_the_limit_are_made_anew(store, monkeypatch):
    kept = store.open([item("one"), item("two")])
    assert kept.frames(1) is kept.frames(1)
    monkeypatch.setattr(feature_table, "_KEPT_MAP_BYTES", 0)
    fresh = store.open([item("one"), item("two")])
    assert fresh.frames(1) is not fresh.frames(1)
    assert fresh.frames(1).equal(kept.frames(1))


def test_maps_hold_no_file_descriptors(tmp_path):
    table = write_table(tmp_path, "audio", [random_frames(seed=number) for number in range(30)])
    before = len(os.listdir("/proc/self/fd"))
    assert all(table.frames(row).isfinite().all() for row in range(30))
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_missing_items_are_listed_once_and_in_order(store):
    assert store.missing([item("six"), item("one"), item("five"), item("six")]) == [item("six"), item("five")]


def test_items_are_safetensors_files_for_any_reader(store):
    from safetensors import safe_open

    table = store.open([item("one")])
    with safe_open(store.path(item("one")), framework="pt") as file:
        assert file.get_tensor("frames").equal(table.frames(0))
        assert file.get_tensor("pooled").equal(torch.from_numpy(table.pooled_vectors[:, 0]))
        assert file.metadata()["item"] == item("one")
        assert file.metadata()["num_valid"] == "15"


def test_features_that_half_precision_cannot_hold_are_refused(store):
    frames = random_frames()
    frames[3, 2] = 1e5
    with pytest.raises(InputError) as raised:
        store.write(item("loud"), frames, valid=20)
    assert str(raised.value) == (
        f"item {item('loud')}: its features are not finite in half precision (largest magnitude 1e+05, "
        "allowed 65504). Use another checkpoint."
    )
    assert store.missing([item("loud")]) == [item("loud")]


def test_a_store_describes_its_encoder(store):
    assert store.meta is None
    store.describe(META)
    written = (store.folder / "store.json").stat().st_mtime_ns
    store.describe(META)
    assert store.meta == META
    assert (store.folder / "store.json").stat().st_mtime_ns == written


def test_the_description_of_another_encoder_is_refused(store):
    other = FeatureStore(store.folder.parent, replace(KEY, preprocessing="mono 48 kHz"))
    other.describe(replace(META, name="laion/larger_clap_music"))
    path = store.folder / "store.json"
    path.write_bytes((other.folder / "store.json").read_bytes())
    with pytest.raises(InputError) as raised:
        store.describe(META)
    assert str(raised.value) == (
        f"{path}: describes the features of another encoder (laion/larger_clap_music). "
        f"Use another folder for features, or delete {store.folder} and run `whisq-study encode`."
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": 1', "\x00\x01"])
def test_an_unreadable_description_is_named(store, text):
    path = store.folder / "store.json"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        store.meta  # noqa: B018
    assert str(raised.value) == (
        f"{path}: not the description of a feature store. Delete this file and run `whisq-study encode`: "
        "it is written anew, and nothing is encoded twice."
    )


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    store = FeatureStore(tmp_path / "taken", KEY)
    with pytest.raises(InputError) as raised:
        store.write(item("one"), random_frames(), valid=1)
    assert str(raised.value) == (
        f"{store.path(item('one'))}: cannot be written (Not a directory). Give another folder or free space."
    )


def test_only_abandoned_temporary_files_are_swept(store):
    young, old = (store.folder / f"a.elsewhere.whisq-{number:032x}.tmp" for number in (1, 2))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.sweep()
    assert young.exists()
    assert not old.exists()


def test_a_vanished_file_is_named(store):
    table = store.open([item("one")])
    store.path(item("one")).unlink()
    with pytest.raises(InputError) as raised:
        table.frames(0)
    assert str(raised.value) == f"{store.path(item('one'))}: cannot be mapped any more. Run `whisq-study encode`."


def test_stores_of_different_keys_are_different_folders(tmp_path):
    keys = [
        KEY,
        replace(KEY, kind="text"),
        replace(KEY, checkpoint_digest="other"),
        replace(KEY, preprocessing="other"),
        replace(KEY, precision="bf16"),
    ]
    assert len({FeatureStore(tmp_path, key).folder for key in keys}) == len(keys)


def test_a_selection_of_clips_keeps_its_features_labels_and_only_its_prompts(tmp_path):
    dataset = random_dataset(tmp_path, num_clips=12, num_prompts=5)
    chosen = np.array([11, 0, 3, 5])
    selected = dataset.select(chosen)
    assert len(selected) == 4
    assert len(selected.text) == len(set(dataset.prompt_of[chosen]))
    for row, clip in enumerate(chosen):
        assert selected.audio.frames(row).equal(dataset.audio.frames(clip))
        assert selected.text.frames(selected.prompt_of[row]).equal(dataset.text.frames(dataset.prompt_of[clip]))
        assert (selected.omq[row], selected.ta[row]) == (dataset.omq[clip], dataset.ta[clip])
    for frames in ("all", "valid"):
        assert selected.audio.pooled(frames).equal(dataset.audio.pooled(frames)[chosen])


def test_planning_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, whisq_core.encoders; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
