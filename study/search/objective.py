"""The number that a search improves: one metric, or the mean of several."""

import math
from collections.abc import Mapping, Sequence

from whisq_core.metrics import brought, higher_is_better

MAX_REPORTS = 25  # of the objective per trial: each is a transaction, and pruning needs no more


def objective_name(names: Sequence[str]) -> str:
    """What the objective is called wherever it is shown; a metric that runs the other way is subtracted."""
    signed = [name if _agrees(name, names) else f"-{name}" for name in names]
    return signed[0] if len(names) == 1 else f"mean of {', '.join(signed)}"


def objective_value(metrics: Mapping[str, float | None], names: Sequence[str]) -> float:
    """The objective in the direction of its first metric; NaN where a part is not finite, so that it never wins."""
    parts = [math.nan if (value := metrics[name]) is None else value for name in names]  # null: as JSON keeps NaN
    value = sum(part if _agrees(name, names) else -part for name, part in zip(names, parts, strict=True)) / len(parts)
    return value if math.isfinite(value) else math.nan


def brought_text(names: Sequence[str]) -> str:
    """Which of these metrics other packages brought, with their versions: ``(a of b==1.0)``, or nothing."""
    found = ", ".join(f"{name} of {distribution}" for name, distribution in brought(names).items())
    return f" ({found})" if found else ""


def stride(epochs: int) -> int:
    """Every how many epochs the objective is reported."""
    return math.ceil(epochs / MAX_REPORTS)


def _agrees(name: str, names: Sequence[str]) -> bool:
    return higher_is_better(name) == higher_is_better(names[0])
