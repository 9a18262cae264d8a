"""What keys and types do not show: names and settings that mean nothing, designs that cannot decide."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from study.config.document import Position
from study.config.file import Row, Sweep
from study.config.schema import Compare, Contrast
from study.published import PUBLISHED
from study.stats import seeds_needed, smallest_p
from whisq_core.errors import did_you_mean
from whisq_core.metrics import known_metrics, unknown_metric
from whisq_core.spec import SETTINGS, RunSpec, effect

Mistakes = Iterator[tuple[Position, str]]

UNTRAINED_ENCODERS = {
    "backbone.audio": ("untrained:whisper", "untrained:wav2vec2", "untrained:clap"),
    "backbone.text": ("untrained:qwen3", "untrained:modernbert", "untrained:clap"),
}


def name_mistakes(rows: Mapping[Position, Row], by_id: Mapping[str, Row]) -> Mistakes:
    """Duplicated ids, extended rows that do not exist or lead back, published rows that do not exist."""
    for position, row in rows.items():
        first = by_id[row.id]
        if first is not row:
            yield position, f"this id is duplicated, first in line {first.line}. Rename one."
        if row.extends is not None and row.extends not in by_id:
            yield (*position, "extends"), _unknown("row", row.extends, by_id)
        circle = _circle(row, by_id)
        if len(circle) == 1:
            yield (*position, "extends"), "a row cannot extend itself. Name another row, or remove it."
        elif circle and row.line == min(by_id[row_id].line for row_id in circle):
            route = " -> ".join((*circle, row.id))
            yield (*position, "extends"), f"extends runs in a circle: {route}. Let one of them start from base."
        if row.quoted is not None and row.quoted not in PUBLISHED:
            yield (*position, "quoted"), _unknown("published row", row.quoted, PUBLISHED)


def _circle(row: Row, by_id: Mapping[str, Row]) -> list[str]:
    """The rows on the way from `row` back to itself; empty when it does not come back."""
    route, parent = [row.id], row.extends
    while parent is not None and parent in by_id and parent not in route:
        route.append(parent)
        parent = by_id[parent].extends
    return route if parent == row.id else []


def compare_mistakes(
    compare: Compare, by_id: Mapping[str, Row], sweeps: Mapping[str, Sweep], stand_ins: Collection[str]
) -> Mistakes:
    """Rows and metrics of `compare:` that do not exist, and comparisons that cannot be made."""
    if compare.to not in by_id:
        yield ("compare", "to"), _unknown("row", compare.to, by_id)
    if compare.metric not in known_metrics():
        yield ("compare", "metric"), unknown_metric(compare.metric)
    for index, name in enumerate(compare.rows):
        if name in compare.rows[:index]:
            text = f"row '{name}' is duplicated. Remove one."
        elif name not in by_id and name not in sweeps:
            text = _unknown("row", name, (*by_id, *sweeps))
        elif compare.to in by_id:
            to, rows = by_id[compare.to], sweeps[name].rows if name in sweeps else (name,)
            text = next(filter(None, (_pair_mistake(by_id[row], to, stand_ins) for row in rows)), "")
        else:
            continue
        if text:
            yield ("compare", "rows", index), text


def contrast_mistakes(contrasts: Sequence[Contrast], by_id: Mapping[str, Row]) -> Mistakes:
    """Contrasts of rows that do not exist, and weights that do not cancel."""
    for index, contrast in enumerate(contrasts):
        for name in contrast.rows:
            if name not in by_id:
                yield ("contrasts", index, "rows", name), _unknown("row", name, by_id)
        total = sum(contrast.rows.values())
        if abs(total) > 1e-9:
            text = f"the weights of '{contrast.id}' sum to {total:g}, and a contrast's cancel. Make them sum to 0."
            yield ("contrasts", index, "rows"), text


def _pair_mistake(row: Row, to: Row, stand_ins: Collection[str]) -> str:
    if row is to:
        return f"row '{row.id}' is compared to itself. Remove it."
    if row.id in stand_ins:
        return f"row '{row.id}' stands in a stand_in section, outside every comparison. Remove it."
    if to.id in stand_ins:
        return f"row '{row.id}' is compared to '{to.id}' of a stand_in section, outside every comparison. Remove it."
    if row.seeds != to.seeds:
        return f"row '{row.id}' has other seeds than '{to.id}', but pairs share a seed. Remove its seeds."
    return ""


def row_mistakes(settings: Mapping[str, Any], spec: RunSpec | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the settings that a row makes itself: (setting, text); `spec` is the whole row, if valid."""
    for name in settings:
        if name == "seed":
            yield name, "seeds are not a setting of a row. List them under 'seeds'."
        elif name in SETTINGS and SETTINGS[name].per_table:
            yield name, f"setting '{name}' belongs to the whole table: its rows share their clips. Set it in base."
        elif spec is not None and (reason := effect(name, spec)):
            yield name, f"setting '{name}' changes nothing here: {reason}. Remove it."
    yield from encoder_mistakes(settings)


def base_mistakes(settings: Mapping[str, Any], spec: RunSpec | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with settings for the whole table, valid as they may be: (setting, text)."""
    if "seed" in settings:
        yield "seed", "seeds are not a setting of base. List them under 'seeds'."
    yield from encoder_mistakes(settings)


def encoder_mistakes(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of untrained encoders that do not exist; whether other weights are there shows when a run is planned."""
    for name, allowed in UNTRAINED_ENCODERS.items():
        value = str(settings.get(name, ""))
        if value.startswith("untrained:") and value not in allowed:
            yield name, f"setting '{name}': unknown encoder '{value}'. {did_you_mean(value, allowed)}"


def design_warning(num_seeds: int, num_comparisons: int) -> str | None:
    """What this design cannot decide whatever comes out, or None when it can decide."""
    needed, bound = seeds_needed(num_comparisons), 0.05 / num_comparisons
    if num_seeds >= needed:
        return None
    return (
        f"no verdict 'better' or 'worse' is possible: the smallest p of {_count(num_seeds, 'seed')}, "
        f"2/2^{num_seeds} = {smallest_p(num_seeds):.4g}, is above .05/{num_comparisons} = {bound:.4g}. "
        f"{_count(num_comparisons, 'comparison')} need{'s' if num_comparisons == 1 else ''} at least {needed} seeds."
    )


def twin_warnings(rows: Iterable[Row]) -> Iterator[str]:
    """Pairs of rows that are the same runs under two names."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        twins = alike.setdefault(repr(row.at_seed(0).deciding_settings()), [])
        for other in twins:
            if shared := len(set(row.seeds) & set(other.seeds)):
                yield (
                    f"rows '{other.id}' and '{row.id}' have the same settings and share {_count(shared, 'seed')}: "
                    "these are the same runs and cannot differ."
                )
        twins.append(row)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what} '{name}'. {did_you_mean(name, known)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
