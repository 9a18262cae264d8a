"""The plan of a table in words: what would run, why, how long it takes, and which settings a row has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from study.ablation.cost import CostModel
from study.config import AblationFile, Row
from study.engine import Cell, State
from whisq_core.spec import RunSpec

_STATES = get_args(State)


def plan_text(file: AblationFile, cells: Sequence[Cell], costs: CostModel, workers: int) -> str:
    """What each row lacks, the reason once, and the minutes on one worker; then the sum, and what the design lacks."""
    lines = [f"{'row':<20} {'seeds':<8} {'state':<8} {'minutes':>7}  reason"]
    total = 0.0
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.row, cell.state, cell.reason), []).append(cell)
    for (row, state, reason), members in groups.items():
        minutes = sum(costs.minutes(cell.spec) for cell in members if cell.to_run)
        total += minutes
        lines.append(f"{row:<20} {_seeds(members):<8} {state:<8} {minutes:>7.2f}  {reason}".rstrip())
    counts = Counter(cell.state for cell in cells)
    summary = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    encoding = costs.encoding_minutes([cell.spec for cell in cells if cell.to_run], workers)
    known = "encoding not included" if encoding is None else f"{encoding:.1f} of them to encode"
    known = known if encoding != 0 else "nothing to encode"
    minutes = total / workers + (encoding or 0.0)
    lines.append(f"{summary}; about {minutes:.1f} minutes with {workers} worker(s), {known}")
    lines += [f"note: {warning}" for warning in file.warnings]
    return "\n".join(lines)


def _seeds(members: Sequence[Cell]) -> str:
    """The seeds of some cells as a file writes them: 0-9,12."""
    parts: list[list[int]] = []
    for seed in sorted(cell.seed for cell in members):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    return ",".join("-".join(map(str, part)) for part in parts)


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
