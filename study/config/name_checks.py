"""Whether the names in an ablation file mean something: ids, extended rows, quoted rows, declared comparisons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from study.config.written_settings import RowAsWritten
from study.config.yaml_lines import Position
from study.published.paper import PUBLISHED
from whisq_core.errors import did_you_mean
from whisq_core.metrics import EXTRA, METRICS


def row_name_mistakes(
    rows: Sequence[RowAsWritten], by_id: Mapping[str, RowAsWritten]
) -> Iterator[tuple[Position, str]]:
    """Ids that stand twice, extended rows that do not exist or lead back, published rows that do not exist."""
    for row in rows:
        first = by_id[row.id]
        if first is not row:
            yield row.position, f"this id stands twice, first in line {first.line}. Rename one."
        if row.parent is not None and row.parent not in by_id:
            yield (*row.position, "extends"), _unknown("row", row.parent, by_id)
        circle = _circle(row, by_id)
        if len(circle) == 1:
            yield (*row.position, "extends"), "a row cannot extend itself. Name another row, or remove it."
        elif circle and row.line == min(by_id[row_id].line for row_id in circle):
            route = " -> ".join((*circle, row.id))
            yield (*row.position, "extends"), f"extends runs in a circle: {route}. Let one of them start from base."
        if row.quoted is not None and row.quoted not in PUBLISHED:
            yield (*row.position, "quoted"), _unknown("published row", row.quoted, PUBLISHED)


def _circle(row: RowAsWritten, by_id: Mapping[str, RowAsWritten]) -> list[str]:
    """The rows on the way from `row` back to itself; empty when it does not come back."""
    route = [row.id]
    parent = row.parent
    while parent is not None and parent in by_id and parent not in route:
        route.append(parent)
        parent = by_id[parent].parent
    return route if parent == row.id else []


def compare_mistakes(compare: Mapping[str, Any], by_id: Mapping[str, RowAsWritten]) -> Iterator[tuple[Position, str]]:
    """What is wrong with the names in `compare:`; wrong types are reported by the check of the file's shape."""
    reference, rows, metric = compare.get("to"), compare.get("rows"), compare.get("metric")
    if isinstance(reference, str) and reference not in by_id:
        yield ("compare", "to"), _unknown("row", reference, by_id)
    if isinstance(metric, str) and metric not in (*METRICS, *EXTRA):
        yield ("compare", "metric"), _unknown("metric", metric, (*METRICS, *EXTRA))
    names = [name for name in rows if isinstance(name, str)] if isinstance(rows, list) else []
    for index, name in enumerate(names):
        text = "stands twice. Remove one." if name in names[:index] else ""
        text = text or _compared_mistake(name, str(reference), by_id)
        if name not in by_id:
            yield ("compare", "rows", index), _unknown("row", name, by_id)
        elif text:
            yield ("compare", "rows", index), f"row '{name}' {text}"


def _compared_mistake(name: str, reference: str, by_id: Mapping[str, RowAsWritten]) -> str:
    row, to = by_id.get(name), by_id.get(reference)
    if row is None or to is None:
        return ""
    if row is to:
        return "is compared to itself. Remove it."
    if row.stand_in or to.stand_in:
        which = "" if row.stand_in else f"is compared to '{reference}', which "
        return f"{which}is a stand-in, outside every comparison. Remove it."
    if row.seeds and to.seeds and row.seeds != to.seeds:
        return f"has other seeds than '{reference}', and the comparison is paired by seed. Remove its seeds."
    return ""


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what} '{name}'. {did_you_mean(name, known)}"
