"""Anybody's rows, judged: the verdict table of `Predictions`, in every format."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from study.judgement import Evidence, Judgement
from study.judgement import judge as judge_evidence
from study.scoring.predictions import Predictions, read_frame
from study.stats import Interval
from study.tables import FORMATS, Declared, TableFrame, TableRow, TableSection, plugin_metric
from whisq_core.errors import InputError, did_you_mean
from whisq_core.files import write_atomically
from whisq_core.metrics import MEAN, known_metrics, metrics_of, parsed, title, unknown_metric

MARGIN = 0.01
_PREFERRED = "ta"  # the target that is judged where nobody says which: textual alignment


@dataclass(frozen=True)
class JudgedTable:
    """A table of rows with its verdicts; a notebook shows it as HTML.

    `frame` is what all formats show, `judgement` what the statistics found.
    """

    frame: TableFrame
    judgement: Judgement

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One line for each row on the primary metric: mean, difference, intervals, p values, verdict and reason.

        `low` and `high` bound the difference by both errors at `level`: that of the verdict, .95 where a row has none.
        `systems_low` and `systems_high` bound it, always at 95 %, by the error of other groups of items alone, which
        single runs have too; so do `seeds_low` and `seeds_high` of table.csv by that of other seeds alone.
        """
        lines = []
        for row in self.frame.rows:
            found, decision = row.comparison, row.decision
            both, level = row.both or (None, np.nan)
            word, reason = row.verdict or ("", "")
            lines.append(
                {
                    "row": row.declared.id,
                    "metric": self.judgement.metric,
                    "seeds": row.num_done,
                    "mean": getattr(self._summaries(row).get(self.judgement.metric), "mean", np.nan),
                    "difference": found.mean if found else np.nan,
                    "low": both.low if both else np.nan,
                    "high": both.high if both else np.nan,
                    "level": level if both and not np.isnan(both.low) else np.nan,
                    "systems_low": found.systems.low if found else np.nan,
                    "systems_high": found.systems.high if found else np.nan,
                    "p_seed": found.p_seed if found else np.nan,
                    "p_system": found.p_system if found else np.nan,
                    "p_both": found.p_both if found else np.nan,
                    "p_holm": decision.p_holm if decision else np.nan,
                    "verdict": word,
                    "reason": reason,
                }
            )
        return pd.DataFrame(lines)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One line for each row and metric: mean over seeds, standard deviation, 95 % interval over seeds."""
        return pd.DataFrame(
            [
                {"row": row.declared.id, "metric": name, "mean": value.mean, "sd": value.sd, "seeds": value.n,
                 "low": value.low, "high": value.high}
                for row in self.frame.rows
                for name, value in self._summaries(row).items()
            ]
        )  # fmt: skip

    def _summaries(self, row: TableRow) -> Mapping[str, Interval]:
        judged = self.judgement.rows.get(row.declared.id)
        return judged.summaries if judged else {}

    def text(self, name: str = "table.md") -> str:
        """The table in one format: table.md, table.csv, table.tex or table.html."""
        if name not in FORMATS:
            raise InputError(f"unknown format '{name}'. {did_you_mean(name, FORMATS)}")
        return FORMATS[name](self.frame)

    def write(self, folder: str | Path) -> list[Path]:
        """Write every format into a folder; returns the files."""
        paths = [Path(folder) / name for name in FORMATS]
        for path in paths:
            write_atomically(path, [self.text(path.name).encode()])
        return paths

    def to_json(self) -> str:
        """`verdicts` as a list of objects; an undefined number is null."""
        return str(self.verdicts.to_json(orient="records", indent=1, double_precision=15))

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from study.tables import html_tables, listed, warnings

        notes = "".join(listed(name, texts) for name, texts in self.frame.notes.items())
        return "\n".join([warnings(self.frame), *html_tables(self.frame), f"<details>{notes}</details>"])


def judge(
    predictions: Predictions | pd.DataFrame, to: str | None = None, metric: str | None = None, margin: float = MARGIN,
    *, columns: Mapping[str, str] | None = None, lower_is_better: bool = False, name: str = "predictions",
) -> JudgedTable:  # fmt: skip
    """Compare every row with one of them: is the difference more than the noise of seeds and of items?

    Parameters
    ----------
    predictions
        One line for each prediction, with the columns row, seed, item, prediction and, where they are known, truth,
        group, second_group and target; or what `read_files` returned. Nothing of it need be of this project.
    to
        The row that the others are compared with; by default the first.
    metric
        What is compared: ``"srcc"``, ``"system.mse"``, ``"ta.utterance.srcc"``; ``"mean"`` of the predictions, for
        accuracies and scores; ``"accuracy"``, the share of predictions that are the truth; ``"my-parts.ccc"`` of an
        installed package (`whisq_core.plugins`). By default srcc over items
        where there is a truth, else the mean.
    margin
        What difference counts as none, in the metric's unit.
    columns
        Meaning -> column, where the columns have other names.
    lower_is_better
        For a mean of costs or errors; other metrics have directions of their own.
    name
        The table's name, for headings and labels.

    Raises
    ------
    InputError
        With every line that cannot be used, an unknown row or metric.
    """
    if isinstance(predictions, pd.DataFrame):
        predictions = read_frame(predictions, columns, accuracy=metric == "accuracy")
    if not 0 < margin < math.inf:
        raise InputError(f"margin {margin}: allowed: a number above 0, in the unit of the metric.")
    rows = tuple(predictions.predicted)
    reference = rows[0] if to is None else to
    if reference not in rows:
        raise InputError(f"unknown row '{reference}'. {did_you_mean(reference, rows)}")
    evidence = _evidence(predictions, reference, metric, margin, lower_is_better)
    if lower_is_better and (metric == "accuracy" or parsed(evidence.metric).statistic != MEAN):
        known = "accuracy" if metric == "accuracy" else evidence.metric
        raise InputError(
            f"--lower-is-better: goes with a mean of costs or errors, but the metric is {known}, whose direction is "
            "known. Leave it out, or give --metric mean."
        )
    with threadpool_limits(1):  # its products are small
        judgement = judge_evidence(evidence)
    return JudgedTable(_frame(predictions, evidence, judgement, name, chosen=to is not None), judgement)


def _evidence(
    predictions: Predictions, reference: str, metric: str | None, margin: float, lower_is_better: bool
) -> Evidence:
    rows, primary = tuple(predictions.predicted), _metric_named(predictions, metric)
    return Evidence(
        predictions=predictions.predicted,
        seeds=predictions.seeds,
        groups=predictions.groups or predictions.items,
        second_groups=predictions.second_groups,
        truth=predictions.truth,
        targets=predictions.targets,
        metrics=_metrics(predictions, primary),
        metric=primary,
        margin=margin,
        reference=reference if len(rows) > 1 else None,
        compared=tuple(row for row in rows if row != reference),
        lower_is_better=lower_is_better,
        group_noun=predictions.nouns[0] if predictions.groups else "items",
        second_noun=predictions.nouns[1],
    )


def _metrics(predictions: Predictions, primary: str) -> tuple[str, ...]:
    """Everything that these predictions have: group levels only where there are groups, a mean where asked for."""
    if predictions.truth is None:
        return tuple(f"{target}.utterance.{MEAN}" for target in predictions.targets)
    names = [name for target in predictions.targets for name in metrics_of(target)]
    return tuple(dict.fromkeys([*_possible(predictions, names), primary]))


def _possible(predictions: Predictions, names: Sequence[str]) -> list[str]:
    """Those without a level of groups, where there are none; without truth nothing but its lack is told."""
    every = predictions.groups is not None or predictions.truth is None
    return [name for name in names if every or parsed(name).level == "utterance"]


def _metric_named(predictions: Predictions, metric: str | None) -> str:
    """The full name of a metric that may be told without its target or level."""
    targets = predictions.targets
    target = _PREFERRED if _PREFERRED in targets else targets[0]
    if metric in (None, "accuracy"):
        return f"{target}.utterance.{MEAN if predictions.truth is None else 'srcc'}"
    means = [f"{each}.utterance.{MEAN}" for each in targets]
    known = [*_possible(predictions, known_metrics(targets)), *means]
    titled = {title(name).lower(): name for name in known}
    wanted = str(metric).lower()
    named = (metric, f"{target}.{metric}", f"{target}.utterance.{metric}")
    titles = (titled.get(text) for text in (wanted, f"{target} {wanted}"))
    found = next((name for name in (*named, *titles) if name in known), None)
    if found is None:
        raise InputError(unknown_metric(str(metric), known if predictions.truth is not None else means))
    if predictions.truth is None and found not in means:
        raise InputError(
            f"metric '{metric}' needs a column truth. Without one 'mean' of the predictions can be judged."
        )
    return str(found)


def _frame(predictions: Predictions, evidence: Evidence, judgement: Judgement, name: str, chosen: bool) -> TableFrame:
    rows = tuple(
        TableRow(
            declared=Declared(row, row, "Rows", predictions.seeds[row]),
            values=judged.summaries,
            num_done=len(predictions.seeds[row]),
            comparison=judged.comparisons.get(judgement.metric),
            decision=judged.decision,
            is_reference=row == evidence.reference,
        )
        for row, judged in judgement.rows.items()
    )
    notes = {
        "Checks": (*predictions.notes, *judgement.notes),
        "What this table can decide": judgement.design,
        "Protocol": tuple(_protocol(predictions, evidence, judgement, chosen)),
    }
    return TableFrame(
        name=name,
        heading=f"{name}: {_count(len(rows), 'row')} on {len(predictions.items):,} items",
        warning="",
        marks=(),
        metric=judgement.metric,
        sections=(TableSection("Rows", None, rows),),
        notes={heading: texts for heading, texts in notes.items() if texts},
        metrics=evidence.all_metrics,
        lower_is_better=evidence.lower_is_better,
        group_noun=evidence.group_noun,
        trained_here=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _protocol(predictions: Predictions, evidence: Evidence, judgement: Judgement, chosen: bool) -> Iterator[str]:
    counts = sorted({len(seeds) for seeds in predictions.seeds.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    rows, runs = _count(len(predictions.predicted), "row"), "run" if seeds == "1" else "runs"
    yield f"{rows} with {seeds} {runs} each, {len(predictions.items):,} items that all have."
    if predictions.groups is None:
        yield "No groups were given: items count as independent, and p is too small where they are not."
    else:
        second = (
            f", crossed with {len(set(predictions.second_groups))} {evidence.second_noun}"
            if predictions.second_groups
            else ""
        )
        yield f"Items belong to {judgement.num_systems} {evidence.group_noun}{second}: items of one share their errors."
    if evidence.reference is None:
        yield "There is one row, so nothing is compared."
        return
    default = "" if chosen else ", the first row, as none was named"
    yield (
        f"Verdicts: {title(judgement.metric)} against '{evidence.reference}'{default}; margin ±{evidence.margin:g}. "
        "They confirm something only if row, metric and margin were fixed before the results were seen."
    )
    yield from plugin_metric(judgement.metric)
    yield judgement.procedure
    yield "Shown are mean ± standard deviation over runs; every number but the verdicts is exploratory. Undefined is –."
