"""Padded batches, and preparing the next one while the last is at work."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset, write_table

from whisq_core.features.store import Dataset
from whisq_core.model.batches import Loader, one_ahead

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return random_dataset(tmp_path)


def test_a_batch_holds_the_stored_frames_and_says_which_count(data: Dataset) -> None:
    clips = np.array([5, 0, 7])

    batch = Loader(data, "valid", CPU).batch(clips, with_sequences=True)

    assert len(batch) == 3
    assert batch.audio is not None
    assert batch.text is not None
    for position, clip in enumerate(clips):
        prompt = int(data.prompt_of[clip])
        for sequences, table, row in ((batch.audio, data.audio, int(clip)), (batch.text, data.text, prompt)):
            count = int(table.num_valid[row])
            assert int(sequences.mask[position].sum()) == count
            assert sequences.mask[position, :count].all()
            assert torch.equal(sequences.frames[position, :count], table.frames(row)[:count].float())
            assert not sequences.frames[position, count:].any()
    assert torch.equal(batch.audio_pooled, data.audio.pooled("valid")[clips])
    assert torch.equal(batch.text_pooled, data.text.pooled("valid")[data.prompt_of[clips]])


def test_all_frames_count_where_the_paper_counts_them(data: Dataset) -> None:
    batch = Loader(data, "all", CPU).batch(np.arange(4), with_sequences=True)

    assert batch.audio is not None
    assert batch.audio.mask.all()
    assert torch.equal(batch.audio_pooled, data.audio.pooled("all")[:4])


def test_without_sequences_no_file_is_touched(data: Dataset) -> None:
    for path in data.audio.folder.glob("*.safetensors"):
        path.unlink()

    batch = Loader(data, "all", CPU).batch(np.arange(4), with_sequences=False)

    assert (batch.audio, batch.text) == (None, None)
    assert torch.isfinite(batch.audio_pooled).all()


def test_batches_come_in_the_order_of_the_pieces(data: Dataset) -> None:
    pieces = [np.array([3, 1]), np.array([0]), np.array([2, 4, 5])]

    batches = list(Loader(data, "all", CPU).batches(pieces, with_sequences=True))

    assert [len(batch) for batch in batches] == [2, 1, 3]
    assert torch.equal(batches[1].audio_pooled, data.audio.pooled("all")[:1])


def test_one_is_prepared_ahead_and_not_more() -> None:
    begun: list[int] = []
    third = threading.Event()

    def prepare(item: int) -> int:
        begun.append(item)
        if item == 2:
            third.set()
        return 10 * item

    prepared = one_ahead(prepare, range(5))

    assert next(prepared) == 0
    assert next(prepared) == 10
    assert third.wait(timeout=30), "the third is prepared while the second is at work"
    assert begun == [0, 1, 2]
    assert list(prepared) == [20, 30, 40]
    assert list(one_ahead(prepare, [])) == []


def test_a_failure_ahead_reaches_the_one_who_waits() -> None:
    prepared = one_ahead(lambda item: 1 // item, [1, 0])

    assert next(prepared) == 1
    with pytest.raises(ZeroDivisionError):
        next(prepared)


def test_features_of_one_frame_are_a_sequence_too(tmp_path: Path) -> None:
    table = write_table(tmp_path, "audio", [np.ones((1, 4), dtype=np.float32)] * 2)
    text = write_table(tmp_path, "text", [np.ones((1, 3), dtype=np.float32)])
    nothing = np.full(2, np.nan)
    data = Dataset(("a", "b"), ("S", "S"), table, text, np.zeros(2, dtype=np.int64), nothing, nothing)

    batch = Loader(data, "all", CPU).batch(np.arange(2), with_sequences=True)

    assert batch.audio is not None
    assert batch.audio.frames.shape == (2, 1, 4)
