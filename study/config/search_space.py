"""The `search:` of an ablation file: which settings are searched, where, and how."""

import json
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from whisq_core.errors import did_you_mean
from whisq_core.metrics import known_metrics, unknown_metric
from whisq_core.spec import SETTINGS, RunSpec, kind, searchable, try_settings

PRIMARY_METRIC = "ta.utterance.srcc"

Choice = StrictBool | StrictInt | StrictFloat | str | None
Number = StrictInt | StrictFloat


class Range(BaseModel):
    """Where one setting is searched: between `low` and `high`, or among `choices`.

    A setting with named values (or true/false) may leave all of it out: then each of its values is a choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Number | None = Field(default=None, description="the lowest value")
    high: Number | None = Field(default=None, description="the highest value")
    log: StrictBool = Field(default=False, description="searched by logarithm")
    power_of_two: StrictBool = Field(default=False, description="powers of two alone, by logarithm")
    choices: tuple[Choice, ...] | None = Field(default=None, min_length=2, description="the values to choose from")

    def values(self, name: str) -> tuple[Any, ...]:
        """The values among which setting `name` is chosen; none where it is searched between two numbers."""
        return self.choices or (kind(name)[1] if self.low is None else ())

    def contains(self, name: str, value: Any) -> bool:
        """Whether setting `name` may have this value."""
        if values := self.values(name):
            return value in values
        inside = value is not None and self.low <= value <= self.high
        return inside and (not self.power_of_two or _is_power_of_two(value))

    def __str__(self) -> str:
        """As a person would say it: "1e-05 to 0.1, log"."""
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        scale = ", log" if self.log else ", powers of two" if self.power_of_two else ""
        return "any value" if self.low is None else f"{self.low} to {self.high}{scale}"


DEFAULT_SPACE: dict[str, Range] = {
    "train.learning_rate": Range(low=1e-5, high=1e-1, log=True),
    "train.momentum": Range(low=0.0, high=0.99),
    "loss.ot_weight": Range(low=1e-7, high=1e-1, log=True),
    "train.batch_size": Range(low=16, high=256, power_of_two=True),
}


_ONE_OR_MANY = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
_ONLY_ONE = BeforeValidator(lambda value: value[0] if isinstance(value, list) and len(value) == 1 else value)


class Search(BaseModel):
    """A search: what is maximised (the mean of `objective`; metrics that are errors count negatively), where, and how.

    `score` is the split on which a trial is judged: `inner`, a part of train, so that nothing is selected on clips
    that are reported; `dev` is the paper's protocol, whose best value is too good by the selection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    objective: Annotated[tuple[str, ...], _ONE_OR_MANY] = Field(
        default=(PRIMARY_METRIC,), min_length=1, description="the metric that is searched for, or several: their mean"
    )
    score: Annotated[Literal["inner", "dev"], _ONLY_ONE] = Field(
        default="inner", alias="data.score", description="the split that judges a trial: a part of train, or dev"
    )
    sampler: Literal["tpe", "random", "gp"] = Field(default="tpe", description="how trials are proposed")
    pruner: Literal["median", "hyperband", "none"] = Field(default="median", description="how bad trials are stopped")
    trials: StrictInt = Field(
        default=100, ge=1, le=1_000_000, description="trials of each search; --trials goes before it"
    )
    top: StrictInt = Field(default=5, ge=1, description="so many of the best are trained again on held-out seeds")
    space: dict[str, Range] = Field(default=DEFAULT_SPACE, min_length=1, description="where each setting is searched")

    @property
    def fingerprint(self) -> str:
        """What a stored study must agree with to be continued, as JSON: objective, scored split and space."""
        dumped = self.model_dump(mode="json", include={"objective", "score", "space"})
        return json.dumps(dumped, sort_keys=True)

    def without(self, fixed: Collection[str]) -> "Search":
        """This search with the settings that a row fixes taken out: what a row sets is what it ablates."""
        space = {name: where for name, where in self.space.items() if name not in fixed}
        return self.model_copy(update={"space": space})


def search_mistakes(search: Search, base: RunSpec) -> list[tuple[tuple[str, ...], str]]:
    """Everything that is wrong with `search` for rows over `base`: (place inside `search:`, what and what to do)."""
    place = ("objective",)
    found: list[tuple[tuple[str, ...], str]]
    found = [(place, unknown_metric(name)) for name in search.objective if name not in known_metrics()]
    if len(set(search.objective)) < len(search.objective):
        found.append((place, "a metric is duplicated. Name each once."))
    for name, where in search.space.items():
        found += [(("space", name), text) for text in _range_mistakes(name, where, base)]
    return found


def _range_mistakes(name: str, where: Range, base: RunSpec) -> list[str]:
    if name not in SETTINGS:
        return [f"unknown setting '{name}'. {did_you_mean(name, filter(searchable, SETTINGS))}"]
    if not searchable(name):
        return [f"'{name}' cannot be searched: it decides what is measured. Set it in base."]
    if mistake := _kind_mistake(name, where):
        return [f"'{name}'{mistake}"]
    tried = where.choices or ((where.low, where.high) if where.low is not None else ())
    return list(dict.fromkeys(text for value in tried for _, text in try_settings(base, {name: value})[1]))


def _kind_mistake(name: str, where: Range) -> str:
    """Why a setting cannot be searched so, as the rest of a sentence about it; empty when it can."""
    low, high, (type_, values) = where.low, where.high, kind(name)
    bounded = low is not None or high is not None or where.log or where.power_of_two
    if where.choices is not None:
        if len(set(map(repr, where.choices))) < len(where.choices):
            return ": a choice is duplicated. Name each once."
        return ": choices exclude low, high, log and power_of_two. Keep one kind." if bounded else ""
    if type_ == "choice":
        if bounded:
            return f" has no low and high. Give choices, such as {{choices: {list(values) or ['A', 'B']}}}."
        return "" if values else " is free text. Give choices: [A, B]."
    if low is None or high is None:
        return " needs low and high, or choices."
    return _number_mistake(where, type_ == "int", low, high)


def _number_mistake(where: Range, whole: bool, low: float, high: float) -> str:
    if low >= high:
        return f": low ({low}) must be below high ({high})."
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        return f" is a whole number: so must be low and high, found {low} and {high}."
    if where.log and where.power_of_two:
        return ": power_of_two is logarithmic already. Remove log."
    if where.log and low <= 0:
        return f": a logarithmic range starts above 0, found low {low}."
    if where.power_of_two and not whole:
        return ": power_of_two is for whole numbers. Use log."
    if where.power_of_two and not (_is_power_of_two(low) and _is_power_of_two(high)):
        return f": low and high must be powers of two, found {low} and {high}."
    return ""


def _is_power_of_two(value: float) -> bool:
    return value > 0 and int(value) == value and int(value).bit_count() == 1


def difference(old_fingerprint: str, new: Search) -> list[str]:
    """How a stored study's search differs from `new`, one line each; empty when the study can be continued."""
    old = Search.model_validate_json(old_fingerprint)
    lines = []
    if old.objective != new.objective:
        lines.append(f"objective: was {_mean(old.objective)}, is {_mean(new.objective)}")
    if old.score != new.score:
        lines.append(f"score: was {old.score}, is {new.score}")
    for name in dict.fromkeys((*sorted(old.space), *sorted(new.space))):
        was, is_ = old.space.get(name), new.space.get(name)
        if is_ is None:
            lines.append(f"{name}: was searched ({was}), is not any more")
        elif was is None:
            lines.append(f"{name}: was not searched, is now ({is_})")
        elif was != is_:
            lines.append(f"{name}: was {was}, is {is_}")
    return lines


def _mean(metrics: tuple[str, ...]) -> str:
    return "mean of " + ", ".join(metrics) if len(metrics) > 1 else metrics[0]
