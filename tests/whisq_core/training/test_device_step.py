"""The step as a GPU takes it, on devices that every machine has: on the CPU, and on PyTorch's device without numbers.

A tensor on `meta` has a shape and no numbers: whoever asks for one gets an error, and so does who mixes devices.
"""

from contextlib import nullcontext
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset
from helpers.kernels import using

from whisq_core.features import Dataset, on_device
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import clips, fit
from whisq_core.training.replay import Replay
from whisq_core.training.step import Trainer

SMALL = with_settings(
    RunSpec(),
    {
        "model.feature_dim": 16,
        "train.epochs": 3,
        "train.batch_size": 5,
        "train.learning_rate": 0.05,
        "train.device": "cpu",
        "train.precision": "float32",
        "loss.ot_weight": 0.01,
    },
)
RUNS = (
    {},
    {"train.precision": "float16"},
    {"loss.ot_weight": 0.0},
    {"model.attention": "cross"},
    {"model.attention": "pooled_query", "model.pool": "max"},
    {"model.attention": "none", "loss.ot_weight": 0.0},
    {"model.layer_norm": True},
    {"loss.p": 1, "train.clip_scope": "global"},
    {"model.audio_frames": "valid", "train.optimizer": "adam"},
    {"model.feature_dim": 8},
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Seven clips, so that batches of five leave a last one of two."""
    return random_dataset(tmp_path_factory.mktemp("features"), num_clips=7)


@pytest.fixture
def numberless(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` as a run's device: PyTorch has no autocast there."""
    monkeypatch.setitem(clips.MICRO_BATCH, "meta", 4)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)


def on_meta(settings: dict[str, object]) -> RunSpec:
    """Adam, since the fused SGD has no form without numbers."""
    spec = with_settings(SMALL, {"train.optimizer": "adamw", **settings})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"device": "meta"})})


@pytest.mark.usefixtures("numberless")
@pytest.mark.parametrize(
    ("settings", "room"), [*((settings, 512 * 2**20) for settings in RUNS), ({}, 0)], ids=lambda value: str(value)[:40]
)
def test_an_epoch_asks_the_device_nothing(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], room: int
) -> None:
    monkeypatch.setattr(on_device, "_KEPT_BYTES", room)
    trainer = Trainer(on_meta(settings), data)

    trainer.steps()

    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        trainer.epoch(2)  # only here, at its end, numbers are asked for


def weights(spec: RunSpec, data: Dataset) -> dict[str, bytes]:
    with using("pytorch"):
        network = fit(spec, data).model.network
    return {name: values.numpy().tobytes() for name, values in network.state_dict().items()}


def test_streamed_features_train_the_same_bits_as_kept_ones(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = with_settings(SMALL, {"model.audio_frames": "valid"})
    kept = weights(spec, data)
    on_device._kept.clear()
    monkeypatch.setattr(on_device, "_KEPT_BYTES", 0)

    assert weights(spec, data) == kept
    assert on_device._kept == {}


def test_features_stay_for_the_next_training_until_others_need_the_room(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_device._kept.clear()
    counts, device = data.audio.num_frames, torch.device("cpu")
    size = 2 * len(data) * int(counts.max()) * data.audio.dim
    monkeypatch.setattr(on_device, "_KEPT_BYTES", size + 1)

    first, again = (on_device.frames_on(device, data.audio, counts, 5) for _ in range(2))
    assert first.frames is again.frames
    other = random_dataset(tmp_path).audio
    on_device.frames_on(device, other, counts, 5)
    assert on_device.frames_on(device, data.audio, counts, 5).frames is not first.frames


def test_every_shape_of_a_batch_has_one_array_that_its_steps_read(data: Dataset) -> None:
    """A graph would read from these addresses again and again."""
    seen: dict[tuple[int, bool], set[int]] = {}

    def step(given: torch.Tensor, flag: bool) -> None:
        seen.setdefault((len(given), flag), set()).add(given.data_ptr())
        assert given.tolist() == wanted

    replay = Replay(step, captures=False, generators=list)
    for wanted, flag in (([3, 1, 2], True), ([5, 6, 7], False), ([8, 9], False), ([0, 4, 1], False)):
        replay(torch.tensor(wanted), flag)

    assert {shape: len(places) for shape, places in seen.items()} == {(3, True): 1, (3, False): 1, (2, False): 1}


def test_dropout_follows_the_model_to_its_device(data: Dataset) -> None:
    spec = with_settings(SMALL, {"model.dropout": 0.5})
    with using("pytorch"):
        trainer = Trainer(spec, data)
        trainer.steps()

    generators = trainer._streams()
    assert len(generators) == 4
    assert len({generator.initial_seed() for generator in generators}) == 4


def test_predictions_of_streamed_features_are_those_of_kept_ones(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisq_core.training import predict

    with using("pytorch"):
        model = fit(SMALL, data).model
        kept = predict(model, data)
        on_device._kept.clear()
        monkeypatch.setattr(on_device, "_KEPT_BYTES", 0)
        np.testing.assert_array_equal(predict(model, data), kept)


@pytest.mark.parametrize(("blur", "questions"), [(0.02, False), (1.0, True)])
def test_frames_supposed_apart_train_the_same_bits_as_those_that_are_looked_at(
    data: Dataset, blur: float, questions: bool
) -> None:
    """At the smaller blur no frame reaches another; at the larger one the epoch is gone through again."""
    spec = with_settings(SMALL, {"model.feature_dim": 8, "loss.blur": blur, "model.dropout": 0.2,
                                 "train.optimizer": "adam", "train.precision": "float16"})  # fmt: skip
    with using("pytorch"):
        asking, supposing = Trainer(spec, data), Trainer(spec, data)
        supposing.suppose_frames_apart()
        for epoch in (1, 2):
            one, other = asking.epoch(epoch), supposing.epoch(epoch)
            # Norms are not finite in steps that float16 skips.
            np.testing.assert_equal(astuple(replace(one, seconds=0.0)), astuple(replace(other, seconds=0.0)))

    assert (supposing._clips.near is None) is questions
    for name, values in asking.model.state_dict().items():
        assert torch.equal(values, supposing.model.state_dict()[name]), name
