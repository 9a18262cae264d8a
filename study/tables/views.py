"""What a table shows, declared once: its columns, and the tables that readers see of them.

Every format renders these columns. A new column is an entry in `columns` (and in a view, if readers shall see it).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from study.stats import Interval
from study.tables.frame import TableFrame, TableRow
from study.tables.numbers import amount, at_level, interval, mean_sd, p_value, percent, signed
from whisq_core.metrics import MEAN, higher_is_better, parsed, title

Kind = Literal[
    "text",
    "label",
    "seeds",
    "estimate",
    "published",
    "difference",
    "percent",
    "interval",
    "at_level",
    "p",
    "verdict",
    "count",
]

TARGETS = {"omq": "Overall quality (OMQ)", "ta": "Textual alignment (TA)"}


@dataclass(frozen=True)
class Column:
    """One column: `value` of a row (None shows nothing), which every format shows after its `kind`.

    `fields` are its names in table.csv, with all digits; none where another column has the same number. `below` is the
    column of published numbers that stands beneath this one.
    """

    heading: str
    kind: Kind
    value: Callable[[TableRow], Any]
    fields: tuple[str, ...] = ()
    below: "Column | None" = None

    @property
    def is_words(self) -> bool:
        """Whether its cells are sentences, ragged and to the left."""
        return self.kind == "verdict"

    def text(self, row: TableRow) -> str:
        """The cell as plain text."""
        value = self.value(row)
        return "" if value is None else _PLAIN[self.kind](value)


@dataclass(frozen=True)
class View:
    """One table for readers."""

    name: str
    title: str
    columns: Mapping[str, Column]


def _seeds(value: tuple[int, int, int]) -> str:
    """`10` when all declared seeds are done, `3 of 10` while some are missing, `9 of 10, 1 failed` with a failure."""
    num_seeds, num_done, num_failed = value
    if num_done == num_seeds:
        return str(num_seeds)
    return f"{num_done} of {num_seeds}" + (f", {num_failed} failed" if num_failed else "")


def _estimate(value: Interval | str) -> str:
    return value if isinstance(value, str) else mean_sd(value)


_PLAIN: dict[Kind, Callable[[Any], str]] = {
    "text": str,
    "label": lambda value: " ".join(filter(None, value)),
    "seeds": _seeds,
    "estimate": _estimate,
    "published": str,
    "difference": signed,
    "percent": percent,
    "interval": interval,
    "at_level": at_level,
    "p": p_value,
    "verdict": lambda value: ": ".join(filter(None, value)),
    "count": amount,
}


def columns(frame: TableFrame) -> dict[str, Column]:
    """Every column by its key, in the order of table.csv."""
    found = {
        "section": Column("section", "text", lambda row: row.declared.section, ("section",)),
        "row": Column("row", "text", lambda row: row.declared.id, ("row",)),
        "label": Column("configuration", "label", lambda row: (row.declared.label, row.marks), ("label",)),
        "marks": Column("marks", "text", lambda row: _mark_names(frame, row), ("marks",)),
        "seeds": Column(
            "seeds",
            "seeds",
            lambda row: (len(row.declared.seeds), row.num_done, row.num_failed),
            ("seeds", "seeds_done", "seeds_failed"),
        ),
        "metric": Column("metric", "text", lambda row: frame.metric, ("metric",)),
        "reference": Column(
            "reference", "text", lambda row: frame.reference.id if frame.reference else "", ("reference",)
        ),
        "verdict": Column("verdict", "verdict", lambda row: row.verdict, ("verdict", "reason")),
        "difference": _compared("difference", "difference", lambda found: found.mean, "difference"),
        "relative": _compared("relative", "percent", lambda found: found.relative, "relative"),
        "interval": Column(
            "interval (seeds and systems)", "at_level", lambda row: row.both, ("both_low", "both_high", "both_level")
        ),
        "by_seeds": _compared("95 % seeds", "interval", lambda found: found.seeds, "seeds_low", "seeds_high"),
        "by_systems": _compared(
            f"95 % {frame.group_noun}", "interval", lambda found: found.systems, "systems_low", "systems_high"
        ),
        "p_seed": _compared("p (seeds)", "p", lambda found: found.p_seed, "p_seed"),
        "p_system": _compared("p (systems)", "p", lambda found: found.p_system, "p_system"),
        "p_both": _compared("p (both)", "p", lambda found: found.p_both, "p_both"),
        "p_holm": Column("p (Holm)", "p", lambda row: row.decision.p_holm if row.decision else None, ("p_holm",)),
        "p_equivalent": Column(
            "p equivalent", "p", lambda row: row.decision.p_equivalent if row.decision else None, ("p_equivalent",)
        ),
        "paired_seeds": _compared("paired", "count", lambda found: found.n if found.paired else 0, "paired_seeds"),
        "declared": Column("declared", "text", _declared, ("declared",)),
    }
    for metric in frame.metrics:
        found |= _metric(frame, metric)
    if not frame.trained_here:
        return found
    sizes = {"num_trainable": "trainable parameters", "num_total": "total parameters", "macs": "MACs per clip"}
    if any(row.sizes["num_trials"] is not None for row in frame.rows):
        sizes["num_trials"] = "trials of its own search"
    return found | {name: Column(heading, "count", _size(name), (name,)) for name, heading in sizes.items()}


def views(frame: TableFrame) -> list[View]:
    """The tables for readers: verdicts, both targets, sizes."""
    all_columns = columns(frame)

    def view(name: str, heading: str, *keys: str) -> View:
        filled = [key for key in keys if key == frame.metric or any(map(all_columns[key].text, frame.rows))]
        return View(name, heading, {key: all_columns[key] for key in filled})

    against = f", differences from {frame.reference.label}" if frame.reference else ""
    single = not frame.trained_here and all(row.num_done == 1 for row in frame.rows)  # no error over seeds is known
    verdicts = view(
        "verdicts", f"Verdicts on {title(frame.metric)}{against}", "label", "seeds", frame.metric,
        *([f"{frame.metric}.published"] if frame.trained_here else []), "difference", "relative",
        "by_systems" if single else "interval", "p_holm", "verdict",
    )  # fmt: skip
    primary = replace(all_columns[frame.metric], heading=title(frame.metric), below=None)
    of_targets: dict[str, list[str]] = {}
    for metric in frame.metrics:
        of_targets.setdefault(parsed(metric).target, []).append(metric)
    shown = [replace(verdicts, columns={**verdicts.columns, frame.metric: primary})]
    shown += [
        view(target, TARGETS.get(target, target), "label", "seeds", *metrics)
        for target, metrics in of_targets.items()
        if metrics != [frame.metric]
    ]
    if frame.trained_here:
        shown.append(view("sizes", "Size and cost of a row", "label", "num_trainable", "num_total", "macs"))
    return shown


def _size(name: str) -> Callable[[TableRow], int | None]:
    return lambda row: row.sizes[name]


def _compared(heading: str, kind: Kind, value: Callable[[Any], Any], *fields: str) -> Column:
    """A column of the comparison with the reference, empty where nothing was compared."""
    return Column(heading, kind, lambda row: value(row.comparison) if row.comparison else None, fields)


def _declared(row: TableRow) -> str | None:
    return (row.changed or "beforehand") if row.decision else None


def _metric(frame: TableFrame, metric: str) -> dict[str, Column]:
    """Our estimate, with its heading under one that names the target, and the published number."""
    higher = not frame.lower_is_better if parsed(metric).statistic == MEAN else higher_is_better(metric)
    target = parsed(metric).target
    heading = f"{title(metric)[len(target) + 1 :]} {'↑' if higher else '↓'}"
    fields = (metric, f"{metric}.sd", f"{metric}.low", f"{metric}.high")
    if not frame.trained_here:
        return {metric: Column(heading, "estimate", lambda row: row.estimate(metric), fields)}
    published = Column("published", "published", lambda row: row.printed(metric), (f"{metric}.quoted",))
    estimate = Column(heading, "estimate", lambda row: row.estimate(metric), fields, published)
    return {metric: estimate, f"{metric}.published": published}


def _mark_names(frame: TableFrame, row: TableRow) -> str:
    return " ".join(mark.short for mark in frame.marks if mark.symbol in row.marks)
