"""Fit and predict: what a run records, what it depends on, and what it must not depend on."""

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import random_dataset

from whisq_core.features import Dataset
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import Diverged, EpochRecord, FitResult, fit, load, predict, save

SMALL = with_settings(
    RunSpec(),
    {
        "model.feature_dim": 16,
        "train.epochs": 4,
        "train.batch_size": 5,
        "train.learning_rate": 0.05,
        "train.device": "cpu",
        "train.precision": "float32",
        "loss.ot_weight": 0.01,
    },
)
TA_SIDE = (
    {},
    {"loss.ot_weight": 0.0},
    {"model.attention": "pooled"},
    {"model.attention": "pooled_query"},
    {"model.attention": "cross"},
    {"model.attention": "none", "loss.ot_weight": 0.0},
    {"model.layer_norm": True},
    {"model.pool": "max"},
    {"loss.p": 1},
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve clips, so that batches of five leave a last one of two."""
    return random_dataset(tmp_path_factory.mktemp("features"))


def losses(result: FitResult) -> list[float]:
    return [record.loss for record in result.curve]


def weights(result: FitResult) -> dict[str, bytes]:
    return {name: values.numpy().tobytes() for name, values in result.model.network.state_dict().items()}


def test_training_learns(data: Dataset) -> None:
    result = fit(with_settings(SMALL, {"train.epochs": 30}), data)

    predicted = predict(result.model, data)
    assert losses(result)[-1] < losses(result)[0] / 2
    for column, truth in ((0, data.omq), (1, data.ta)):
        assert np.mean((predicted[:, column] - truth) ** 2) < np.var(truth)


def test_the_same_run_gives_the_same_bits(data: Dataset) -> None:
    first, second = fit(SMALL, data), fit(SMALL, data)

    assert weights(first) == weights(second)
    assert losses(first) == losses(second)
    assert weights(first) != weights(fit(with_settings(SMALL, {"seed": 1}), data))


def _predict_in_a_process(folder: Path, seed: int, queue: "multiprocessing.Queue[bytes]") -> None:
    data = random_dataset(folder)
    queue.put(predict(fit(with_settings(SMALL, {"seed": seed}), data).model, data).tobytes())


def test_other_processes_change_no_bit(data: Dataset, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue() for _ in range(2)]
    processes = [
        context.Process(target=_predict_in_a_process, args=(tmp_path / str(seed), seed, queue))
        for seed, queue in enumerate(queues)
    ]
    for process in processes:
        process.start()
    found = [queue.get(timeout=300) for queue in queues]
    for process in processes:
        process.join()

    for seed in (0, 1):
        alone = predict(fit(with_settings(SMALL, {"seed": seed}), data).model, data)
        assert found[seed] == alone.tobytes()


@pytest.mark.parametrize("settings", TA_SIDE[1:], ids=lambda settings: ",".join(map(str, settings.values())))
def test_the_omq_head_is_the_same_bits_in_every_row(data: Dataset, settings: dict[str, object]) -> None:
    base, row = fit(SMALL, data), fit(with_settings(SMALL, settings), data)

    assert [record.huber_omq for record in row.curve] == [record.huber_omq for record in base.curve]
    assert predict(row.model, data)[:, 0].tobytes() == predict(base.model, data)[:, 0].tobytes()
    assert (predict(row.model, data)[:, 1] != predict(base.model, data)[:, 1]).any()


def test_a_global_norm_couples_the_heads(data: Dataset) -> None:
    settings = {"train.clip_scope": "global", "train.clip_norm": 0.1}
    base = fit(with_settings(SMALL, settings), data)
    row = fit(with_settings(SMALL, {**settings, "model.attention": "none", "loss.ot_weight": 0.0}), data)

    assert (predict(row.model, data)[:, 0] != predict(base.model, data)[:, 0]).any()


def test_omq_depends_on_ot_where_audio_is_projected(data: Dataset) -> None:
    projected = with_settings(SMALL, {"model.feature_dim": 8})

    with_ot, without = (fit(with_settings(projected, {"loss.ot_weight": weight}), data) for weight in (0.05, 0.0))

    assert (predict(with_ot.model, data)[:, 0] != predict(without.model, data)[:, 0]).any()


@pytest.mark.parametrize("settings", [{}, {"model.layer_norm": True}, {"loss.reduction": "sum"}])
def test_an_epoch_records_the_terms_of_the_loss(data: Dataset, settings: dict[str, object]) -> None:
    records: list[EpochRecord] = []
    result = fit(with_settings(SMALL, settings), data, on_epoch=lambda record, _: records.append(record))

    assert records == result.curve
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    for record in records:
        assert record.loss == pytest.approx((record.huber_omq + record.huber_ta) / 2 + record.ot)
        assert record.ot > 0
        assert record.ot_gradient_share > 0
        assert record.gradient_norm_omq > 0
        assert record.gradient_norm_ta > 0
        assert record.seconds > 0


def test_without_ot_its_terms_are_zero(data: Dataset) -> None:
    for record in fit(with_settings(SMALL, {"loss.ot_weight": 0.0}), data).curve:
        assert (record.ot, record.ot_gradient_share) == (0.0, 0.0)


def test_the_gradient_share_is_proportional_to_the_weight(data: Dataset) -> None:
    shares = [
        fit(with_settings(SMALL, {"loss.ot_weight": weight}), data).curve[0].ot_gradient_share
        for weight in (0.01, 0.02)
    ]

    assert shares[1] == pytest.approx(2 * shares[0], rel=1e-4)


def test_predictions_are_watched_and_stopping_is_allowed(data: Dataset) -> None:
    seen: list[np.ndarray] = []

    def stop(record: EpochRecord, predicted: np.ndarray | None) -> None:
        assert predicted is not None
        seen.append(predicted)
        if record.epoch == 2:
            raise KeyboardInterrupt

    watched = data.select(np.arange(3))
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, watch=watched, on_epoch=stop)
    assert [predicted.shape for predicted in seen] == [(3, 2), (3, 2)]
    assert (seen[0] != seen[1]).any()


def test_watching_changes_nothing(data: Dataset) -> None:
    settings = {"model.dropout": 0.3}

    assert weights(fit(with_settings(SMALL, settings), data)) == weights(
        fit(with_settings(SMALL, settings), data, watch=data)
    )


@pytest.mark.parametrize("settings", [{}, {"model.layer_norm": True}])
def test_a_loss_that_is_not_finite_stops_the_run(data: Dataset, settings: dict[str, object]) -> None:
    wild = {"train.learning_rate": 1e30, "train.clip_scope": "none", "train.momentum": 0.0, "loss.task": "mse"}

    with pytest.raises(Diverged) as caught:
        fit(with_settings(SMALL, {**wild, **settings}), data)
    assert caught.value.epoch == 1
    assert str(caught.value) == "the loss is not finite in epoch 1"


def test_patience_keeps_the_best_epoch_of_the_inner_split(data: Dataset) -> None:
    fitted, inner = data.select(np.arange(8)), data.select(np.arange(8, 12))
    spec = with_settings(SMALL, {"train.patience": 3, "train.epochs": 200, "train.learning_rate": 0.3})
    curve: list[float] = []

    def task_loss(predicted: np.ndarray | None) -> float:
        assert predicted is not None
        errors = np.abs(predicted - np.stack([inner.omq, inner.ta], axis=1))
        return float(np.where(errors < 1, errors**2 / 2, errors - 0.5).mean(axis=0).mean())

    result = fit(spec, fitted, watch=inner, inner=inner, on_epoch=lambda _, seen: curve.append(task_loss(seen)))

    best = int(np.argmin(curve))
    assert len(curve) == best + 1 + 3 < 200
    assert task_loss(predict(result.model, inner)) == pytest.approx(curve[best])


def test_valid_frames_are_all_that_is_read(data: Dataset) -> None:
    valid = with_settings(SMALL, {"model.audio_frames": "valid"})

    assert losses(fit(valid, data)) != losses(fit(SMALL, data))


def test_threads_are_part_of_the_run_and_restored(data: Dataset) -> None:
    before = torch.get_num_threads()
    two = with_settings(SMALL, {"train.threads": 2})

    first, second = fit(two, data), fit(two, data)

    assert weights(first) == weights(second)
    assert losses(first) == pytest.approx(losses(fit(SMALL, data)), rel=1e-4)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("precision", ["bf16", "float16"])
@pytest.mark.parametrize("settings", [{}, {"model.layer_norm": True}, {"model.feature_dim": 8}])
def test_mixed_precision_follows_float32(data: Dataset, precision: str, settings: dict[str, object]) -> None:
    spec = with_settings(SMALL, {**settings, "train.epochs": 8})
    exact, mixed = fit(spec, data), fit(with_settings(spec, {"train.precision": precision}), data)

    assert losses(mixed) == pytest.approx(losses(exact), rel=0.02)
    assert losses(mixed) != losses(exact)
    predicted, expected = predict(mixed.model, data), predict(exact.model, data)
    assert np.median(np.abs(predicted - expected)) < 0.02
    assert len(np.unique(predicted[:, 1])) == len(data), "scores are not rounded to ties"


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_other_optimisers_learn(data: Dataset, optimizer: str) -> None:
    spec = with_settings(SMALL, {"train.optimizer": optimizer, "train.learning_rate": 0.003, "train.epochs": 15})

    found = losses(fit(spec, data))

    assert found[-1] < found[0] / 2


def test_a_saved_model_predicts_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    for settings in ({}, {"model.feature_dim": 8, "model.attention": "cross", "model.layer_norm": True}):
        result = fit(with_settings(SMALL, settings), data)
        save(tmp_path / "model", result.model)

        loaded = load(tmp_path / "model")

        assert loaded.spec == result.model.spec
        assert predict(loaded, data).tobytes() == predict(result.model, data).tobytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="its device is there")
def test_a_model_of_a_gpu_predicts_on_a_machine_without_one(data: Dataset, tmp_path: Path) -> None:
    result = fit(SMALL, data)
    on_gpu = with_settings(SMALL, {"train.device": "cuda", "train.precision": "float16"})
    save(tmp_path / "model", replace(result.model, spec=on_gpu))

    assert predict(load(tmp_path / "model"), data).tobytes() == predict(result.model, data).tobytes()


def test_neighbours_and_order_do_not_change_predictions(data: Dataset) -> None:
    model = fit(SMALL, data).model
    order = np.random.default_rng(0).permutation(len(data))

    together = predict(model, data)

    assert together.shape == (12, 2)
    assert together.dtype == np.float64
    np.testing.assert_allclose(predict(model, data.select(order)), together[order], rtol=1e-5)
    np.testing.assert_allclose(predict(model, data.select(order[:1])), together[order[:1]], rtol=1e-5)


def test_a_clip_without_label_is_predicted_and_not_trained_on(data: Dataset) -> None:
    unlabelled = replace(data, ta=np.full(len(data), math.nan))

    assert np.isfinite(predict(fit(SMALL, data).model, unlabelled)).all()
    with pytest.raises(AssertionError, match="TA label"):
        fit(SMALL, unlabelled)
