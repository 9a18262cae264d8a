"""The plan of a table in words: what would run, why, how long it takes, and which settings a row has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from study.ablation.cost import CostModel
from study.config import AblationFile, Row, seeds_text
from study.engine import Cell, State
from whisq_core.spec import RunSpec

_STATES = get_args(State)


def plan_text(file: AblationFile, cells: Sequence[Cell], costs: CostModel, workers: int) -> str:
    """What each row lacks and the minutes on one worker; each reason once; the sum, and what the design lacks."""
    width = max(len(cell.row) for cell in cells)
    lines = [f"{'row':<{width}}  minutes  seeds"]
    total, reasons = 0.0, list(dict.fromkeys(cell.reason for cell in cells if cell.reason))
    for row in dict.fromkeys(cell.row for cell in cells):
        groups: dict[tuple[State, str], list[Cell]] = {}
        for cell in cells:
            if cell.row == row:
                groups.setdefault((cell.state, cell.reason), []).append(cell)
        minutes = sum(costs.minutes(cell.spec) for group in groups.values() for cell in group if cell.to_run)
        total += minutes
        states = [
            f"{seeds_text(cell.seed for cell in group)} {state}" + (f" ({reasons.index(reason) + 1})" if reason else "")
            for (state, reason), group in groups.items()
        ]
        lines.append(f"{row:<{width}}  {minutes:>7.2f}  {'; '.join(states)}")
    lines += [f"({number}) {reason}" for number, reason in enumerate(reasons, start=1)]
    counts = Counter(cell.state for cell in cells)
    summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    lines.append(f"{summary}; about {total / workers:.1f} minutes with {workers} worker(s), encoding not included")
    lines += [f"note: {warning}" for warning in file.warnings]
    return "\n".join(lines)


def settings_text(file: AblationFile, cells: Sequence[Cell]) -> str:
    """For each row of `cells` its resolved settings, and in which of them it differs from the file's base."""
    specs = {cell.row: cell.spec for cell in reversed(cells)}
    rows = dict.fromkeys(cell.row for cell in cells)
    return "\n".join(line for row in rows for line in _row_lines(file, file.row(row), specs[row]))


def _row_lines(file: AblationFile, row: Row, spec: RunSpec) -> Iterator[str]:
    different = file.difference_from_base(row)
    yield f"\nrow '{row.id}', {row.label}: {'differs from base in' if different else 'as base'}"
    yield from (f"  {line}" for line in different)
    settings = spec.settings() if spec.uses_features else spec.deciding_settings()
    yield "settings:"
    yield from (f"  {name}: {_shown(value)}" for name, value in settings.items() if name != "seed")


def _shown(value: object) -> str:
    return "none" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
