"""Judge one table: stored predictions in, intervals, comparisons and verdicts out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from study.stats.resampling import Array, resample
from study.stats.uncertainty import Comparison, Interval, compare, summarise
from study.stats.verdicts import Decision, decide, design
from whisq_core.metrics import EXTRA, METRICS, TARGETS, evaluate, higher_is_better, title

NUM_DRAWS = 2_000
BOOTSTRAP_SEED = 20_250_401


@dataclass(frozen=True)
class Evidence:
    """What a table of rows has predicted, and what was declared about it beforehand.

    Parameters
    ----------
    predictions
        Row -> float64 [seeds done, clips, 2] with columns (OMQ, TA), on the scale of the ratings.
    positions
        Row -> the place of each of these seeds in the row's list of seeds: rows are paired by it.
    truth, systems
        Labels [clips, 2], and the system of each clip.
    system_truth
        True (OMQ, TA) of each system; None means the mean label of its clips.
    reference, compared
        The row that the declared rows are compared with, and those rows; None and nothing without a declaration.
    metric, margin
        The primary metric, and what difference of it counts as none.
    aa
        Rows that repeat the reference on other seeds.
    placeholders
        Rows of untrained encoders: they show a path and are never compared.
    ta_only
        Rows that differ from the reference on the TA side only, at the same seeds: their OMQ must be the same.
    constant
        The row that predicts the training mean, if any.
    clip_scope
        `train.clip_scope` of the table: whether gradient clipping couples the two heads.
    num_draws, bootstrap_seed
        Size and seed of the bootstrap over systems.
    """

    predictions: Mapping[str, Array]
    positions: Mapping[str, tuple[int, ...]]
    truth: Array
    systems: tuple[str, ...]
    system_truth: Mapping[str, tuple[float, float]] | None
    reference: str | None
    compared: tuple[str, ...]
    metric: str
    margin: float
    aa: tuple[str, ...] = ()
    placeholders: frozenset[str] = frozenset()
    ta_only: tuple[str, ...] = ()
    constant: str | None = None
    clip_scope: str = "per_head"
    num_draws: int = NUM_DRAWS
    bootstrap_seed: int = BOOTSTRAP_SEED


@dataclass(frozen=True)
class RowJudgement:
    """One row: `summaries` of all 18 metrics over its seeds, `comparisons` with the reference on the 16 of Table II.

    Only a row that was declared, or an A/A row, has a `decision`; comparisons of other rows and other metrics are
    exploratory. `omq_difference` is the largest one of OMQ predictions from the reference's, for rows where it must
    be 0. `flags` are short warnings for the table.
    """

    summaries: Mapping[str, Interval]
    comparisons: Mapping[str, Comparison]
    decision: Decision | None
    omq_difference: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """The whole table. `design` says what it could decide at all; `notes` begin with the alarms of its controls."""

    metric: str
    margin: float
    reference: str | None
    compared: tuple[str, ...]
    rows: Mapping[str, RowJudgement]
    design: tuple[str, ...]
    notes: tuple[str, ...]
    num_clips: int
    num_systems: int
    num_draws: int
    bootstrap_seed: int

    def primary(self, row: str) -> Comparison | None:
        """The comparison of `row` on the primary metric; None for the reference and for rows never compared."""
        return self.rows[row].comparisons.get(self.metric)


def judge(evidence: Evidence) -> Judgement:
    """Judge every row that has predictions, and every declared row whether it has or not.

    Deterministic: nothing is trained, and the bootstrap's seed is part of the evidence.

    Parameters
    ----------
    evidence
        Stored predictions and what was declared beforehand.

    Returns
    -------
    Judgement
        Intervals, comparisons and verdicts; NaN where a number is undefined.
    """
    rows = [*evidence.predictions, *(row for row in evidence.compared if row not in evidence.predictions)]
    values = {row: _seed_values(evidence, row) for row in evidence.predictions}
    comparisons = _compare_all(evidence, values, rows)
    decisions = _decide_all(evidence, comparisons)
    summaries = {row: {name: summarise(values[row][name]) for name in METRICS + EXTRA} for row in values}
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
    num_systems = len(set(evidence.systems))
    num_seeds = len(evidence.positions.get(evidence.reference or "", ()))
    return Judgement(
        metric=evidence.metric,
        margin=evidence.margin,
        reference=evidence.reference,
        compared=evidence.compared,
        rows=judged,
        design=design(len(evidence.compared), num_seeds, num_systems) if evidence.compared else (),
        notes=_notes(evidence, judged),
        num_clips=len(evidence.truth),
        num_systems=num_systems,
        num_draws=evidence.num_draws,
        bootstrap_seed=evidence.bootstrap_seed,
    )


def _seed_values(evidence: Evidence, row: str) -> dict[str, Array]:
    """Each metric of each seed of `row`: metric -> [seeds]."""
    of_seeds = [
        evaluate(predicted, evidence.truth, evidence.systems, evidence.system_truth)
        for predicted in evidence.predictions[row]
    ]
    return {name: np.array([values[name] for values in of_seeds]) for name in METRICS + EXTRA}


def _compare_all(
    evidence: Evidence, values: Mapping[str, Mapping[str, Array]], rows: list[str]
) -> dict[str, dict[str, Comparison]]:
    """Each row with the reference at the positions that both have done, on every metric of Table II."""
    reference = evidence.reference
    if reference is None:
        return {row: {} for row in rows}
    generator = np.random.default_rng(evidence.bootstrap_seed)
    resampling = resample(evidence.truth, evidence.systems, evidence.system_truth, evidence.num_draws, generator)

    @cache  # the reference's draws serve every row
    def draws(metric: str, row: str, places: tuple[int, ...]) -> Array:
        return resampling.seed_mean(metric, evidence.predictions[row][list(places)])

    def comparison(metric: str, row: str) -> Comparison:
        ours, theirs = _paired(evidence, row, reference)
        if not ours:
            nothing = np.array([])
            return compare(metric, nothing, nothing, np.full(1, np.nan), resampling.num_systems)
        difference = draws(metric, row, tuple(ours)) - draws(metric, reference, tuple(theirs))
        of_seeds = values[row][metric][ours], values[reference][metric][theirs]
        return compare(metric, *of_seeds, difference, resampling.num_systems)

    outside = evidence.placeholders | {reference}
    return {row: {} if row in outside else {name: comparison(name, row) for name in METRICS} for row in rows}


def _decide_all(evidence: Evidence, comparisons: Mapping[str, Mapping[str, Comparison]]) -> dict[str, Decision]:
    """Holm over the declared rows; an A/A row is a single comparison of its own."""
    families = [evidence.compared, *((row,) for row in evidence.aa if row not in evidence.compared)]
    decisions: dict[str, Decision] = {}
    for family in families:
        rows = [row for row in family if evidence.metric in comparisons.get(row, {})]
        found = decide(
            [comparisons[row][evidence.metric] for row in rows], evidence.margin, higher_is_better(evidence.metric)
        )
        decisions |= dict(zip(rows, found, strict=True))
    return decisions


def _omq_difference(evidence: Evidence, row: str) -> float | None:
    reference = evidence.reference
    if reference is None or row not in evidence.ta_only:
        return None
    ours, theirs = _paired(evidence, row, reference)
    if not ours:
        return None
    difference = evidence.predictions[row][ours, :, 0] - evidence.predictions[reference][theirs, :, 0]
    return float(np.max(np.abs(difference), initial=0.0))


def _paired(evidence: Evidence, row: str, reference: str) -> tuple[list[int], list[int]]:
    """Where the positions that both rows have done stand in their predictions."""
    ours, theirs = evidence.positions.get(row, ()), evidence.positions.get(reference, ())
    common = sorted(set(ours) & set(theirs))
    return [ours.index(place) for place in common], [theirs.index(place) for place in common]


def _flags(evidence: Evidence, row: str, summaries: Mapping[str, Mapping[str, Interval]]) -> tuple[str, ...]:
    constant = evidence.constant
    if constant is None or row == constant or constant not in summaries or row not in summaries:
        return ()
    worse = [f"{target}.utterance.mse" for target in TARGETS]
    return tuple(
        f"{title(name)} is worse than predicting the training mean"
        for name in worse
        if summaries[row][name].mean > summaries[constant][name].mean
    )


def _notes(evidence: Evidence, rows: Mapping[str, RowJudgement]) -> tuple[str, ...]:
    notes = []
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
