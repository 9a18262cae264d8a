"""Judge one table: predictions in, intervals, comparisons and verdicts out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from study.judgement.controls import alarms, flags, omq_difference
from study.judgement.evidence import Evidence
from study.judgement.verdicts import Decision, decide
from study.stats import (
    MIN_GROUPS,
    MIN_RATINGS,
    UNKNOWN,
    Array,
    Comparison,
    Interval,
    Items,
    compare,
    contrast,
    design,
    influence,
    moved_by_raters,
    panel_scores,
    summarise,
)
from whisq_core.errors import InputError, did_you_mean
from whisq_core.metrics import MEAN, evaluate, parsed, title


@dataclass(frozen=True)
class RowJudgement:
    """One row: `summaries` over its seeds and `comparisons` with the reference, of each metric.

    Only a row that was declared, or an A/A row, has a `decision`; comparisons of other rows and other metrics are
    exploratory. `omq_difference` is the largest one of the first target's predictions from the reference's, for rows
    where it must be 0. `flags` are short warnings for the table.
    """

    summaries: Mapping[str, Interval]
    comparisons: Mapping[str, Comparison]
    decision: Decision | None
    omq_difference: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """The whole table. `design` says what it could decide at all; `notes` begin with the alarms of its controls.

    `procedure` says in sentences what the verdicts rest on and what they do not cover. `changed` is that of the
    evidence. `contrasts` are exploratory, on the primary metric; `panel` is how another panel of raters would do, and
    `by_raters` by how much it would move each declared difference (standard deviation).
    """

    metric: str
    margin: float
    reference: str | None
    compared: tuple[str, ...]
    rows: Mapping[str, RowJudgement]
    design: tuple[str, ...]
    notes: tuple[str, ...]
    procedure: str
    changed: str
    num_clips: int
    num_systems: int
    contrasts: Mapping[str, Comparison]
    panel: Mapping[str, Interval]
    by_raters: Mapping[str, float]

    def primary(self, row: str) -> Comparison | None:
        """The comparison of `row` on the primary metric; None for the reference and for rows never compared."""
        return self.rows[row].comparisons.get(self.metric)


def judge(evidence: Evidence) -> Judgement:
    """Judge every row that has predictions, and every declared row whether it has or not.

    Raises
    ------
    InputError
        When the primary metric is none of the evidence's.
    """
    if evidence.metric not in evidence.all_metrics:
        advice = did_you_mean(evidence.metric, evidence.all_metrics)
        raise InputError(f"unknown metric '{evidence.metric}'. {advice}")
    rows = list(dict.fromkeys([*evidence.predictions, *evidence.compared]))
    values = {row: _seed_values(evidence, row) for row in evidence.predictions}
    items = Items.of(evidence.groups, evidence.second_groups)
    moved = _influences(evidence, items)
    comparisons = _compare_all(evidence, items, values, rows, moved)
    decisions = _decide_all(evidence, comparisons)
    summaries = {row: {name: summarise(of_seeds) for name, of_seeds in values[row].items()} for row in values}
    differences = {row: omq_difference(evidence, row) for row in rows}
    panel, by_raters = _panel(evidence)
    return Judgement(
        metric=evidence.metric,
        margin=evidence.margin,
        reference=evidence.reference,
        compared=evidence.compared,
        rows={
            row: RowJudgement(
                summaries.get(row, {}),
                comparisons[row],
                decisions.get(row),
                differences[row],
                flags(evidence, row, summaries),
            )
            for row in rows
        },
        design=(*_design(evidence, items, comparisons), *_raters(evidence, by_raters, bool(panel))),
        notes=alarms(evidence, summaries, decisions, differences),
        procedure=_procedure(evidence, items),
        changed=evidence.changed,
        num_clips=len(evidence.groups),
        num_systems=items.num_groups,
        contrasts={
            name: contrast(weights, evidence.metric, evidence.seeds, values, moved, items)
            for name, weights in evidence.contrasts.items()
        },
        panel=panel,
        by_raters=by_raters,
    )


def _design(evidence: Evidence, items: Items, comparisons: Mapping[str, Mapping[str, Comparison]]) -> tuple[str, ...]:
    """What the declared rows could decide at all, with the errors that they turned out to have."""
    if not evidence.compared:
        return ()
    declared = [comparisons[row].get(evidence.metric) for row in evidence.compared]
    num_seeds = len(evidence.seeds.get(evidence.reference or "", ()))
    return design(len(evidence.compared), num_seeds, items.num_groups, [found.error for found in declared if found])


def _seed_values(evidence: Evidence, row: str) -> dict[str, Array]:
    """Each metric of each seed of `row`: metric -> [seeds]."""
    of_seeds: list[dict[str, float]] = []
    for predicted in evidence.predictions[row]:
        means = {f"{name}.utterance.{MEAN}": float(predicted[:, at].mean()) for at, name in enumerate(evidence.targets)}
        scores = {}
        if evidence.truth is not None:
            table = evidence.truth, evidence.groups, evidence.group_truth, evidence.targets
            scores = evaluate(predicted, *table, [name for name in evidence.all_metrics if name not in means])
        of_seeds.append(means | scores)
    return {name: np.array([values[name] for values in of_seeds]) for name in evidence.all_metrics}


def _panel(evidence: Evidence) -> tuple[Mapping[str, Interval], Mapping[str, float]]:
    """How another panel would do on the items that have enough ratings, and by how much it would move each row's
    difference from the reference; nothing where no item has them.
    """
    every = evidence.ratings or ()
    rated = [at for at, of_item in enumerate(every) if len(of_item) >= MIN_RATINGS]
    if not rated:
        return {}, {}
    second = evidence.second_groups
    items = Items.of([evidence.groups[at] for at in rated], None if second is None else [second[at] for at in rated])
    ratings = [every[at] for at in rated]
    target, level, statistic = parsed(evidence.metric)
    column, reference, moved = evidence.targets.index(target), evidence.reference or "", dict[str, float]()
    given = level == "system" and evidence.group_truth is not None  # true scores that no rating moves
    if reference in evidence.predictions and evidence.truth is not None and statistic != MEAN and not given:
        means = {
            row: of_seeds[:, rated, column].mean(axis=0)
            for row, of_seeds in evidence.predictions.items()
            if row == reference or row in evidence.compared
        }
        labels, of_target = evidence.truth[rated, column], [of_item[:, column] for of_item in ratings]
        moved = moved_by_raters(evidence.metric, means, reference, labels, of_target, items.groups.codes)
    return panel_scores(ratings, items, evidence.targets, evidence.all_metrics), moved


def _raters(evidence: Evidence, by_raters: Mapping[str, float], has_panel: bool) -> Iterator[str]:
    """On which items another panel is known, and how much of the declared differences is the noise of one panel."""
    every = evidence.ratings or ()
    rated = sum(len(of_item) >= MIN_RATINGS for of_item in every)
    if any(map(len, every)) and not has_panel:
        yield f"No human agreement: no item has {MIN_RATINGS} ratings."
    elif 0 < rated < len(every):
        yield f"Human agreement is that on the {rated:,} of {len(every):,} items that have {MIN_RATINGS} ratings."
    moved = [by_raters[row] for row in evidence.compared if by_raters.get(row, np.nan) >= 0]
    if moved:
        yield (
            f"Another panel of as many raters would move the declared differences in {title(evidence.metric)} by "
            f"{' to '.join(dict.fromkeys((f'{min(moved):.2g}', f'{max(moved):.2g}')))} (standard deviation; ratings of "
            f"one item taken as independent of those of others). The error over {evidence.group_noun} holds this "
            "already."
        )


def _compare_all(
    evidence: Evidence,
    items: Items,
    values: Mapping[str, Mapping[str, Array]],
    rows: list[str],
    moved: Callable[[str, str], Array],
) -> dict[str, dict[str, Comparison]]:
    """Each row with the reference on every metric: at the seeds that both have done, or unpaired where none is."""
    reference = evidence.reference
    if reference is None:
        return {row: {} for row in rows}

    def comparison(metric: str, row: str) -> Comparison:
        ours, theirs, paired = evidence.paired(row, reference)
        if not ours or not theirs:
            nothing = np.array([])
            return compare(metric, nothing, nothing, UNKNOWN, items.num_groups)
        sides = moved(metric, row)[ours], moved(metric, reference)[theirs]
        if paired:
            error, noise = items.error(metric, sides[0] - sides[1])
        else:
            error, _ = items.error(metric, (sides[0].mean(axis=0) - sides[1].mean(axis=0))[None])
            noise = sum(items.error(metric, side).seed_noise for side in sides)
        of_seeds = values[row][metric][ours], values[reference][metric][theirs]
        return compare(metric, *of_seeds, error, items.num_groups, seed_noise=noise, paired=paired)

    outside = evidence.placeholders | {reference}
    names = evidence.all_metrics
    return {row: {} if row in outside else {name: comparison(name, row) for name in names} for row in rows}


def _influences(evidence: Evidence, items: Items) -> Callable[[str, str], Array]:
    """A function (metric, row) -> influences [seeds, items], or [seeds, groups] of a metric of group means."""
    names = np.unique(np.asarray(evidence.groups, dtype=str))

    @cache  # the reference's serve every row
    def moved(metric: str, row: str) -> Array:
        column = evidence.targets.index(parsed(metric).target)
        truth = None if evidence.truth is None else evidence.truth[:, column]
        of_groups = None
        if evidence.group_truth is not None:
            of_groups = np.array([evidence.group_truth[str(name)][column] for name in names], dtype=np.float64)
        return influence(metric, evidence.predictions[row][:, :, column], truth, items.groups.codes, of_groups)[1]

    return moved


def _decide_all(evidence: Evidence, comparisons: Mapping[str, Mapping[str, Comparison]]) -> dict[str, Decision]:
    """Holm over the declared rows; an A/A row is a single comparison of its own."""
    families = [evidence.compared, *((row,) for row in evidence.aa if row not in evidence.compared)]
    decisions: dict[str, Decision] = {}
    for family in families:
        rows = [row for row in family if evidence.metric in comparisons.get(row, {})]
        of_rows = [comparisons[row][evidence.metric] for row in rows]
        found = decide(of_rows, evidence.margin, evidence.higher_is_better, evidence.group_noun)
        if family is not evidence.compared:
            found = [_by_chance(one) for one in found]
        decisions |= {row: _with_missing_seeds(evidence, row, one) for row, one in zip(rows, found, strict=True)}
    return decisions


def _by_chance(decision: Decision) -> Decision:
    """An A/A row differs by chance alone: no advice on how to settle it."""
    open_ = decision.verdict in ("inconclusive", "these systems only")
    return replace(decision, reason="the same again: what it differs by is chance") if open_ else decision


def _with_missing_seeds(evidence: Evidence, row: str, decision: Decision) -> Decision:
    """The decision, which says so when it rests on fewer seeds than were planned."""
    planned = evidence.num_seeds or {}
    parts = [
        f"{len(evidence.seeds.get(name, ()))} of {planned[name]} seeds{of}"
        for name, of in ((row, ""), (evidence.reference or "", " of the reference"))
        if name in planned and len(evidence.seeds.get(name, ())) < planned[name]
    ]
    return replace(decision, reason=f"{decision.reason} ({', '.join(parts)} done)") if parts else decision


def _procedure(evidence: Evidence, items: Items) -> str:
    noun, second = evidence.group_noun, evidence.second_noun
    crossed = f" crossed with {second}" if items.second is not None else ""
    few = ""
    if evidence.second_groups is not None and items.second is None:
        few = f" Fewer than {MIN_GROUPS} {second}: verdicts hold for these {second} only."
    return (
        "p is the largest of an exact sign-flip test over paired seeds (Welch's t where rows share no seed), a t test "
        f"over {noun}{crossed} and one over both errors at once, Holm-corrected over the declared rows, at level .05; "
        "equivalent means that two one-sided tests over both errors at once, each at half the level and "
        f"Holm-corrected as well, place the difference within ±{evidence.margin:g}. Intervals are of both errors at "
        f"once, at the level of the row's step in Holm's procedure.{few} Neither the training set nor the raters were "
        "varied: verdicts hold for this training set and for ratings such as these."
    )
