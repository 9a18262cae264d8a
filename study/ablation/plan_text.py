"""The plan of a table in words: what would run, why, how long it takes, and which settings a row has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from study.ablation.cost import CostModel
from study.config import AblationFile, Row, seeds_text
from study.engine import Cell, State
from study.stats import design, power_curve
from whisq_core.metrics import parsed
from whisq_core.plugins import is_plugin
from whisq_core.spec import RunSpec

_STATES = get_args(State)


def plan_text(
    file: AblationFile, cells: Sequence[Cell], costs: CostModel, workers: int, num_systems: int, changed: str
) -> str:
    """What each row lacks and the minutes on one worker; each reason once; the sum, and what can be decided.

    `changed` says how the declared comparisons were changed after runs, if they were.
    """
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
    encoding = costs.encoding_minutes([cell.spec for cell in cells if cell.to_run], workers)
    known = "encoding not included" if encoding is None else f"{encoding:.1f} of them to encode"
    known = known if encoding != 0 else "nothing to encode"
    minutes = total / workers + (encoding or 0.0)
    lines.append(f"{summary}; about {minutes:.1f} minutes with {workers} worker(s), {known}")
    lines += [f"note: {warning}" for warning in file.warnings]
    if changed:
        lines.append(f"note: {file.path}: what `compare` compares was {changed}: verdicts will be exploratory.")
    return "\n".join([*lines, *_design_lines(file, num_systems)])


def _design_lines(file: AblationFile, num_systems: int) -> Iterator[str]:
    """What the declared comparisons can find, as far as that is known before the first run."""
    _, level, name = parsed(file.metric)
    if file.compare is None or level != "utterance" or name == "mse" or is_plugin(name):
        return
    size = len(file.compare.rows), len(file.row(file.compare.to).seeds), num_systems
    if curve := power_curve(*size):
        yield from ("", *design(*size), *curve)


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
