"""The model's sizes, its streams of random numbers, and what its outputs do not depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset
from torch import Tensor

from whisq_core.features import Dataset
from whisq_core.model import WhisQ, count, stream
from whisq_core.model.whisq import Dropout
from whisq_core.spec import ModelSpec, RunSpec, with_settings
from whisq_core.training.clips import Clips

SMALL = with_settings(RunSpec(), {"model.feature_dim": 16})
ATTENTIONS = ("sequence", "pooled", "pooled_query", "cross", "none")


def network(settings: dict[str, object] | None = None, seed: int = 0) -> WhisQ:
    return WhisQ(with_settings(SMALL, settings or {}).model, 16, 12, seed)


def predicted(model: WhisQ, data: Dataset, clips: np.ndarray, frames: str = "all", with_frames: bool = True) -> Tensor:
    """OMQ and TA of these clips in one batch of the reference form."""
    spec = RunSpec(model=model.spec.model_copy(update={"audio_frames": frames}))
    batch = Clips(data, spec, torch.device("cpu"), with_frames).batch(torch.from_numpy(clips))
    return torch.stack([model.omq(batch.audio_pooled), model.ta(batch).ta], dim=1)


def parameters(module: torch.nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_parts_are_those_of_the_paper() -> None:
    model = WhisQ(ModelSpec(), audio_dim=512, text_dim=1024, seed=0)

    assert parameters(model.omq_head) == 147_841
    assert parameters(model.ta_head) == 278_913
    assert parameters(model.text_projection) == 524_800
    assert parameters(model.attention) == 2 * 1_050_624
    assert model.audio_projection is None
    assert parameters(model) == 3_052_802


@pytest.mark.parametrize(
    ("attention", "attended"),
    [("sequence", 2), ("pooled", 2), ("pooled_query", 2), ("cross", 1), ("none", 0)],
)
def test_counted_parameters_are_those_of_the_model(attention: str, attended: int) -> None:
    spec = ModelSpec.model_validate({"attention": attention})

    counts = count(spec, audio_dim=512, text_dim=1024, frames=1500, tokens=24)

    assert counts.trainable == 147_841 + 278_913 + 524_800 + attended * 1_050_624


def test_macs_are_counted_for_the_equations_as_written() -> None:
    dim, frames, tokens = 512, 1500, 24
    heads = 512 * 256 + 1024 * 256 + 2 * 256 * 64 + 2 * 64
    one_way = 2 * (frames + tokens) * dim * dim + 2 * frames * tokens * dim

    counted = count(ModelSpec(), 512, 1024, frames, tokens).macs

    assert counted == tokens * 1024 * dim + 2 * one_way + heads
    assert count(ModelSpec(), 768, 1024, frames, tokens).macs == counted + frames * 768 * dim
    assert count(ModelSpec(attention="none"), 512, 1024, frames, tokens).macs == tokens * 1024 * dim + heads


def test_a_module_starts_from_the_same_numbers_in_every_row() -> None:
    models = [network({"model.attention": kind}).state_dict() for kind in ATTENTIONS]

    for name, values in models[0].items():
        same = [torch.equal(values, other[name]) for other in models[1:] if name in other]
        assert all(same), name
    assert "attention.text.query_weight" in models[ATTENTIONS.index("cross")]


def test_seeds_and_modules_start_from_different_numbers() -> None:
    first, second = network(), network(seed=1)

    assert not torch.equal(first.ta_head[0].weight, second.ta_head[0].weight)
    assert not torch.equal(first.attention.of("audio").query_weight, first.attention.of("text").query_weight)


def test_building_a_model_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()

    network()

    assert torch.equal(torch.get_rng_state(), before)


def test_streams_are_their_own() -> None:
    draws = [torch.rand(3, generator=stream(*key)) for key in ((0, "a"), (0, "b"), (1, "a"), (0, "a"))]

    assert torch.equal(draws[0], draws[3])
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("feature_dim", [16, 8])
def test_a_clip_alone_is_predicted_as_in_a_batch(tmp_path: Path, attention: str, feature_dim: int) -> None:
    data = random_dataset(tmp_path)
    model = network({"model.attention": attention, "model.feature_dim": feature_dim}).eval()

    together = predicted(model, data, np.arange(len(data)), "valid")

    alone = [predicted(model, data, np.array([clip]), "valid") for clip in range(len(data))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_valid_frames_give_another_prediction_than_all_frames(tmp_path: Path) -> None:
    data = random_dataset(tmp_path)
    clips = np.flatnonzero(data.audio.num_valid < data.audio.num_frames)[:3]

    whole, valid = (predicted(network().eval(), data, clips, frames) for frames in ("all", "valid"))

    assert (whole - valid).abs().min() > 0


def test_rows_without_attention_need_no_frames(tmp_path: Path) -> None:
    data = random_dataset(tmp_path)
    for kind in ("none", "pooled"):
        model = network({"model.attention": kind}).eval()
        pooled, frames = (predicted(model, data, np.arange(4), with_frames=needed) for needed in (False, True))
        assert torch.equal(pooled, frames)


def test_omq_of_projected_audio_is_that_of_projected_frames(tmp_path: Path) -> None:
    data = random_dataset(tmp_path)
    model = network({"model.feature_dim": 8})
    batch = Clips(data, RunSpec(), torch.device("cpu"), with_frames=True).batch(torch.arange(4))
    assert batch.frames is not None
    assert model.audio_projection is not None

    frame_by_frame = model.omq_head(model.audio_projection(batch.frames.float()).mean(dim=1)).squeeze(1)

    torch.testing.assert_close(model.omq(batch.audio_pooled), frame_by_frame, rtol=1e-3, atol=1e-4)


def test_a_linear_head_is_linear_and_an_mlp_is_not() -> None:
    for kind, linear in (("linear", True), ("mlp", False)):
        head = network({"model.head": kind}).ta_head
        left, right = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
        added = head(left) + head(right) - head(torch.zeros(5, 32))
        assert torch.allclose(head(left + right), added, atol=1e-5) is linear
        assert parameters(head) == 32 * 256 + 256 + 256 * 64 + 64 + 64 + 1


def test_dropout_scales_what_it_keeps_and_has_a_stream_of_its_own() -> None:
    dropout = Dropout(0.25)
    dropout.generator = torch.Generator().manual_seed(0)
    before = torch.get_rng_state()

    dropped = dropout(torch.ones(1000, 8))

    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(4, 2)), torch.ones(4, 2))
    assert torch.equal(torch.get_rng_state(), before)
