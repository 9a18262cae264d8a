"""One table as values: what every format shows, before any format shows it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.config import Row
from study.published import PUBLISHED, PublishedRow
from study.report.method import Mark, marks, row_marks, sentences, statement
from study.report.numbers import UNDEFINED
from study.results import TableResults
from study.stats.table import Judgement
from study.stats.uncertainty import Comparison, Interval, summarise
from study.stats.verdicts import Decision
from whisq_core.metrics import EXTRA, METRICS, higher_is_better, title

TARGETS = {"omq": "Overall quality (OMQ)", "ta": "Textual alignment (TA)"}


@dataclass(frozen=True)
class VerdictLine:
    """A row minus the reference on the primary metric; `decision` is None for a row without a declared verdict."""

    comparison: Comparison
    decision: Decision | None

    @property
    def word(self) -> str:
        """The verdict, or "exploratory"."""
        return self.decision.verdict if self.decision else "exploratory"

    @property
    def text(self) -> str:
        """The verdict with what limits it."""
        return f"{self.word}: {self.decision.reason}" if self.decision else self.word


@dataclass(frozen=True)
class TableRow:
    """One row of ours, with the published row beside it.

    `values` holds mean, standard deviation and interval over the seeds that are done, for each metric; it is empty
    while no seed is done. `verdict` is None for the reference, and for every row while the table grows. `num_trials` is
    the size of the row's own search; None where rows share their settings.
    """

    id: str
    label: str
    note: str | None
    marks: str
    num_seeds: int
    num_done: int
    num_failed: int
    values: dict[str, Interval]
    published: PublishedRow | None
    verdict: VerdictLine | None
    is_reference: bool
    num_trainable: int | None
    num_total: int | None
    macs: int | None
    num_trials: int | None

    @property
    def marked_label(self) -> str:
        """The label with its warning symbols."""
        return f"{self.label} {self.marks}" if self.marks else self.label

    @property
    def seeds(self) -> str:
        """`10` when all seeds are done, `3/10` while the table grows, `9/10, 1 failed` when a cell has failed."""
        if self.num_done == self.num_seeds:
            return str(self.num_seeds)
        failed = f", {self.num_failed} failed" if self.num_failed else ""
        return f"{self.num_done}/{self.num_seeds}{failed}"

    def quoted(self, metric: str) -> str:
        """The published number as it was printed; empty when there is none."""
        return self.published.values.get(metric, "") if self.published else ""  # noqa: PD011

    @property
    def placeholder(self) -> str:
        """What stands where this row has no number: undefined, failed, or nothing while it has not run."""
        if self.num_done:
            return UNDEFINED
        return "failed" if self.num_failed else ""

    def defined(self, metric: str) -> Interval | None:
        """Mean and interval of a metric, or None when there is no number to show."""
        value = self.values.get(metric)
        return None if value is None or np.isnan(value.mean) else value


@dataclass(frozen=True)
class TableSection:
    """A titled part of the table."""

    title: str
    note: str | None
    stand_in: bool
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class TableFrame:
    """The whole table. `incomplete` names every cell without a result, with its reason."""

    name: str
    corpus: str
    split: str
    metric: str
    reference: str | None
    sections: tuple[TableSection, ...]
    marks: tuple[Mark, ...]
    findings: tuple[str, ...]
    incomplete: tuple[str, ...]
    protocol: tuple[str, ...]
    statement: str

    @property
    def rows(self) -> Iterator[TableRow]:
        """All rows, in the order of the file."""
        return (row for section in self.sections for row in section.rows)

    @property
    def is_tuned(self) -> bool:
        """Whether rows have searches of their own."""
        return any(row.num_trials is not None for row in self.rows)

    @property
    def heading(self) -> str:
        """The table's name with its warnings: they stand wherever its numbers do."""
        warning = "".join(f" — {mark.short} {mark.symbol}" for mark in self.marks)
        return f"{self.name}: {self.split} split of {self.corpus}{warning}"


def table_frame(results: TableResults, judgement: Judgement | None) -> TableFrame:
    """Gather what the formats show; without a judgement (while the table grows) there are numbers but no verdicts."""
    verdicts = _verdict_lines(judgement)
    cells = _Cells.of(results.cells)
    compare = results.file.compare
    sections = tuple(
        TableSection(
            section.title,
            section.note,
            section.stand_in,
            tuple(_row(results, row, cells, verdicts.get(row.id)) for row in section.rows),
        )
        for section in results.file.sections
    )
    return TableFrame(
        name=results.file.name,
        corpus=results.corpus.name,
        split=results.split,
        metric=results.file.metric,
        reference=compare.to if compare else None,
        sections=sections,
        marks=marks(results),
        findings=_findings(results, judgement),
        incomplete=_incomplete(results),
        protocol=sentences(results),
        statement=statement(results),
    )


def _verdict_lines(judgement: Judgement | None) -> dict[str, VerdictLine]:
    if judgement is None:
        return {}
    primary = {row: judgement.primary(row) for row in judgement.rows}
    return {
        row: VerdictLine(comparison, judgement.rows[row].decision)
        for row, comparison in primary.items()
        if comparison is not None
    }


def _findings(results: TableResults, judgement: Judgement | None) -> tuple[str, ...]:
    """Alarms first, then flags of single rows, then the check of OMQ where it holds."""
    if judgement is None:
        return ()
    labels = {row.id: row.label for row in results.file.rows}
    flags = [f"{labels[row]}: {flag}." for row, judged in judgement.rows.items() for flag in judged.flags]
    same = [labels[row] for row, judged in judgement.rows.items() if judged.omq is not None and judged.omq.identical]
    check = f"OMQ predictions equal those of the reference bit for bit, as they must, in: {', '.join(same)}."
    return (*judgement.notes, *flags, *([check] if same else []))


@dataclass(frozen=True)
class _Cells:
    """The columns of `TableResults.cells` as arrays: the table is rewritten after every cell."""

    row: np.ndarray
    state: np.ndarray
    metrics: np.ndarray
    sizes: dict[str, np.ndarray]

    @classmethod
    def of(cls, cells: pd.DataFrame) -> "_Cells":
        names = ("num_trainable", "num_total", "macs")
        return cls(
            row=cells["row"].to_numpy(),
            state=cells["state"].to_numpy(),
            metrics=cells[list(METRICS + EXTRA)].to_numpy(np.float64),
            sizes={name: cells[name].to_numpy(np.float64, na_value=np.nan) for name in names},
        )


def _row(results: TableResults, row: Row, cells: _Cells, verdict: VerdictLine | None) -> TableRow:
    of_row = cells.row == row.id
    done = of_row & (cells.state == "done")
    num_done = int(done.sum())
    values = cells.metrics[done].T
    compare = results.file.compare
    return TableRow(
        id=row.id,
        label=row.label,
        note=row.note,
        marks=row_marks(results, row),
        num_seeds=int(of_row.sum()),
        num_done=num_done,
        num_failed=int((of_row & (cells.state == "failed")).sum()),
        values=dict(zip(METRICS + EXTRA, map(summarise, values), strict=True)) if num_done else {},
        published=PUBLISHED[row.quoted] if row.quoted else None,
        verdict=verdict,
        is_reference=compare is not None and row.id == compare.to,
        **{name: _known(sizes[done]) for name, sizes in cells.sizes.items()},
        num_trials=results.trials.get(row.id),
    )


def _known(values: np.ndarray) -> int | None:
    """The first number that is known; every seed of a row has the same."""
    known = values[~np.isnan(values)]
    return int(known[0]) if len(known) else None


def _incomplete(results: TableResults) -> tuple[str, ...]:
    """Each cell that has failed or is out of date, with the reason; cells that simply have not run are not listed."""
    cells = results.cells[results.cells["state"] != "done"]
    labels = {row.id: row.label for row in results.file.rows}
    return tuple(
        f"{labels[cell.row]}, seed {cell.seed}: {cell.state} ({cell.reason})"
        for cell in cells.itertuples()
        if cell.state == "failed" or cell.reason not in ("", "not run yet")
    )


def short_title(metric: str) -> str:
    """`U-SRCC`: the title of a metric under a heading that names its target."""
    return title(metric).split(" ", 1)[1]


def arrow(metric: str) -> str:
    """Which way is better: up for correlations, down for errors."""
    return "↑" if higher_is_better(metric) else "↓"
