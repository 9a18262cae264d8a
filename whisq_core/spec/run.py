"""Every setting of a run: its type, its default (Table I of the paper unless a comment says otherwise), its effect.

An ablation row and a search trial are both a base `RunSpec` plus dotted settings such as ``{"loss.ot_weight": 0.0}``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StrictBool, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from whisq_core.spec.choice import Choice

# Numbers are strict: `true`, "128" or 12.0 where a count belongs is a typing error in a file, not a value.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Open = Annotated[float, Field(gt=0, lt=1, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]  # what every database stores as an integer

FOLDS = "folds"
ATTENTIONS = ("sequence", "pooled", "pooled_query", "cross", "none")

Head = Literal["omq", "ta"]
TA: tuple[Head, ...] = ("ta",)


@dataclass(frozen=True)
class Setting:
    """What one setting is, and what it affects.

    Parameters
    ----------
    description
        One line for editors (JSON Schema) and readers.
    heads
        The heads whose prediction it can change. OMQ is read from the pooled audio alone (Eq. 6), so that it cannot
        depend on the text, the attention or the transport; `whisq_core.spec.heads` knows when the two are coupled.
    unless
        Another setting and the values of it with which this one changes nothing.
    controls
        Whether the predictors that are not trained read it too.
    decides
        Whether predictions depend on it at all; otherwise only what is computed from them does.
    per_table
        Whether all rows of a table share it, because it decides what is measured.
    later
        Whether runs were stored before this setting existed: at its default it is no part of an identity.
    """

    description: str
    heads: tuple[Head, ...] = ("omq", "ta")
    unless: tuple[str, tuple[Any, ...]] | None = None
    controls: bool = False
    decides: bool = True
    per_table: bool = False
    later: bool = False

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "description": self.description}


def _data(description: str, decides: bool = True, **more: Any) -> Setting:
    return Setting(description, controls=True, decides=decides, per_table=True, **more)


_NO_FOLDS = ("data.folds", (None,))
_MOST_STEPS = 1000  # of epsilon's annealing; the defaults make 12
_NO_OT = ("loss.ot_weight", (0,))
_NO_ATTENTION = ("model.attention", ("none",))
_ONE_KEY = ("model.attention", ("none", "pooled"))  # whose softmax is 1, however many heads there are


class _Frozen(BaseModel):
    """Frozen, and no unknown keys: a typing error must not pass as a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class DataSpec(_Frozen):
    """Which clips train the model and which ones score it."""

    fit: Annotated[Literal["train"], _data("split that trains the model")] = "train"
    score: Annotated[
        tuple[Literal["dev", "test", "inner"], ...], Field(min_length=1), _data("splits that are scored")
    ] = ("dev",)
    system_truth: Annotated[
        Literal["clips", "csv"], _data("a system's true score: mean of its clips, or the corpus's file", decides=False)
    ] = "clips"
    inner_by: Annotated[Literal["prompt", "system", "clip"], _data("what an inner split of train keeps together")] = (
        "prompt"
    )
    inner_seed: Annotated[Seed, _data("which inner split")] = 0
    inner_fraction: Annotated[Open, _data("share of train in the inner split")] = 0.2
    folds: Annotated[
        Annotated[int, Field(ge=2, strict=True)] | None,
        _data("cross-validation over train and the scored splits: number of parts, drawn anew per seed", later=True),
    ] = None
    fold_by: Annotated[
        Literal["clip", "prompt", "system"], _data("what a fold keeps together", unless=_NO_FOLDS, later=True)
    ] = "clip"
    fraction: Annotated[
        Annotated[float, Field(gt=0, le=1, strict=True)],
        Setting("share of the training clips that is used, drawn per seed", controls=True, later=True),
    ] = 1.0

    @model_validator(mode="after")
    def _folds_score_every_clip(self) -> "DataSpec":
        if self.folds is not None and "inner" in self.score:
            raise ValueError("folds scores every clip, inner a part of train: leave out one of them")
        return self

    @property
    def scored(self) -> tuple[str, ...]:
        """What predictions are stored under: the scored splits, or the one name of all folds together."""
        return self.score if self.folds is None else (FOLDS,)


class BackboneSpec(_Frozen):
    """The frozen encoders: hub id (`name@revision` pins it), local folder, `pypi:NAME` or `untrained:NAME`."""

    audio: Annotated[str, Setting("audio encoder")] = "openai/whisper-base"
    text: Annotated[str, Setting("text encoder", TA)] = "Qwen/Qwen3-0.6B"
    precision: Annotated[Literal["float32", "bf16"], Setting("number format of encoding")] = "float32"


class ModelSpec(_Frozen):
    """The trainable part (Eqs. 2-7), or a control that uses neither audio nor text."""

    predictor: Annotated[
        Literal["whisq", "constant", "system_lookup"], Setting("the model, or a control", controls=True)
    ] = "whisq"
    attention: Annotated[
        str, Choice("attention", ATTENTIONS), Setting("attention variant (Eqs. 3-4), or a plug-in's", TA)
    ] = "sequence"
    # Paper conflict: the text says 512, Table I says 1280.
    feature_dim: Annotated[int, Field(ge=1, le=65_536, strict=True), Setting("size of audio and text features, D")] = (
        512
    )
    heads: Annotated[Count, Setting("attention heads", TA, _ONE_KEY)] = 4
    audio_frames: Annotated[Literal["all", "valid"], Setting("whether padded audio frames are used")] = "all"
    # Paper silent: how attended sequences are pooled.
    pool: Annotated[Literal["mean", "max"], Setting("pooling of sequences (Eq. 5)", TA)] = "mean"
    residual: Annotated[StrictBool, Setting("adds the queries to what attention found", TA, _NO_ATTENTION)] = (
        False  # Paper silent.
    )
    layer_norm: Annotated[StrictBool, Setting("normalises attended sequences", TA, _NO_ATTENTION)] = (
        False  # Paper silent.
    )
    dropout: Annotated[Fraction, Setting("dropout in the heads")] = 0.0  # Paper silent.
    head: Annotated[Literal["mlp", "linear"], Setting("heads with or without activations (Eqs. 6-7)")] = "mlp"

    @model_validator(mode="after")
    def _heads_divide_the_dimension(self) -> "ModelSpec":
        if self.feature_dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide feature_dim ({self.feature_dim})")
        return self

    @property
    def needs_frames(self) -> bool:
        """Whether a prediction reads sequences; the OT term does too, but only in training."""
        return self.attention not in ("pooled", "none") or self.pool == "max"


class LossSpec(_Frozen):
    """Eqs. 8-10. `ot_weight` is the paper's lambda; `blur` is a length, epsilon = blur**p."""

    task: Annotated[Literal["huber", "l1", "mse"], Setting("task loss of each head (Eq. 9)")] = "huber"
    huber_delta: Annotated[  # Paper silent.
        Positive, Setting("where Huber's loss turns from square to linear", unless=("loss.task", ("l1", "mse")))
    ] = 1.0
    reduction: Annotated[Literal["mean", "sum"], Setting("mean or sum over a batch")] = "mean"
    alignment: Annotated[
        str, Choice("objective", ("sinkhorn",)), Setting("alignment objective (Eq. 10), or a plug-in's", TA, _NO_OT)
    ] = "sinkhorn"
    ot_weight: Annotated[NonNegative, Setting("weight of the alignment objective, lambda (Eq. 8)", TA)] = 4.057e-5
    p: Annotated[Literal[1, 2], Setting("exponent of the transport cost", TA, _NO_OT)] = 2
    blur: Annotated[Positive, Setting("entropic blur, a length: epsilon = blur^p", TA, _NO_OT)] = 0.05
    # Paper silent: fixed, so that a clip's loss does not depend on its batch.
    diameter: Annotated[Positive, Setting("diameter from which epsilon is annealed", TA, _NO_OT)] = 128.0
    scaling: Annotated[Open, Setting("ratio of epsilon's annealing", TA, _NO_OT)] = 0.5  # Paper silent: geomloss' own.

    @model_validator(mode="after")
    def _annealing_ends(self) -> "LossSpec":
        steps = (math.log(self.diameter) - math.log(self.blur)) / -math.log(self.scaling)
        if steps > _MOST_STEPS:
            raise ValueError(
                f"diameter, blur and scaling make {steps:,.0f} steps, allowed: {_MOST_STEPS}; lower scaling"
            )
        return self


class TrainSpec(_Frozen):
    """The optimisation. `auto` values are resolved before a run gets its identity."""

    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Setting("optimizer")] = "sgd"
    learning_rate: Annotated[Positive, Setting("learning rate")] = 7.307e-4
    momentum: Annotated[Fraction, Setting("momentum of sgd, beta 1 of adam and adamw")] = 0.7435
    nesterov: Annotated[  # Paper silent.
        StrictBool, Setting("Nesterov's momentum", unless=("train.optimizer", ("adam", "adamw")))
    ] = False
    weight_decay: Annotated[NonNegative, Setting("weight decay")] = 0.0  # Paper silent.
    batch_size: Annotated[Count, Setting("clips in a batch")] = 128
    epochs: Annotated[Count, Setting("passes over the training clips")] = 148
    clip_norm: Annotated[  # Paper silent: "gradient clipping" without a norm.
        Positive, Setting("norm at which gradients are clipped", unless=("train.clip_scope", ("none",)))
    ] = 1.0
    clip_scope: Annotated[  # Paper silent.
        Literal["per_head", "global", "none"], Setting("what is clipped together: each head, everything, nothing")
    ] = "per_head"
    # Watches an inner split of train, never a scored one.
    patience: Annotated[Count | None, Setting("epochs without gain before training stops")] = None
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Setting("device")] = "auto"
    precision: Annotated[Literal["auto", "float32", "bf16", "float16"], Setting("number format of training")] = "auto"
    threads: Annotated[
        int, Field(ge=1, le=1024, strict=True), Setting("threads of a run: the order of float32 sums depends on them")
    ] = 1
    deterministic: Annotated[
        StrictBool,
        Setting("only operations of a GPU that are bit-identical from run to run", unless=("train.device", ("cpu",)),
                later=True),
    ] = True  # fmt: skip

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
    seed: Annotated[Seed, Setting("initial weights, batch order and dropout", controls=True)] = 0

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
        """The settings that can change this run's predictions; a control ignores encoders, loss and training."""
        known = declared_settings()
        return {
            name: value
            for name, value in self.settings().items()
            if known[name].decides
            and (known[name].controls or self.uses_features)
            and not (known[name].later and value == _DEFAULTS[name])
        }

    @property
    def uses_features(self) -> bool:
        """Whether this run reads encoder features at all."""
        return self.model.predictor == "whisq"

    @property
    def needs_frames(self) -> bool:
        """Whether training reads sequences; otherwise the pooled features are enough."""
        return self.uses_features and (self.model.needs_frames or self.loss.ot_weight > 0)


_DEFAULTS = RunSpec().settings()


@cache
def declared_settings() -> Mapping[str, Setting]:
    """What is declared beside each field, under its dotted name."""
    fields: dict[str, FieldInfo] = {}
    for section, field in RunSpec.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields |= {f"{section}.{key}": part for key, part in model.model_fields.items()}
        else:
            fields[section] = field
    return {name: next(each for each in field.metadata if isinstance(each, Setting)) for name, field in fields.items()}
