"""The plan of a table in words: what would run, why, how long it takes, and which settings a row has."""

from collections.abc import Iterator, Sequence

from study.ablation.cost import CostModel
from study.config import AblationFile, Row
from study.engine.plan import PlannedCell
from whisq_core.spec import RunSpec

_STATES = ("new", "stale", "done", "blocked")


def plan_text(file: AblationFile, cells: Sequence[PlannedCell], costs: CostModel, workers: int) -> str:
    """State, reason and minutes of each cell, and what the design can decide."""
    lines = [f"{'row':<20} {'seed':>5}  {'state':<8} {'minutes':>7}  reason"]
    total = 0.0
    for planned in cells:
        minutes = costs.minutes(planned.cell.spec) if planned.to_run else 0.0
        total += minutes
        cell = f"{planned.cell.row.id:<20} {planned.cell.seed:>5}  {planned.state:<8} {minutes:>7.2f}"
        lines.append(f"{cell}  {planned.reason}".rstrip())
    counts = {state: sum(planned.state == state for planned in cells) for state in _STATES}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines.append(f"{summary}; about {total / workers:.1f} minutes with {workers} worker(s)")
    lines += [f"note: {warning}" for warning in file.warnings]
    return "\n".join(lines)


def settings_text(file: AblationFile, cells: Sequence[PlannedCell]) -> str:
    """For each row of `cells` its resolved settings, and in which of them it differs from the file's base."""
    specs: dict[str, tuple[Row, RunSpec]] = {}
    for planned in cells:
        specs.setdefault(planned.cell.row.id, (planned.cell.row, planned.cell.spec))
    return "\n".join(line for row, spec in specs.values() for line in _row_lines(file, row, spec))


def _row_lines(file: AblationFile, row: Row, spec: RunSpec) -> Iterator[str]:
    different = file.difference_from_base(row)
    yield f"\nrow '{row.id}', {row.label}: {'differs from base in' if different else 'as base'}"
    yield from (f"  {line}" for line in different)
    settings = spec.settings() if spec.uses_features else spec.deciding_settings()
    yield "settings:"
    yield from (f"  {name}: {_shown(value)}" for name, value in settings.items() if name != "seed")


def _shown(value: object) -> str:
    return "none" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
