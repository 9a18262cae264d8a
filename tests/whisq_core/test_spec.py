"""A run's settings: what each affects, what is declared beside it, and how dotted settings go over a base."""

from typing import Any

import pytest

from whisq_core.errors import InputError
from whisq_core.spec import SETTINGS, RunSpec, effect, heads, kind, searchable, with_settings

BASE = RunSpec()

LATER = tuple(name for name, setting in SETTINGS.items() if setting.later)


def test_every_setting_says_what_it_affects() -> None:
    assert tuple(BASE.settings()) == tuple(SETTINGS)
    assert all(setting.description for setting in SETTINGS.values())


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("train.momentum", {}, None),
        ("train.momentum", {"train.optimizer": "adam"}, None),  # beta 1
        ("train.momentum", {"train.optimizer": "adamw"}, None),
        ("train.nesterov", {}, None),
        ("train.nesterov", {"train.optimizer": "adamw"}, "train.optimizer is adamw"),
        ("train.clip_norm", {"train.clip_scope": "none"}, "train.clip_scope is none"),
        ("loss.blur", {"loss.ot_weight": 0.0}, "loss.ot_weight is 0"),
        ("loss.ot_weight", {"loss.ot_weight": 0.0}, None),
        ("loss.huber_delta", {"loss.task": "mse"}, "loss.task is mse"),
        ("model.heads", {"model.attention": "pooled"}, "model.attention is pooled"),
        ("model.residual", {"model.attention": "pooled"}, None),
        ("model.pool", {"model.attention": "none"}, None),
        ("data.system_truth", {}, "it changes metrics, not predictions"),
        (
            "train.epochs",
            {"model.predictor": "constant"},
            "this predictor uses neither audio nor text and is not trained",
        ),
        ("model.predictor", {"model.predictor": "constant"}, None),
    ],
)
def test_a_setting_has_an_effect_unless_another_one_takes_it_away(
    name: str, settings: dict[str, Any], reason: str | None
) -> None:
    assert effect(name, with_settings(BASE, settings)) == reason


def test_omq_cannot_depend_on_text_attention_or_transport_unless_the_heads_share_something() -> None:
    ta_only = [name for name in SETTINGS if heads(name, BASE) == ("ta",)]
    assert ta_only == [
        "backbone.text",
        *(f"model.{name}" for name in ("attention", "heads", "pool", "residual", "layer_norm")),
        *(f"loss.{name}" for name in ("alignment", "ot_weight", "p", "blur", "diameter", "scaling")),
    ]
    watched = with_settings(BASE, {"train.patience": 5})  # the loss of both heads decides which epoch is kept
    assert all(heads(name, BASE, projected=True) == heads(name, watched) == ("omq", "ta") for name in ta_only)


def test_what_is_measured_is_not_searched() -> None:
    assert [name for name in SETTINGS if not searchable(name)] == [
        *(name for name in SETTINGS if name.startswith("data.")),
        "seed",
    ]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("train.learning_rate", ("float", ())),
        ("train.batch_size", ("int", ())),
        ("train.patience", ("int", ())),
        ("model.residual", ("choice", (False, True))),
        ("loss.p", ("choice", (1, 2))),
        ("backbone.audio", ("choice", ())),
    ],
)
def test_a_setting_has_a_kind_and_maybe_a_fixed_set_of_values(name: str, found: tuple[str, tuple[Any, ...]]) -> None:
    assert kind(name) == found


def test_a_controls_predictions_are_decided_by_its_clips_its_kind_and_its_seed() -> None:
    control = with_settings(BASE, {"model.predictor": "constant"})
    names = ("data.fit", "data.score", "data.inner_by", "data.inner_seed", "data.inner_fraction")
    assert list(control.deciding_settings()) == [*names, "model.predictor", "seed"]
    assert set(BASE.settings()) - set(BASE.deciding_settings()) == {"data.system_truth", *LATER}


def test_a_setting_that_came_later_joins_an_identity_only_where_it_is_set() -> None:
    crossed = with_settings(BASE, {"data.folds": 5, "data.fraction": 0.5})
    assert set(crossed.deciding_settings()) - set(BASE.deciding_settings()) == {"data.folds", "data.fraction"}


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        with_settings(BASE, {"loss.ot_wieght": 1, "train.batch_size": True, "model.heads": 3})
    assert caught.value.mistakes == (
        "unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        "setting 'model': heads (3) must divide feature_dim (512).",
        "setting 'train.batch_size': Input should be a valid integer, found True.",
    )


def test_a_setting_that_came_later_names_a_run_only_where_it_is_not_its_default() -> None:
    """So that runs which were stored before it came keep their identity."""
    assert "train.deterministic" not in RunSpec().deciding_settings()
    changed = with_settings(RunSpec(), {"train.deterministic": False})
    assert changed.deciding_settings() == {**RunSpec().deciding_settings(), "train.deterministic": False}
