"""Judge one table: predictions in, intervals, comparisons and verdicts out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from study.stats.contrasts import contrast
from study.stats.influence import Array, influence
from study.stats.items import MIN_GROUPS, UNKNOWN, Items
from study.stats.panel import MIN_RATINGS, panel_scores
from study.stats.power import design
from study.stats.uncertainty import Comparison, Interval, compare, summarise
from study.stats.verdicts import Decision, decide
from whisq_core.errors import InputError, did_you_mean
from whisq_core.metrics import MEAN, TARGETS, evaluate, higher_is_better, metrics_of, title


@dataclass(frozen=True)
class Evidence:
    """What the rows of a table have predicted, and what was declared about it beforehand.

    Parameters
    ----------
    predictions
        Row -> float64 [seeds done, items, targets], on the scale of the truth.
    seeds
        Row -> the number of each of these seeds. Rows with common seeds are paired by them; rows without are compared
        as independent samples.
    groups
        The group (system) of each item: items of one group share errors, and verdicts are about other groups.
    truth
        [items, targets]; None when only means are judged.
    targets
        The names of the last axis.
    metric, margin
        The primary metric (``"TARGET.LEVEL.STATISTIC"``, one of `metrics`), and what difference of it counts as none.
    metrics
        What is summarised and compared; () means all of each target, or its mean where there is no truth. A mean is
        ``"TARGET.utterance.mean"``.
    second_groups
        The second group (prompt) of each item, crossed with the first; None where unknown.
    group_truth
        True scores [targets] of each group; None means the mean truth of its items.
    reference, compared
        The row that the declared rows are compared with, and those rows; None and nothing without a declaration.
    lower_is_better
        True for a mean of costs; other metrics have directions of their own.
    group_noun, second_noun
        What groups and second groups are, in the plural, for sentences.
    num_seeds
        Row -> the seeds it was to have; a row that has fewer says so in its verdict.
    changed
        Empty, or how the declaration was changed after runs were seen: verdicts are exploratory then.
    aa
        Rows that repeat the reference on other seeds.
    placeholders
        Rows of untrained encoders: they show a path and are never compared.
    ta_only
        Rows that differ from the reference on the side of the last target only, at the same seeds: their first target's
        predictions must be the same.
    constant, group_means
        The rows that predict the training mean, and the training mean of each group, if any: a row that is worse than
        the first is flagged, a reference that is worse than either on any metric is an alarm.
    clip_scope
        `train.clip_scope` of the table: whether gradient clipping couples the two heads.
    contrasts
        Name -> weights of rows, which cancel.
    ratings
        The ratings [raters, targets] of each item, where they are known.
    """

    predictions: Mapping[str, Array]
    seeds: Mapping[str, tuple[int, ...]]
    groups: tuple[str, ...]
    metric: str
    margin: float
    reference: str | None
    compared: tuple[str, ...]
    truth: Array | None = None
    targets: tuple[str, ...] = TARGETS
    metrics: tuple[str, ...] = ()
    second_groups: tuple[str, ...] | None = None
    group_truth: Mapping[str, tuple[float, ...]] | None = None
    lower_is_better: bool = False
    group_noun: str = "test systems"
    second_noun: str = "prompts"
    num_seeds: Mapping[str, int] | None = None
    changed: str = ""
    aa: tuple[str, ...] = ()
    placeholders: frozenset[str] = frozenset()
    ta_only: tuple[str, ...] = ()
    constant: str | None = None
    group_means: str | None = None
    clip_scope: str = "per_head"
    contrasts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ratings: tuple[Array, ...] | None = None

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """What is summarised and compared, the primary metric among it."""
        if self.metrics:
            return self.metrics
        if self.truth is None:
            return tuple(f"{target}.utterance.{MEAN}" for target in self.targets)
        return tuple(name for target in self.targets for name in metrics_of(target))

    @property
    def higher_is_better(self) -> bool:
        """The direction of the primary metric."""
        return not self.lower_is_better if self.metric.endswith(f".{MEAN}") else higher_is_better(self.metric)


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
    evidence. `contrasts` are exploratory, on the primary metric; `panel` is how another panel of raters would do.
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

    def primary(self, row: str) -> Comparison | None:
        """The comparison of `row` on the primary metric; None for the reference and for rows never compared."""
        return self.rows[row].comparisons.get(self.metric)


def judge(evidence: Evidence) -> Judgement:
    """Judge every row that has predictions, and every declared row whether it has or not.

    Deterministic: nothing is trained or drawn.

    Parameters
    ----------
    evidence
        Predictions and what was declared beforehand.

    Returns
    -------
    Judgement
        Intervals, comparisons and verdicts; NaN where a number is undefined.

    Raises
    ------
    InputError
        When the primary metric is none of the evidence's.
    """
    if evidence.metric not in evidence.all_metrics:
        advice = did_you_mean(evidence.metric, evidence.all_metrics)
        raise InputError(f"unknown metric '{evidence.metric}'. {advice}")
    rows = [*evidence.predictions, *(row for row in evidence.compared if row not in evidence.predictions)]
    values = {row: _seed_values(evidence, row) for row in evidence.predictions}
    items = Items.of(evidence.groups, evidence.second_groups)
    moved = _influences(evidence, items)
    comparisons = _compare_all(evidence, items, values, rows, moved)
    decisions = _decide_all(evidence, comparisons)
    summaries = {row: {name: summarise(of_seeds) for name, of_seeds in values[row].items()} for row in values}
    judged = {
        row: RowJudgement(
            summaries=summaries.get(row, {}),
            comparisons=comparisons[row],
            decision=decisions.get(row),
            omq_difference=_omq_difference(evidence, row),
            flags=_flags(evidence, row, summaries),
        )
        for row in rows
    }
    beaten = _worse_than(evidence.group_means, evidence.reference, summaries) if evidence.reference in summaries else ""
    num_seeds = len(evidence.seeds.get(evidence.reference or "", ()))
    declared = [comparisons[row].get(evidence.metric) for row in evidence.compared]
    errors = [found.error for found in declared if found is not None]
    return Judgement(
        metric=evidence.metric,
        margin=evidence.margin,
        reference=evidence.reference,
        compared=evidence.compared,
        rows=judged,
        design=design(len(evidence.compared), num_seeds, items.num_groups, errors) if evidence.compared else (),
        notes=_notes(evidence, judged, beaten),
        procedure=_procedure(evidence, items),
        changed=evidence.changed,
        num_clips=len(evidence.groups),
        num_systems=items.num_groups,
        contrasts={
            name: contrast(weights, evidence.metric, evidence.seeds, values, moved, items)
            for name, weights in evidence.contrasts.items()
        },
        panel=_panel(evidence),
    )


def _seed_values(evidence: Evidence, row: str) -> dict[str, Array]:
    """Each metric of each seed of `row`: metric -> [seeds]."""
    of_seeds: list[dict[str, float]] = []
    for predicted in evidence.predictions[row]:
        means = {f"{name}.utterance.{MEAN}": float(predicted[:, at].mean()) for at, name in enumerate(evidence.targets)}
        scores = {}
        if evidence.truth is not None:
            scores = evaluate(predicted, evidence.truth, evidence.groups, evidence.group_truth, evidence.targets)
        of_seeds.append(means | scores)
    return {name: np.array([values[name] for values in of_seeds]) for name in evidence.all_metrics}


def _panel(evidence: Evidence) -> Mapping[str, Interval]:
    """How another panel would do on the items that have enough ratings; nothing where no others do."""
    ratings = evidence.ratings or ()
    rated = [at for at, of_item in enumerate(ratings) if len(of_item) >= MIN_RATINGS]
    if not rated:
        return {}
    second = evidence.second_groups
    items = Items.of([evidence.groups[at] for at in rated], None if second is None else [second[at] for at in rated])
    return panel_scores([ratings[at] for at in rated], items, evidence.targets, evidence.all_metrics)


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
        ours, theirs, paired = _paired(evidence, row, reference)
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
        column = evidence.targets.index(metric.rsplit(".", 2)[0])
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
        decisions |= {row: _with_missing_seeds(evidence, row, one) for row, one in zip(rows, found, strict=True)}
    return decisions


def _with_missing_seeds(evidence: Evidence, row: str, decision: Decision) -> Decision:
    """The decision, which says so when it rests on fewer seeds than were planned."""
    planned = evidence.num_seeds or {}
    parts = [
        f"{len(evidence.seeds.get(name, ()))} of {planned[name]} seeds{of}"
        for name, of in ((row, ""), (evidence.reference or "", " of the reference"))
        if name in planned and len(evidence.seeds.get(name, ())) < planned[name]
    ]
    return replace(decision, reason=f"{decision.reason} ({', '.join(parts)} done)") if parts else decision


def _omq_difference(evidence: Evidence, row: str) -> float | None:
    reference = evidence.reference
    if reference is None or row not in evidence.ta_only:
        return None
    ours, theirs, paired = _paired(evidence, row, reference)
    if not paired:
        return None
    difference = evidence.predictions[row][ours, :, 0] - evidence.predictions[reference][theirs, :, 0]
    return float(np.max(np.abs(difference), initial=0.0))


def _paired(evidence: Evidence, row: str, reference: str) -> tuple[list[int], list[int], bool]:
    """Where the common seeds of both rows stand in their predictions; all of each, unpaired, where none is common."""
    ours, theirs = evidence.seeds.get(row, ()), evidence.seeds.get(reference, ())
    common = sorted(set(ours) & set(theirs))
    if not common:
        return list(range(len(ours))), list(range(len(theirs))), False
    return [ours.index(seed) for seed in common], [theirs.index(seed) for seed in common], True


def _flags(evidence: Evidence, row: str, summaries: Mapping[str, Mapping[str, Interval]]) -> tuple[str, ...]:
    if row in (evidence.constant, evidence.group_means):
        return ()
    worse = _worse_than(evidence.constant, row, summaries)
    return (f"worse than predicting the training mean on {worse}",) if worse else ()


def _worse_than(control: str | None, row: str, summaries: Mapping[str, Mapping[str, Interval]]) -> str:
    """The metrics on which a control's mean is better than the row's, as a list."""
    ours, theirs = summaries.get(row, {}), summaries.get(control or "", {})
    return ", ".join(title(name) for name in theirs if _gain(name, ours[name].mean - theirs[name].mean) < 0)


def _gain(metric: str, difference: float) -> float:
    return difference if higher_is_better(metric) else -difference


def _notes(evidence: Evidence, rows: Mapping[str, RowJudgement], beaten: str) -> tuple[str, ...]:
    """Alarms: `beaten` are the metrics on which the means of the groups are better than the reference."""
    notes = []
    if beaten:
        notes.append(
            f"Control alarm: '{evidence.group_means}', which knows only which of the {evidence.group_noun} an item is "
            f"of, is better than "
            f"'{evidence.reference}' on {beaten}."
        )
    for row in evidence.aa:
        decision = rows[row].decision if row in rows else None
        if decision is not None and decision.verdict not in ("inconclusive", "equivalent", "undefined"):
            notes.append(
                f"A/A alarm: '{row}' repeats '{evidence.reference}' on other seeds, yet its verdict is "
                f"'{decision.verdict}'. One table in twenty does so by chance."
            )
    for row, judged in rows.items():
        if judged.omq_difference:
            why = (
                "With clip_scope per_head this must not happen: distrust these runs."
                if evidence.clip_scope == "per_head"
                else f"clip_scope {evidence.clip_scope} couples the two heads' steps."
            )
            notes.append(
                f"OMQ of '{row}' differs from that of '{evidence.reference}' by up to {judged.omq_difference:.3g}, "
                f"although only the TA side was changed. {why}"
            )
    return tuple(notes)


def _procedure(evidence: Evidence, items: Items) -> str:
    noun, second = evidence.group_noun, evidence.second_noun
    crossed = f" crossed with {second}" if items.second is not None else ""
    few = ""
    if evidence.second_groups is not None and items.second is None:
        few = f" Fewer than {MIN_GROUPS} {second}: verdicts hold for these {second} only."
    return (
        "p is the largest of an exact sign-flip test over paired seeds (Welch's t where rows share no seed), a t test "
        f"over {noun}{crossed} and one over both errors at once, Holm-corrected over the declared rows, at level .05; "
        "equivalent means that two one-sided tests over both errors at once, Holm-corrected as well, place the "
        f"difference within ±{evidence.margin:g}. Intervals are of both errors at once, at the level of the row's step "
        f"in Holm's procedure.{few} Neither the training set nor the raters were varied: verdicts hold for this "
        "training set and for ratings such as these."
    )
