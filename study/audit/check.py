"""`whisq-study audit`: the rank correlations of a published table against what so many systems can give."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.audit.attainability import MAX_SYSTEMS, MIN_SYSTEMS
from study.audit.cells import AuditedCell, audited_cells
from study.audit.table import read_published_csv
from study.published import NUM_SYSTEMS, PUBLISHED
from whisq_core.errors import InputError, inert, shown
from whisq_core.metrics import title

_SHOWN = {"rounded": "attainable", "truncated": "attainable only when cut"}


@dataclass(frozen=True)
class Audit:
    """What was found in a table; `other_columns` are no metrics and were not looked at."""

    title: str
    cells: tuple[AuditedCell, ...]
    other_columns: tuple[str, ...] = ()

    def text(self) -> str:
        """For people: the findings, then the numbers they rest on."""
        return "\n".join((*_findings(self), "", *_intervals(self.cells)))

    def json(self) -> str:
        """One JSON object for scripts; undefined numbers are null."""
        found = {
            "title": self.title,
            "cells": [cell.line() for cell in self.cells],
            "other_columns": list(self.other_columns),
        }
        return json.dumps(found, indent=2, ensure_ascii=False)

    def csv(self) -> str:
        """One line per audited cell."""
        rows = [cell.line() for cell in self.cells]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
        return out.getvalue()


def audit(table: Path | None = None, num_systems: int | None = None) -> Audit:
    """Audit the paper's Table II and the other published rows on its clips, or the table in a CSV file.

    Parameters
    ----------
    table
        A CSV as `read_published_csv` describes it.
    num_systems
        The number of systems behind its system-level columns; the published rows have 29.

    Raises
    ------
    InputError
        When the CSV or the number of systems is wrong.
    """
    if num_systems is not None and num_systems < MIN_SYSTEMS:
        raise InputError(f"--systems {num_systems}: at least {MIN_SYSTEMS} systems are needed.")
    if num_systems is not None and num_systems > MAX_SYSTEMS:
        raise InputError(f"--systems {shown(num_systems)}: at most {MAX_SYSTEMS:,} systems are audited.")
    if table is None:
        number = NUM_SYSTEMS if num_systems is None else num_systems
        rows = PUBLISHED.values()
        cells = (cell for row in rows for cell in audited_cells(row.id, row.label, row.values, number))
        return Audit("Table II of the WhisQ paper, and two other published rows on the same clips", tuple(cells))
    published = read_published_csv(table, num_systems)
    cells = (
        cell
        for line in published.lines
        for cell in audited_cells(line.label, line.label, line.values, line.num_systems, line.ties)
    )
    return Audit(str(table), tuple(cells), published.other_columns)


def _findings(found: Audit) -> Iterator[str]:
    """Which rank correlations can occur."""
    ranked = [cell for cell in found.cells if cell.attainability]
    systems = " or ".join(map(str, sorted({cell.num_systems for cell in ranked})))
    verdicts = Counter(_SHOWN.get(cell.verdict, cell.verdict) for cell in ranked).most_common()
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts)
    yield from (found.title, "", f"{len(ranked)} rank correlations over {systems} systems: {counted}.")
    if found.other_columns:
        yield f"Columns that are no metrics were not looked at: {', '.join(found.other_columns)}."
    if impossible := [cell for cell in ranked if cell.verdict == "not attainable"]:
        yield from ("", "Not attainable: no two rankings of so many systems, without ties, give the printed digits,")
        yield "rounded or cut. Beside each cell: the nearest values that can occur, and ties that would allow it."
        yield from (f"  {_described(cell)}; {_ties(cell)}" for cell in impossible)
    if truncated := [cell for cell in ranked if cell.verdict == "truncated"]:
        yield from ("", "Attainable only with the last digit cut, not rounded:")
        yield from (f"  {_described(cell)}" for cell in truncated)


def _described(cell: AuditedCell) -> str:
    grid = cell.attainability
    assert grid is not None
    digits = len(cell.printed.partition(".")[2]) + 2
    nearest = f"{grid.below:.{digits}f} | {grid.above:.{digits}f}"
    return f"{cell.label:<28} {title(cell.metric):<10} {cell.printed:>7}   nearest {nearest}"


def _ties(cell: AuditedCell) -> str:
    assert cell.attainability is not None
    pairs = cell.attainability.tied_pairs
    if pairs is None:
        return "not with up to 3 tied pairs either"
    return "1 tied pair could allow it" if pairs == 1 else f"{pairs} tied pairs could allow it"


def _intervals(cells: Iterable[AuditedCell]) -> Iterator[str]:
    """The 95 % interval of every printed correlation."""
    yield "What so few systems leave open: 95 % intervals of the printed correlations (Fisher's z)"
    for cell in cells:
        interval = "undefined" if math.isnan(cell.low) else f"[{cell.low:.3f}, {cell.high:.3f}]"
        yield f"  {cell.label:<42} {title(cell.metric):<10} {cell.printed:>9}  {interval:<17} {cell.verdict}".rstrip()
