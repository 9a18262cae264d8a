"""A run is a value: `RunSpec` holds every setting that decides a result.

An ablation row and a search trial are both a base `RunSpec` plus dotted settings such as
``{"loss.ot_weight": 0.0}``, applied by `with_settings`. Each default is Table I of the paper,
or marked as a choice where the paper is silent or contradicts itself.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from whisq_core.errors import InputError, did_you_mean, raise_all

# Numbers are strict: `true`, "128" or 12.0 where a count belongs is a typing error in a file, not a value.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class _Frozen(BaseModel):
    """Frozen, and no unknown keys: a typing error must not pass as a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class DataSpec(_Frozen):
    """Which clips train the model and which ones score it."""

    fit: Literal["train"] = "train"
    score: tuple[Literal["dev", "test", "inner"], ...] = Field(default=("dev",), min_length=1)
    system_truth: Literal["clips", "csv"] = "clips"
    inner_by: Literal["prompt", "system"] = "prompt"
    inner_seed: Annotated[int, Field(ge=0, strict=True)] = 0
    inner_fraction: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.2


class BackboneSpec(_Frozen):
    """The frozen encoders: hub id (`name@revision` pins it), local folder, `pypi:NAME` or `untrained:NAME`."""

    audio: str = "openai/whisper-base"
    text: str = "Qwen/Qwen3-0.6B"
    precision: Literal["float32", "bf16"] = "float32"


class ModelSpec(_Frozen):
    """The trainable part (Eqs. 2-7), or a control that hears nothing."""

    predictor: Literal["whisq", "constant", "system_lookup"] = "whisq"
    attention: Literal["sequence", "pooled", "pooled_query", "cross", "none"] = "sequence"
    feature_dim: Count = 512  # Paper conflict: the text says 512, Table I says 1280.
    heads: Count = 4
    audio_frames: Literal["all", "valid"] = "all"
    pool: Literal["mean", "max"] = "mean"  # Paper silent: how attended sequences are pooled.
    residual: StrictBool = False  # Paper silent.
    layer_norm: StrictBool = False  # Paper silent.
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0  # Paper silent: in the heads.
    head: Literal["mlp", "linear"] = "mlp"

    @model_validator(mode="after")
    def _heads_divide_the_dimension(self) -> "ModelSpec":
        if self.feature_dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide feature_dim ({self.feature_dim})")
        return self

    @property
    def needs_frames(self) -> bool:
        """Whether a prediction reads sequences; the OT term does too, but only in training."""
        return self.attention in ("sequence", "cross", "pooled_query") or self.pool == "max"


class LossSpec(_Frozen):
    """Eqs. 8-10. `ot_weight` is the paper's lambda; `blur` is a length, epsilon = blur**p."""

    task: Literal["huber", "l1", "mse"] = "huber"
    huber_delta: Positive = 1.0  # Paper silent.
    reduction: Literal["mean", "sum"] = "mean"
    alignment: Literal["sinkhorn"] = "sinkhorn"
    ot_weight: NonNegative = 4.057e-5
    p: Literal[1, 2] = 2
    blur: Positive = 0.05
    diameter: Positive = 128.0  # Paper silent: fixed, so that a clip's loss does not depend on its batch.
    scaling: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.5  # Paper silent: geomloss' default.


class TrainSpec(_Frozen):
    """The optimisation. `auto` values are resolved before a run gets its identity."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 7.307e-4
    momentum: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.7435
    nesterov: StrictBool = False  # Paper silent.
    weight_decay: NonNegative = 0.0  # Paper silent.
    batch_size: Count = 128
    epochs: Count = 148
    clip_norm: Positive = 1.0  # Paper silent: "gradient clipping" without a norm.
    clip_scope: Literal["per_head", "global", "none"] = "per_head"  # Paper silent.
    patience: Count | None = None  # epochs; watches an inner split of train, never a scored one.
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bf16", "float16"] = "auto"
    threads: Count = 1

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "TrainSpec":
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs optimizer sgd and a momentum above 0")
        return self


class RunSpec(_Frozen):
    """Every setting that decides the result of one run."""

    data: DataSpec = DataSpec()
    backbone: BackboneSpec = BackboneSpec()
    model: ModelSpec = ModelSpec()
    loss: LossSpec = LossSpec()
    train: TrainSpec = TrainSpec()
    seed: Annotated[int, Field(ge=0, strict=True)] = 0

    @model_validator(mode="after")
    def _layer_norm_needs_attention(self) -> "RunSpec":
        if self.model.layer_norm and self.model.attention == "none":
            raise ValueError("model.layer_norm needs an attention: it normalises the attended sequences")
        return self

    def settings(self) -> dict[str, Any]:
        """All settings under their dotted names, in declaration order; JSON-ready values."""
        flat: dict[str, Any] = {}
        for section, value in self.model_dump(mode="json").items():
            if isinstance(value, dict):
                flat |= {f"{section}.{key}": item for key, item in value.items()}
            else:
                flat[section] = value
        return flat

    def deciding_settings(self) -> dict[str, Any]:
        """The settings that can change this run's predictions.

        The convention for system truth only changes metrics, which are computed from stored predictions;
        a control ignores encoders, loss and training.
        """
        flat = self.settings()
        del flat["data.system_truth"]
        if self.model.predictor == "whisq":
            return flat
        kept = ("data.", "model.predictor", "seed")
        return {name: value for name, value in flat.items() if name.startswith(kept)}

    @property
    def uses_features(self) -> bool:
        """Whether this run reads encoder features at all."""
        return self.model.predictor == "whisq"

    @property
    def needs_frames(self) -> bool:
        """Whether training reads sequences; otherwise the pooled features are enough."""
        return self.uses_features and (self.model.needs_frames or self.loss.ot_weight > 0)


SETTING_NAMES: tuple[str, ...] = tuple(RunSpec().settings())
_SWITCHED_OFF_BY_NULL = tuple(name for name, value in RunSpec().settings().items() if value is None)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The settings in which two flat dictionaries differ, as ``name: theirs -> ours``."""
    names = list(ours) + [name for name in theirs if name not in ours]
    return [f"{name}: {theirs.get(name)} -> {ours.get(name)}" for name in names if ours.get(name) != theirs.get(name)]


def setting_mistakes(base: RunSpec, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with `settings` on top of `base`: pairs of (dotted name, what is wrong and what to do)."""
    mistakes = [
        (name, f"unknown setting '{name}'. {did_you_mean(name, SETTING_NAMES)}")
        for name in settings
        if name not in SETTING_NAMES
    ]
    nested = _nested(base, {name: value for name, value in settings.items() if name in SETTING_NAMES})
    try:
        RunSpec.model_validate(nested)
    except ValidationError as error:
        for problem in error.errors():
            where = [str(part) for part in problem["loc"][:2]]
            name = ".".join(where)
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "tuple_type":
                text = "Input should be a list, such as [dev]"
            elif name in _SWITCHED_OFF_BY_NULL:
                text = f"{text}, or null for none"
            found = "" if problem["type"] == "value_error" else f", found {problem['input']!r}"
            mistakes.append((name, f"setting '{name}': {text}{found}." if name else f"{text}."))
    return mistakes


def with_settings(base: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """`base` with dotted `settings` applied.

    Raises:
        InputError: with every unknown name and every value that is not allowed.
    """
    raise_all([text for _, text in setting_mistakes(base, settings)])
    return RunSpec.model_validate(_nested(base, settings))


def _nested(base: RunSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = base.model_dump(mode="python")
    for name, value in settings.items():
        section, _, key = name.partition(".")
        if key:
            nested[section] = {**nested[section], key: value}
        else:
            nested[section] = value
    return nested


def digest(value: Any) -> str:
    """A stable 32-digit name for a JSON-ready value: the SHA-256 of its sorted JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


__all__ = [
    "SETTING_NAMES",
    "BackboneSpec",
    "DataSpec",
    "InputError",
    "LossSpec",
    "ModelSpec",
    "RunSpec",
    "TrainSpec",
    "differences",
    "digest",
    "setting_mistakes",
    "with_settings",
]
