"""`whisq-study audit`: what the printed numbers of a table can be, counted; what they mean is left to the reader."""

import json
from dataclasses import dataclass
from pathlib import Path

from study.audit.attainability import MAX_SYSTEMS, MIN_SYSTEMS
from study.audit.cells import AuditedCell, Fitting, audited_cells, fitting_systems
from study.audit.table import PublishedTable, TableLine, read_published_csv
from study.audit.text import audit_text
from study.audit.variance import Gain, LabelVariance, gains, label_variances
from study.published import NUM_SYSTEMS, PUBLISHED
from whisq_core.errors import InputError, inert, raise_all, shown


@dataclass(frozen=True)
class Audit:
    """What was found in a table.

    `fitting` are the numbers of systems that fit the rank correlations of a row; `variances` and `gains` rest on
    errors and correlations together.
    """

    title: str
    table: PublishedTable
    cells: tuple[AuditedCell, ...]
    fitting: tuple[Fitting, ...]
    variances: tuple[LabelVariance, ...]
    gains: tuple[Gain, ...]

    def text(self) -> str:
        """For people: the findings, then the numbers they rest on."""
        return audit_text(self)

    def json(self) -> str:
        """One JSON object for scripts; undefined numbers are null."""
        found = {
            "title": self.title,
            "cells": [vars(cell) for cell in self.cells],
            "fitting_systems": [vars(each) for each in self.fitting],
            "label_variances": [vars(each) for each in self.variances],
            "gains": [vars(each) for each in self.gains],
            "percent_columns": self.table.percent,
            "other_columns": self.table.other_columns,
            "without_runs": self.table.without_runs,
        }
        return json.dumps(found, indent=2, ensure_ascii=False)

    def csv(self) -> str:
        """One line per printed number."""
        import pandas as pd  # as long as all the rest of an audit

        lines = pd.DataFrame(map(vars, self.cells), dtype=object)
        return str(lines.map(inert).to_csv(index=False, lineterminator="\n"))


def audit(table: Path | None = None, num_systems: int | None = None, runs: int | None = None) -> Audit:
    """Audit the paper's Table II and the other published rows on its clips, or the table in a CSV file.

    Parameters
    ----------
    table
        A CSV as `read_published_csv` describes it.
    num_systems
        Systems behind the system-level columns, where the CSV does not say it per line. Default for the paper's: 29.
    runs
        Each number is the mean of so many runs, where the table does not say it; None: nobody knows.

    Raises
    ------
    InputError
        With every mistake of the options or the CSV.
    """
    mistakes = []
    if num_systems is not None and num_systems < MIN_SYSTEMS:
        mistakes.append(f"--systems {num_systems}: at least {MIN_SYSTEMS} systems are needed.")
    if num_systems is not None and num_systems > MAX_SYSTEMS:
        mistakes.append(f"--systems {shown(num_systems)}: at most {MAX_SYSTEMS:,} systems are audited.")
    if runs is not None and runs < 1:
        mistakes.append(f"--runs {runs}: at least 1 is needed. Leave it out where nobody knows.")
    raise_all(mistakes)
    if table is None:
        title, number = "Table II of the WhisQ paper, and two other published rows on the same clips", num_systems
        rows = PUBLISHED.values()
        lines = [TableLine(r.id, r.label, dict(r.values), number or NUM_SYSTEMS, runs=r.runs or runs) for r in rows]
        read = PublishedTable(tuple(lines))
    else:
        title, read = str(table), read_published_csv(table, num_systems, runs)
    cells = tuple(cell for line in read.lines for cell in audited_cells(line))
    if not cells:
        raise InputError(f"{title}: every metric is blank, or of a row without runs. Fill in what was printed.")
    single = [line for line in read.lines if line.runs in (None, 1)]
    same_clips = [line for line in single if line.num_systems == single[0].num_systems]
    variances = label_variances(same_clips)
    fitting = tuple(each for line in read.lines if (each := fitting_systems(line)))
    return Audit(title, read, cells, fitting, tuple(variances), tuple(gains(same_clips, variances)))
