"""What a valid row may still not do: change settings that it cannot reach, or that belong to the whole table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.stats import seeds_needed, smallest_p
from whisq_core.errors import did_you_mean
from whisq_core.spec import RunSpec


@dataclass(frozen=True)
class _Unreachable:
    """Settings (names, or sections ending in a dot) that change nothing where `applies` holds."""

    names: tuple[str, ...]
    applies: Callable[[RunSpec], bool]
    why: str


_UNREACHABLE = (
    _Unreachable(
        ("backbone.", "loss.", "train.", "model."),
        lambda spec: spec.model.predictor != "whisq",
        "this predictor hears nothing and is not trained",
    ),
    _Unreachable(
        ("loss.alignment", "loss.p", "loss.blur", "loss.diameter", "loss.scaling"),
        lambda spec: spec.loss.ot_weight == 0,
        "loss.ot_weight is 0",
    ),
    _Unreachable(("loss.huber_delta",), lambda spec: spec.loss.task != "huber", "loss.task is not huber"),
    _Unreachable(
        ("model.heads", "model.residual"), lambda spec: spec.model.attention == "none", "model.attention is none"
    ),
    _Unreachable(("train.momentum",), lambda spec: spec.train.optimizer != "sgd", "train.optimizer is not sgd"),
    _Unreachable(("train.clip_norm",), lambda spec: spec.train.clip_scope == "none", "train.clip_scope is none"),
)

UNTRAINED_ENCODERS = {
    "backbone.audio": ("untrained:whisper", "untrained:wav2vec2", "untrained:clap"),
    "backbone.text": ("untrained:qwen3", "untrained:modernbert", "untrained:clap"),
}


def row_mistakes(settings: Mapping[str, Any], spec: RunSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with the settings that a row makes itself: (setting, text); `spec` is the whole row."""
    for name in settings:
        reason = _unreachable(name, spec)
        if name == "seed":
            yield name, "seeds are not a setting of a row. List them under 'seeds'."
        elif name.startswith("data."):
            yield name, f"setting '{name}' belongs to the whole table: its rows share their clips. Set it in base."
        elif reason:
            yield name, f"setting '{name}' changes nothing here: {reason}. Remove it."
    yield from encoder_mistakes({name: settings[name] for name in UNTRAINED_ENCODERS if name in settings})


def encoder_mistakes(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of untrained encoders that do not exist; whether other weights are there shows when a run is planned."""
    for name, allowed in UNTRAINED_ENCODERS.items():
        value = str(settings.get(name, ""))
        if value.startswith("untrained:") and value not in allowed:
            yield name, f"setting '{name}': unknown encoder '{value}'. {did_you_mean(value, allowed)}"


def _unreachable(name: str, spec: RunSpec) -> str:
    """Why `name` changes nothing in `spec`; empty when it does."""
    if name == "model.predictor":
        return ""
    for rule in _UNREACHABLE:
        touched = any(name == part or (part.endswith(".") and name.startswith(part)) for part in rule.names)
        if touched and rule.applies(spec):
            return rule.why
    return ""


def design_warning(num_seeds: int, num_comparisons: int) -> str | None:
    """What this design cannot decide whatever comes out, or None when it can decide."""
    needed = seeds_needed(num_comparisons)
    if num_seeds >= needed:
        return None
    bound = 0.05 / num_comparisons
    return (
        f"no verdict 'better' or 'worse' is possible: the smallest p of {_count(num_seeds, 'seed')}, "
        f"2/2^{num_seeds} = {smallest_p(num_seeds):.4g}, is above .05/{num_comparisons} = {bound:.4g}. "
        f"{_count(num_comparisons, 'comparison')} need{'s' if num_comparisons == 1 else ''} at least {needed} seeds."
    )


def twin_warnings(rows: Sequence[tuple[str, RunSpec, tuple[int, ...]]]) -> Iterator[str]:
    """Pairs of rows that are the same runs under two names: (id, spec, seeds) of every row."""
    for index, (row_id, spec, seeds) in enumerate(rows):
        for other_id, other, other_seeds in rows[:index]:
            shared = [seed for seed in seeds if seed in other_seeds]
            if shared and _without_seed(spec) == _without_seed(other):
                yield (
                    f"rows '{other_id}' and '{row_id}' have the same settings and share {_count(len(shared), 'seed')}: "
                    "these are the same runs and cannot differ."
                )


def _without_seed(spec: RunSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.deciding_settings().items() if name != "seed"}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
