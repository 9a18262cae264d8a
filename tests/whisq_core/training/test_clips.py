"""Padded batches for the reference form: what they hold, and where the features lie."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset, write_table

from whisq_core.features import Dataset, on_device
from whisq_core.spec import ModelSpec, RunSpec
from whisq_core.training.clips import Clips

CPU = torch.device("cpu")
VALID = RunSpec(model=ModelSpec(audio_frames="valid"))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return random_dataset(tmp_path)


def test_a_batch_holds_the_stored_frames_and_says_which_are_valid(data: Dataset) -> None:
    clips = torch.tensor([5, 0, 7])

    batch = Clips(data, VALID, CPU, with_frames=True).batch(clips)

    assert batch.frames is not None
    assert batch.tokens is not None
    for place, clip in enumerate(clips.tolist()):
        prompt = int(data.prompt_of[clip])
        for values, mask, table, row in (
            (batch.frames, batch.frame_mask, data.audio, clip),
            (batch.tokens, batch.token_mask, data.text, prompt),
        ):
            assert mask is not None
            count = int(table.num_valid[row])
            assert int(mask[place].sum()) == count
            assert mask[place, :count].all()
            assert torch.equal(values[place, :count], table.frames(row)[:count])
            assert not values[place, count:].any()
    assert torch.equal(batch.audio_pooled, data.audio.pooled("valid")[clips])
    assert torch.equal(batch.text_pooled, data.text.pooled("valid")[data.prompt_of[clips]])


def test_every_batch_has_the_same_shape(data: Dataset) -> None:
    clips = Clips(data, VALID, CPU, with_frames=True)

    shapes = {(batch.frames.shape, batch.tokens.shape) for batch in map(clips.batch, torch.arange(12).split(3))}  # type: ignore[union-attr]

    assert shapes == {((3, int(data.audio.num_valid.max()), 16), (3, 8, 12))}, "tokens are padded to a multiple of 8"


def test_all_frames_are_valid_where_the_paper_takes_them(data: Dataset) -> None:
    batch = Clips(data, RunSpec(), CPU, with_frames=True).batch(torch.arange(4))

    assert batch.frame_mask is not None
    assert batch.frame_mask.all()
    assert torch.equal(batch.audio_pooled, data.audio.pooled("all")[:4])


def test_without_frames_no_file_is_touched(data: Dataset) -> None:
    for path in data.audio.folder.glob("*.features"):
        path.unlink()

    batch = Clips(data, RunSpec(), CPU, with_frames=False).batch(torch.arange(4))

    assert (batch.frames, batch.tokens) == (None, None)
    assert torch.isfinite(batch.audio_pooled).all()


def test_frames_that_do_not_fit_are_read_batch_by_batch(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Clips(data, VALID, CPU, with_frames=True)
    on_device._kept.clear()
    monkeypatch.setattr(on_device, "_KEPT_BYTES", 100)
    streamed = Clips(data, VALID, CPU, with_frames=True)

    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for clips, same in zip(kept.batches(order, 5), streamed.batches(order, 5), strict=True):
        assert torch.equal(clips, same)
        one, other = kept.batch(clips), streamed.batch(same)
        for name in ("frames", "frame_mask", "tokens", "token_mask"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_features_of_one_frame_are_a_sequence_too(tmp_path: Path) -> None:
    table = write_table(tmp_path, "audio", [np.ones((1, 4), dtype=np.float32)] * 2)
    text = write_table(tmp_path, "text", [np.ones((1, 3), dtype=np.float32)])
    nothing = np.full(2, np.nan)
    data = Dataset(table, text, np.zeros(2, dtype=np.int64), nothing, nothing)

    batch = Clips(data, RunSpec(), CPU, with_frames=True).batch(torch.arange(2))

    assert batch.frames is not None
    assert batch.frames.shape == (2, 1, 4)
