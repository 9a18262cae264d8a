"""A file of a store that is truncated, mismatched or corrupt is named and never read."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.stores import KEY, flip, item, random_frames

from whisq_core.errors import InputError
from whisq_core.features import FeatureStore


def truncate_in_the_header(store: FeatureStore, path: Path) -> str:
    path.write_bytes(path.read_bytes()[:40])
    return "truncated: 40 bytes are less than its header"


def truncate_in_the_frames(store: FeatureStore, path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    return f"truncated: {len(content) - 2} bytes instead of {len(content)}"


def empty(store: FeatureStore, path: Path) -> str:
    path.write_bytes(b"")
    return "truncated: 0 bytes are less than its header"


def put_another_item_there(store: FeatureStore, path: Path) -> str:
    path.write_bytes(store.path(item("two")).read_bytes())
    return "mismatched: the features of another item or encoder"


def put_another_encoder_there(store: FeatureStore, path: Path) -> str:
    other = FeatureStore(store.folder.parent, replace(KEY, precision="bf16"))
    other.write(item("one"), random_frames(), valid=15)
    path.write_bytes(other.path(item("one")).read_bytes())
    return "mismatched: the features of another item or encoder"


def put_something_else_there(store: FeatureStore, path: Path) -> str:
    path.write_bytes(b"RIFF\xff\xff\xff\xff" + bytes(4000))
    return "not a feature file of this version"


def corrupt_the_header(store: FeatureStore, path: Path) -> str:
    flip(path, path.read_bytes().index(b'"frames":{"dtype":"F16"') + 2)
    return "not a feature file of this version"


def corrupt_the_number_of_valid_frames(store: FeatureStore, path: Path) -> str:
    flip(path, path.read_bytes().index(b'"num_valid":"15"') + 14)
    return "corrupt: its header and pooled vectors do not match their checksum"


def corrupt_the_pooled_vectors(store: FeatureStore, path: Path) -> str:
    flip(path, 520)
    return "corrupt: its header and pooled vectors do not match their checksum"


def announce_a_header_without_end(store: FeatureStore, path: Path) -> str:
    path.write_bytes((2**63).to_bytes(8, "little") + path.read_bytes()[8:])
    return "not a feature file of this version"


DAMAGES = (
    truncate_in_the_header,
    truncate_in_the_frames,
    empty,
    put_another_item_there,
    put_another_encoder_there,
    put_something_else_there,
    corrupt_the_header,
    corrupt_the_number_of_valid_frames,
    announce_a_header_without_end,
    corrupt_the_pooled_vectors,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_never_read(store, damage):
    path = store.path(item("one"))
    original = path.read_bytes()
    reason = damage(store, path)
    assert store.problems([item("one"), item("two")]) == {item("one"): f"{path}: {reason}"}
    assert store.missing([item("one"), item("two")]) == [item("one")]
    with pytest.raises(InputError) as raised:
        store.open([item("one"), item("four"), item("two")])
    assert raised.value.mistakes == (
        f"{path}: {reason}. Run `whisq-study encode`: it rebuilds the file.",
        f"{store.path(item('four'))}: missing. Run `whisq-study encode`.",
    )
    assert store.verify() == {item("one"): f"{path}: {reason}"}
    store.write(item("one"), random_frames(), valid=15)
    assert path.read_bytes() == original
    assert store.verify() == {}


def test_a_named_pipe_does_not_hang(store):
    path = store.path(item("one"))
    path.unlink()
    os.mkfifo(path)
    assert store.problems([item("one")]) == {item("one"): f"{path}: it is a named pipe, allowed: a file"}


def test_corrupt_frames_are_found_by_verify(store):
    path = store.path(item("two"))
    flip(path, path.stat().st_size - 1)
    assert store.missing([item("two")]) == []
    assert store.verify() == {item("two"): f"{path}: corrupt: its frames do not match their checksum"}


def test_a_header_that_contradicts_itself_is_found_by_verify(store):
    path = store.path(item("two"))
    flip(path, path.read_bytes().index(b'"F16"') + 2)
    assert store.missing([item("two")]) == []
    assert store.verify() == {item("two"): f"{path}: corrupt: its header contradicts itself"}


def test_a_file_that_is_no_item_is_found_by_verify(store):
    stranger = store.folder / "notes.safetensors"
    stranger.write_bytes(store.path(item("one")).read_bytes())
    assert store.verify() == {"notes": f"{stranger}: mismatched: the features of another item or encoder"}
