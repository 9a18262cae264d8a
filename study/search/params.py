"""Optuna's parameters for the searched settings.

An integer range marked `power_of_two` becomes an integer parameter for the exponent (``train.log2_batch_size``),
because categorical parameters cannot be widened later.
"""

from collections.abc import Mapping
from typing import Any

from optuna.trial import BaseTrial

from study.config import Range
from whisq_core.errors import raise_all
from whisq_core.spec import kind


def suggest(trial: BaseTrial, space: Mapping[str, Range]) -> dict[str, Any]:
    """Ask `trial` for a value of every searched setting: dotted settings for `with_settings`."""
    return {name: _suggested(trial, name, where) for name, where in space.items()}


def _suggested(trial: BaseTrial, name: str, where: Range) -> Any:
    if values := where.values(name):
        return trial.suggest_categorical(name, values)
    low, high = where.low, where.high
    assert low is not None and high is not None, "a checked range has both ends"  # noqa: PT018
    if where.power_of_two:
        return 2 ** trial.suggest_int(param_name(name, where), int(low).bit_length() - 1, int(high).bit_length() - 1)
    if kind(name)[0] == "int":
        return trial.suggest_int(name, int(low), int(high), log=where.log)
    return trial.suggest_float(name, float(low), float(high), log=where.log)


def param_name(name: str, where: Range) -> str:
    """The name of Optuna's parameter for a setting."""
    section, _, key = name.partition(".")
    return f"{section}.log2_{key}" if where.power_of_two else name


def shown_settings(settings: Mapping[str, Any]) -> str:
    """Settings for a line of text: "learning_rate 0.0012, batch_size 32"."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name.partition('.')[2]} {value}" for name, value in shown.items())


def to_params(settings: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """Optuna's parameters for `settings` (all of a run's, or at least those searched); `InputError` outside a range."""
    outside = [
        f"setting '{name}' = {settings[name]} lies outside the search space ({where}). Widen it or change the value."
        for name, where in space.items()
        if not where.contains(name, settings[name])
    ]
    raise_all(outside)
    return {
        param_name(name, where): settings[name].bit_length() - 1 if where.power_of_two else settings[name]
        for name, where in space.items()
    }


def to_settings(params: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """The dotted settings that a trial's parameters stand for: the inverse of `to_params`."""
    found = {name: params[param_name(name, where)] for name, where in space.items()}
    return {name: 2**value if space[name].power_of_two else value for name, value in found.items()}
