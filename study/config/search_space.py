"""The `search:` of an ablation file: which settings are searched, where, and how; Optuna's parameters for them.

Optuna itself is not imported here: a trial is passed in. An integer range marked `power_of_two` becomes an integer
parameter for the exponent (``train.log2_batch_size``), because categorical parameters cannot be widened later.
"""

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from whisq_core.errors import InputError, did_you_mean
from whisq_core.metrics import EXTRA, METRICS
from whisq_core.spec import SETTING_NAMES, RunSpec, setting_mistakes

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

PRIMARY_METRIC = "ta.utterance.srcc"

Choice = StrictBool | StrictInt | StrictFloat | str | None
Number = StrictInt | StrictFloat
SettingKind = Literal["float", "int", "choice"]


class Range(BaseModel):
    """Where one setting is searched: between `low` and `high`, or among `choices`.

    A setting with named values (or true/false) may leave all of it out: then each of its values is a choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Number | None = None
    high: Number | None = None
    log: StrictBool = False
    power_of_two: StrictBool = False
    choices: tuple[Choice, ...] | None = Field(default=None, min_length=2)


DEFAULT_SPACE: dict[str, Range] = {
    "train.learning_rate": Range(low=1e-5, high=1e-1, log=True),
    "train.momentum": Range(low=0.0, high=0.99),
    "loss.ot_weight": Range(low=1e-7, high=1e-1, log=True),
    "train.batch_size": Range(low=16, high=256, power_of_two=True),
}


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _only_one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class Search(BaseModel):
    """A search: what is maximised (the mean of `objective`; metrics that are errors count negatively), where, and how.

    `score` is the split on which a trial is judged: `inner`, a part of train, so that nothing is selected on clips
    that are reported; `dev` is the paper's protocol, whose best value is too good by the selection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    objective: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        default=(PRIMARY_METRIC,), min_length=1
    )
    score: Annotated[Literal["inner", "dev"], BeforeValidator(_only_one)] = Field(default="inner", alias="data.score")
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    trials: Annotated[StrictInt, Field(ge=1)] = 100  # of each search; `--trials` overrides
    top: Annotated[StrictInt, Field(ge=1)] = 5  # so many are trained again on fresh seeds
    space: dict[str, Range] = Field(default=DEFAULT_SPACE, min_length=1)

    @property
    def fingerprint(self) -> str:
        """What a stored study must agree with to be continued, as JSON: objective, scored split and space."""
        dumped = self.model_dump(mode="json", include={"objective", "score", "space"})
        return json.dumps(dumped, sort_keys=True)

    def without(self, fixed: Collection[str]) -> "Search":
        """This search with the settings that a row fixes taken out: what a row sets is what it ablates."""
        space = {name: where for name, where in self.space.items() if name not in fixed}
        return self.model_copy(update={"space": space})


def setting_kind(name: str) -> tuple[SettingKind, tuple[Any, ...]]:
    """How a setting is searched, and the values of one that has a fixed set of them."""
    section, _, key = name.partition(".")
    annotation = type(getattr(RunSpec(), section)).model_fields[key].annotation
    if annotation is bool:
        return "choice", (False, True)
    if annotation is float:
        return "float", ()
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    members = [getattr(part, "__origin__", part) for part in get_args(annotation)]  # of an optional count
    return ("int", ()) if annotation is int or int in members else ("choice", ())


def search_mistakes(search: Search, base: RunSpec) -> list[tuple[tuple[str, ...], str]]:
    """Everything that is wrong with `search` for rows over `base`: (place inside `search:`, what and what to do)."""
    metrics = (*METRICS, *EXTRA)
    mistakes: list[tuple[tuple[str, ...], str]] = [
        (("objective",), f"unknown metric '{name}'. {did_you_mean(name, metrics)}")
        for name in search.objective
        if name not in metrics
    ]
    if len(set(search.objective)) < len(search.objective):
        mistakes.append((("objective",), "a metric stands twice. Name each once."))
    for name, where in search.space.items():
        mistakes += [(("space", name), text) for text in _range_mistakes(name, where, base)]
    return mistakes


def _range_mistakes(name: str, where: Range, base: RunSpec) -> list[str]:
    searchable = [known for known in SETTING_NAMES if not known.startswith("data.") and known != "seed"]
    if name not in SETTING_NAMES:
        return [f"unknown setting '{name}'. {did_you_mean(name, searchable)}"]
    if name not in searchable:
        return [f"'{name}' cannot be searched: it decides what is measured. Set it in base."]
    kind, values = setting_kind(name)
    mistakes = _shape_mistakes(name, where, kind, values)
    if not mistakes:
        tried = where.choices or ((where.low, where.high) if where.low is not None else ())
        texts = (text for value in tried for _, text in setting_mistakes(base, {name: value}))
        mistakes = list(dict.fromkeys(texts))
    return mistakes


def _shape_mistakes(name: str, where: Range, kind: SettingKind, values: tuple[Any, ...]) -> list[str]:
    low, high = where.low, where.high
    if where.choices is not None:
        if len(set(map(repr, where.choices))) < len(where.choices):
            return [f"'{name}': a choice stands twice. Name each once."]
        beside = low is not None or high is not None or where.log or where.power_of_two
        return [f"'{name}': choices exclude low, high, log and power_of_two. Keep one kind."] if beside else []
    if kind == "choice":
        if low is not None or high is not None or where.log or where.power_of_two:
            return [f"'{name}' has no low and high. Give choices, such as {{choices: {list(values) or ['A', 'B']}}}."]
        return [] if values else [f"'{name}' is free text. Give choices: [A, B]."]
    if low is None or high is None:
        return [f"'{name}' needs low and high, or choices."]
    return _number_mistakes(name, where, kind, low, high)


def _number_mistakes(name: str, where: Range, kind: SettingKind, low: float, high: float) -> list[str]:
    if low >= high:
        return [f"'{name}': low ({low}) must be below high ({high})."]
    if kind == "int" and not (isinstance(low, int) and isinstance(high, int)):
        return [f"'{name}' is a whole number: so must be low and high, found {low} and {high}."]
    if where.log and where.power_of_two:
        return [f"'{name}': power_of_two is logarithmic already. Remove log."]
    if where.log and low <= 0:
        return [f"'{name}': a logarithmic range starts above 0, found low {low}."]
    if where.power_of_two and kind != "int":
        return [f"'{name}': power_of_two is for whole numbers. Use log."]
    if where.power_of_two and not (_is_power_of_two(int(low)) and _is_power_of_two(int(high))):
        return [f"'{name}': low and high must be powers of two, found {low} and {high}."]
    return []


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def suggest(trial: "BaseTrial", space: Mapping[str, Range]) -> dict[str, Any]:
    """Ask `trial` for a value of every searched setting: dotted settings for `with_settings`."""
    return {name: _suggested(trial, name, where) for name, where in space.items()}


def _suggested(trial: "BaseTrial", name: str, where: Range) -> Any:
    choices = _choices(name, where)
    if choices:
        return trial.suggest_categorical(name, choices)
    low, high = where.low, where.high
    assert low is not None, "a checked range has both ends"
    assert high is not None, "a checked range has both ends"
    if where.power_of_two:
        exponent = trial.suggest_int(param_name(name, where), int(low).bit_length() - 1, int(high).bit_length() - 1)
        return 2**exponent
    if setting_kind(name)[0] == "int":
        return trial.suggest_int(name, int(low), int(high), log=where.log)
    return trial.suggest_float(name, float(low), float(high), log=where.log)


def param_name(name: str, where: Range) -> str:
    """The name of Optuna's parameter for a setting."""
    section, _, key = name.partition(".")
    return f"{section}.log2_{key}" if where.power_of_two else name


def to_params(settings: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """Optuna's parameters that stand for `settings` (all of a run's settings, or at least the searched ones).

    Raises:
        InputError: with every setting that lies outside its range: Optuna would enqueue it with only a warning.
    """
    outside = [text for name, where in space.items() for text in _outside(name, where, settings[name])]
    if outside:
        raise InputError(*outside)
    return {
        param_name(name, where): settings[name].bit_length() - 1 if where.power_of_two else settings[name]
        for name, where in space.items()
    }


def to_settings(params: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """The dotted settings that a trial's parameters stand for: the inverse of `to_params`."""
    found = {name: params[param_name(name, where)] for name, where in space.items()}
    return {name: 2**value if space[name].power_of_two else value for name, value in found.items()}


def _choices(name: str, where: Range) -> tuple[Any, ...]:
    if where.choices is not None:
        return where.choices
    return setting_kind(name)[1] if where.low is None else ()


def _outside(name: str, where: Range, value: Any) -> list[str]:
    choices = _choices(name, where)
    if choices:
        inside, allowed = value in choices, f"one of {', '.join(map(str, choices))}"
    elif value is None:
        inside, allowed = False, f"{where.low} to {where.high}"
    else:
        inside, allowed = where.low <= value <= where.high, f"{where.low} to {where.high}"
        if where.power_of_two:
            inside, allowed = inside and _is_power_of_two(value), f"{allowed}, a power of two"
    if inside:
        return []
    return [f"setting '{name}' = {value} lies outside the search space ({allowed}). Widen it or change the value."]


def difference(old_fingerprint: str, new: Search) -> list[str]:
    """How a stored study's search differs from `new`, one line each; empty when the study can be continued."""
    old_parts, new_parts = json.loads(old_fingerprint), json.loads(new.fingerprint)
    lines = [
        f"{key}: was {_words(old_parts[key])}, is {_words(new_parts[key])}"
        for key in ("objective", "score")
        if old_parts[key] != new_parts[key]
    ]
    old_space, new_space = old_parts["space"], new_parts["space"]
    for name in dict.fromkeys((*old_space, *new_space)):
        if name not in new_space:
            lines.append(f"{name}: was searched ({_words(old_space[name])}), is not any more")
        elif name not in old_space:
            lines.append(f"{name}: was not searched, is now ({_words(new_space[name])})")
        elif old_space[name] != new_space[name]:
            lines.append(f"{name}: was {_words(old_space[name])}, is {_words(new_space[name])}")
    return lines


def _words(part: Any) -> str:
    """A part of a fingerprint as a person would say it: "1e-05 to 0.1, log"."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "mean of " + ", ".join(part) if len(part) > 1 else part[0]
    if part["choices"] is not None:
        return "one of " + ", ".join(map(str, part["choices"]))
    if part["low"] is None:
        return "any value"
    scale = ", log" if part["log"] else ", powers of two" if part["power_of_two"] else ""
    return f"{part['low']} to {part['high']}{scale}"
