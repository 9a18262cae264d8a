"""`whisq-study audit`: published numbers against what is possible, what is claimed from them, and what we measured."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from study.audit.attainability import MIN_SYSTEMS
from study.audit.cells import AuditedCell, audited_cells
from study.audit.claims import Count, Gain, Rival, counts, gains, state_of_the_art, worse_than_constant
from study.audit.placement import PlacedCell
from study.audit.text import (
    attainable_part,
    count_part,
    failed_part,
    gain_part,
    interval_part,
    placed_part,
    rival_part,
)
from study.published.paper import NUM_SYSTEMS, PUBLISHED
from study.published.tables import read_published_csv
from whisq_core.errors import InputError


@dataclass(frozen=True)
class Audit:
    """What was found. `gains` to `worse_than_constant` audit the paper itself and are empty for another table."""

    title: str
    cells: tuple[AuditedCell, ...]
    gains: tuple[Gain, ...] = ()
    counts: tuple[Count, ...] = ()
    rival: Rival | None = None
    worse_than_constant: tuple[str, ...] = ()
    placed: tuple[PlacedCell, ...] = ()
    other_columns: tuple[str, ...] = ()

    @property
    def not_attainable(self) -> tuple[AuditedCell, ...]:
        """The cells that no two rankings of so many systems can give."""
        return tuple(cell for cell in self.cells if cell.verdict == "not attainable")

    @property
    def truncated(self) -> tuple[AuditedCell, ...]:
        """The cells that can only occur when the last digit was cut, not rounded."""
        return tuple(cell for cell in self.cells if cell.verdict == "truncated")

    def with_placements(self, placed: Iterable[PlacedCell]) -> "Audit":
        """This audit with published cells placed against our own intervals (`placement.place_row`)."""
        return replace(self, placed=tuple(placed))

    def text(self) -> str:
        """For people: the findings, then the numbers they rest on; parts that do not apply are left out."""
        parts = [attainable_part(self.title, self.cells, self.other_columns), interval_part(self.cells)]
        parts += [gain_part(self.gains), count_part(self.counts)] if self.gains else []
        parts += [rival_part(self.rival)] if self.rival else []
        parts += [failed_part(self.worse_than_constant)] if self.worse_than_constant else []
        parts += [placed_part(self.placed)] if self.placed else []
        return "\n\n".join("\n".join(part) for part in parts)

    def json(self) -> str:
        """One JSON object for scripts; undefined numbers are null."""
        found = asdict(self) | {"cells": [cell.line() for cell in self.cells]}
        return json.dumps(_defined(found), indent=2, ensure_ascii=False)

    def csv(self) -> str:
        """One line per audited cell."""
        return _csv(cell.line() for cell in self.cells)

    def placements_csv(self) -> str:
        """One line per published cell and our interval for it."""
        return _csv(_defined(asdict(cell)) for cell in self.placed)


def audit(table: Path | None = None, num_systems: int | None = None) -> Audit:
    """Audit the paper's Table II with its claims, or the table in a CSV file (then `num_systems` is needed).

    Raises:
        InputError: when the CSV or the number of systems is wrong.
    """
    if num_systems is not None and num_systems < MIN_SYSTEMS:
        raise InputError(f"--systems {num_systems}: at least {MIN_SYSTEMS} systems are needed.")
    if table is None:
        return _audit_paper(NUM_SYSTEMS if num_systems is None else num_systems)
    published = read_published_csv(table, num_systems)
    cells = tuple(
        cell
        for line in published.lines
        for cell in audited_cells(line.label, line.label, line.values, line.num_systems, line.ties)
    )
    return Audit(str(table), cells, other_columns=published.other_columns)


def _audit_paper(num_systems: int) -> Audit:
    cells = tuple(
        cell for row in PUBLISHED.values() for cell in audited_cells(row.id, row.label, row.values, num_systems)
    )
    title = "Table II of the WhisQ paper, and two other published rows on the same clips"
    return Audit(title, cells, gains(), counts(), state_of_the_art(), worse_than_constant())


def _csv(lines: Iterable[dict[str, Any]]) -> str:
    rows = list(lines)
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _defined(value: Any) -> Any:
    """NaN as None, all the way down: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
