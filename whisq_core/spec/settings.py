"""Settings by their dotted names: what they affect, what is wrong with them, and how they go over a base."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from whisq_core.errors import did_you_mean, raise_all, shown
from whisq_core.spec.choice import Choice
from whisq_core.spec.run import TA, Head, RunSpec, Setting, declared_settings

SETTINGS: Mapping[str, Setting] = declared_settings()
_SWITCHED_OFF_BY_NULL = tuple(name for name, value in RunSpec().settings().items() if value is None)


def effect(name: str, spec: RunSpec) -> str | None:
    """Why setting `name` changes nothing in `spec`; None where it has an effect."""
    setting = SETTINGS[name]
    if not setting.decides:
        return "it changes metrics, not predictions"
    if not setting.controls and not spec.uses_features:
        return "this predictor uses neither audio nor text and is not trained"
    if setting.unless is not None:
        other, values = setting.unless
        value = spec.settings()[other]
        if value in values:
            return f"{other} is {value:g}" if isinstance(value, float) else f"{other} is {value}"
    return None


def heads(name: str, spec: RunSpec, projected: bool = False) -> tuple[Head, ...]:
    """The heads whose predictions setting `name` can change in `spec`, apart from clipping them together.

    Parameters
    ----------
    projected
        Whether the audio features are projected: the projection belongs to both heads, so that everything on the TA
        side reaches OMQ through it. So it does with `train.patience`, which watches the loss of both.
    """
    setting = SETTINGS[name]
    coupled = projected or spec.train.patience is not None
    return ("omq", "ta") if coupled and setting.heads == TA else setting.heads


def searchable(name: str) -> bool:
    """Whether a search may vary this setting: those that decide what is measured, and the seed, are no part of it."""
    return not name.startswith("data.") and name != "seed"


def kind(name: str) -> tuple[Literal["float", "int", "choice"], tuple[Any, ...]]:
    """The type of a searchable setting, and the values of one that has a fixed set of them."""
    section, _, key = name.partition(".")
    field = type(getattr(RunSpec(), section)).model_fields[key]
    annotation = field.annotation
    for part in field.metadata:
        if isinstance(part, Choice):
            return "choice", part.names
    if annotation is bool:
        return "choice", (False, True)
    if annotation is float:
        return "float", ()
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    members = [getattr(part, "__origin__", part) for part in get_args(annotation)]  # of an optional count
    return ("int", ()) if annotation is int or int in members else ("choice", ())


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The settings in which two flat dictionaries differ, as ``name: theirs -> ours``."""
    names = list(ours) + [name for name in theirs if name not in ours]
    return [f"{name}: {theirs.get(name)} -> {ours.get(name)}" for name in names if ours.get(name) != theirs.get(name)]


def try_settings(base: RunSpec, settings: Mapping[str, Any]) -> tuple[RunSpec | None, list[tuple[str, str]]]:
    """`base` with dotted `settings`, and what is wrong with them: pairs of (dotted name, what is wrong, what to do).

    A mistake between several settings has the name of their section, or none. There is no spec where anything is wrong.
    """
    mistakes = [
        (name, f"unknown setting '{name}'. {did_you_mean(name, SETTINGS)}") for name in settings if name not in SETTINGS
    ]
    known = {name: value for name, value in settings.items() if name in SETTINGS}
    try:
        spec = RunSpec.model_validate(nested(known, base.model_dump()))
    except ValidationError as error:
        return None, [*mistakes, *(_mistake(problem) for problem in error.errors())]
    return (None if mistakes else spec), mistakes


def _mistake(problem: Any) -> tuple[str, str]:
    name = ".".join(str(part) for part in problem["loc"][:2])
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "tuple_type":
        text = "Input should be a list, such as [dev]"
    elif name in _SWITCHED_OFF_BY_NULL:
        text = f"{text}, or null for none"
    found = "" if problem["type"] == "value_error" else f", found {shown(problem['input'])}"
    return name, f"setting '{name}': {text}{found}." if name else f"{text}."


def with_settings(base: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """`base` with dotted `settings` applied.

    Raises
    ------
    InputError
        With every unknown name and every value that is not allowed.
    """
    spec, mistakes = try_settings(base, settings)
    raise_all([text for _, text in mistakes])
    assert spec is not None, "nothing was wrong"
    return spec


def nested(settings: Mapping[str, Any], base: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Dotted settings as one mapping per section, over a mapping of that form."""
    found: dict[str, Any] = {name: dict(part) if isinstance(part, Mapping) else part for name, part in base.items()}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        if key:
            found.setdefault(section, {})[key] = value
        else:
            found[section] = value
    return found


def digest(value: Any) -> str:
    """A stable 32-digit name for a JSON-ready value: the SHA-256 of its sorted JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
