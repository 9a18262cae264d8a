"""One table as values, before any format shows it: its rows, and the sentences around them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from study.config import Row
from study.judgement import Decision, Judgement
from study.published import PUBLISHED, PublishedRow
from study.results import TableResults
from study.stats import LEVEL, Comparison, Interval, summarise
from study.tables.method import Mark, marks, row_marks, sentences, warning_of
from study.tables.numbers import number

_SIZES = ("num_trainable", "num_total", "macs")


@dataclass(frozen=True)
class Declared:
    """What a table needs to know of a row: one of an ablation file, or anybody's."""

    id: str
    label: str
    section: str
    seeds: tuple[int, ...]


PANEL = Declared("human_panel", "Another panel of raters", "Human agreement", ())


@dataclass(frozen=True)
class TableRow:
    """One row, with the published row beside it.

    `values` holds mean, standard deviation and interval over the seeds that are done, for each metric; it is empty
    while no seed is done. `comparison` is the row minus the reference on the primary metric: None for the reference,
    and for every row while the table grows; `decision` is None for a row without a declared verdict, and `changed`
    says how the declaration was changed after runs: the verdict is exploratory then. `sizes` are num_trainable and
    num_total (parameters), macs (per clip) and num_trials (of the row's own search).
    """

    declared: Declared
    values: Mapping[str, Interval]
    num_done: int
    num_failed: int = 0
    marks: str = ""
    published: PublishedRow | None = None
    comparison: Comparison | None = None
    decision: Decision | None = None
    changed: str = ""
    is_reference: bool = False
    sizes: Mapping[str, int | None] = field(default_factory=lambda: dict.fromkeys((*_SIZES, "num_trials")))

    @property
    def label(self) -> str:
        """The row's label with its warning symbols."""
        return f"{self.declared.label} {self.marks}".rstrip()

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The verdict's word and what it rests on or what limits it; None where nothing was compared."""
        if self.is_reference:
            return "reference", ""
        if self.decision and self.changed:
            return f"exploratory ({self.decision.verdict})", f"{self.changed}; {self.decision.reason}"
        if self.decision:
            return self.decision.verdict, self.decision.reason
        return ("exploratory", "") if self.comparison else None

    @property
    def both(self) -> tuple[Interval, float] | None:
        """The interval of both errors at the level that the verdict uses; at 95 % where there is none."""
        if self.decision:
            return self.decision.interval, self.decision.level
        return (self.comparison.interval(), LEVEL) if self.comparison else None

    def printed(self, metric: str) -> str:
        """The published number as it was printed; empty when there is none."""
        return self.published.values.get(metric, "") if self.published else ""  # noqa: PD011

    def estimate(self, metric: str) -> Interval | str:
        """Mean and interval of a metric, or what stands where there is none: undefined, failed, or not run."""
        value = self.values.get(metric)
        if value is not None and not np.isnan(value.mean):
            return value
        return "–" if self.num_done else "failed" if self.num_failed else ""


@dataclass(frozen=True)
class TableSection:
    """A titled part of the table."""

    title: str
    note: str | None
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class TableFrame:
    """The whole table. `notes` are the sentences below its numbers, by heading; there is none without sentences.

    `metrics` are those that it shows. A table that was not `trained_here` has neither sizes nor published rows.
    `warning` must stand wherever a number of this table does; it is empty for trained encoders on people's ratings.
    """

    name: str
    heading: str
    warning: str
    marks: tuple[Mark, ...]
    metric: str
    metrics: tuple[str, ...]
    sections: tuple[TableSection, ...]
    notes: dict[str, tuple[str, ...]]
    lower_is_better: bool = False
    group_noun: str = "systems"
    trained_here: bool = True

    @property
    def rows(self) -> Iterator[TableRow]:
        """All rows, in the order of the file."""
        return (row for section in self.sections for row in section.rows)

    @property
    def reference(self) -> Declared | None:
        """The row that others are compared with."""
        return next((row.declared for row in self.rows if row.is_reference), None)

    @property
    def agreement(self) -> Interval | None:
        """How another panel of raters does on the primary metric; None where it is not known."""
        found = next((row.estimate(self.metric) for row in self.rows if row.declared is PANEL), None)
        return found if isinstance(found, Interval) else None

    @property
    def statement(self) -> str:
        """The protocol as one paragraph for a paper, warnings first."""
        return " ".join([*(mark.text for mark in self.marks), *self.notes["Protocol"]])


def table_frame(results: TableResults, judgement: Judgement | None) -> TableFrame:
    """Gather what the formats show; without a judgement (while the table grows) there are numbers but no verdicts."""
    of_rows = dict(iter(results.cells.groupby("row", sort=False)))
    symbols = row_marks(results)
    sections = tuple(
        TableSection(
            section.title,
            section.note,
            tuple(_row(results, row, of_rows[row.id], symbols[row.id], judgement) for row in section.rows),
        )
        for section in results.file.sections
    )
    if judgement and judgement.panel:
        sections += (TableSection(PANEL.section, None, (_panel(judgement),)),)
    warning = warning_of(results)
    notes = {
        "Notes on rows": tuple(f"{row.label}: {row.note}" for row in results.file.rows if row.note),
        "Checks": _checks(results, judgement),
        "Contrasts": tuple(_contrasts(results, judgement)) if judgement else (),
        "Design": judgement.design if judgement else (),
        "Cells without a result": _incomplete(results),
        "Protocol": sentences(results, judgement.procedure if judgement else ""),
    }
    return TableFrame(
        name=results.file.name,
        heading=f"{results.file.name}: {results.split} split of {results.corpus.name}{warning}",
        warning=warning,
        marks=marks(results),
        metric=results.file.metric,
        metrics=results.file.metrics,
        sections=sections,
        notes={heading: texts for heading, texts in notes.items() if texts},
    )


def _row(results: TableResults, row: Row, cells: pd.DataFrame, symbols: str, judgement: Judgement | None) -> TableRow:
    done, names = cells[cells["state"] == "done"], results.file.metrics
    values = done[list(names)].to_numpy(np.float64).T
    judged = judgement.rows.get(row.id) if judgement else None
    compare = results.file.compare
    return TableRow(
        declared=Declared(row.id, row.label, row.section, row.seeds),
        values=dict(zip(names, map(summarise, values), strict=True)) if len(done) else {},
        num_done=len(done),
        num_failed=int((cells["state"] == "failed").sum()),
        marks=symbols,
        published=PUBLISHED[row.quoted] if row.quoted else None,
        comparison=judged.comparisons.get(judgement.metric) if judged and judgement else None,
        decision=judged.decision if judged else None,
        changed=judgement.changed if judgement else "",
        is_reference=compare is not None and row.id == compare.to,
        sizes={**{name: _known(done[name]) for name in _SIZES}, "num_trials": results.trials.get(row.id)},
    )


def _panel(judgement: Judgement) -> TableRow:
    """How well another panel of as many raters would score the clips: a row without seeds."""
    return TableRow(PANEL, judgement.panel, num_done=0)


def _contrasts(results: TableResults, judgement: Judgement) -> Iterator[str]:
    """Each contrast as a sentence: its rows, estimate, interval of both errors and p."""
    for declared in results.file.contrasts:
        found = judgement.contrasts[declared.id]
        rows = " ".join(f"{weight:+g} {row}" for row, weight in declared.rows.items())
        if not found.n:
            yield f"{declared.label} ({rows}): no seed is done in all of its rows."
            continue
        interval = found.interval()
        yield (
            f"{declared.label} ({rows}): {number(found.mean)}, 95 % interval [{number(interval.low)}, "
            f"{number(interval.high)}], p = {found.p:.3g}, exploratory."
        )


def _known(values: pd.Series) -> int | None:
    """The first number that is known; every seed of a row has the same."""
    known = values.dropna()
    return int(known.iloc[0]) if len(known) else None


def _incomplete(results: TableResults) -> tuple[str, ...]:
    """Each cell that has failed or is out of date, with the reason; cells that simply have not run are not listed."""
    cells = results.cells[results.cells["state"] != "done"]
    labels = {row.id: row.label for row in results.file.rows}
    return tuple(
        f"{labels[cell.row]}, seed {cell.seed}: {cell.state} ({cell.reason})"
        for cell in cells.itertuples()
        if cell.state == "failed" or cell.reason not in ("", "not run yet")
    )


def _checks(results: TableResults, judgement: Judgement | None) -> tuple[str, ...]:
    """Alarms first, then flags of single rows, then the check of OMQ where it holds."""
    if judgement is None:
        return ()
    labels = {row.id: row.label for row in results.file.rows}
    flags = [f"{labels[row]}: {flag}." for row, judged in judgement.rows.items() for flag in judged.flags]
    same = [labels[row] for row, judged in judgement.rows.items() if judged.omq_difference == 0]
    check = f"OMQ predictions are bit-identical to the reference's, as they must be, in: {', '.join(same)}."
    return (*judgement.notes, *flags, *([check] if same else []))
