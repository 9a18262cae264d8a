"""What a table's controls say: rows that must not differ, that must be the same, and that must be beaten."""

from collections.abc import Mapping

import numpy as np

from study.judgement.evidence import Evidence
from study.judgement.verdicts import Decision
from study.stats import Interval
from whisq_core.metrics import higher_is_better, parsed, title

Summaries = Mapping[str, Mapping[str, Interval]]
_ROUNDING = 0.05  # between a label and the mean of its ratings


def omq_difference(evidence: Evidence, row: str) -> float | None:
    """The largest difference of the first target's predictions from the reference's, for rows where it must be 0."""
    reference = evidence.reference
    if reference is None or row not in evidence.ta_only:
        return None
    ours, theirs, paired = evidence.paired(row, reference)
    if not paired:
        return None
    difference = evidence.predictions[row][ours, :, 0] - evidence.predictions[reference][theirs, :, 0]
    return float(np.max(np.abs(difference), initial=0.0))


def flags(evidence: Evidence, row: str, summaries: Summaries) -> tuple[str, ...]:
    """What a row does worse than a constant."""
    if row in (evidence.constant, evidence.group_means):
        return ()
    worse = _worse_than(evidence.constant, row, summaries, errors_only=_varies(evidence))
    return (f"worse than predicting the training mean on {worse} (means, not tested)",) if worse else ()


def _varies(evidence: Evidence) -> bool:
    """Whether the constant is another one in each fold."""
    predicted = evidence.predictions.get(evidence.constant or "")
    return predicted is not None and bool((predicted != predicted[:, :1]).any())


def _worse_than(control: str | None, row: str | None, summaries: Summaries, errors_only: bool = False) -> str:
    """The metrics on which a control's mean is better than the row's, as a list."""
    ours, theirs = summaries.get(row or "", {}), summaries.get(control or "", {})
    names = [name for name in ours if name in theirs and (not errors_only or parsed(name).statistic == "mse")]
    return ", ".join(title(name) for name in names if _gain(name, ours[name], theirs[name]) < 0)


def _gain(metric: str, ours: Interval, theirs: Interval) -> float:
    difference = ours.mean - theirs.mean
    return difference if higher_is_better(metric) else -difference


def _labels_apart(evidence: Evidence) -> str:
    """How many labels are not the means of their ratings, if any is."""
    if evidence.truth is None or evidence.ratings is None:
        return ""
    rated = [at for at, ratings in enumerate(evidence.ratings) if len(ratings)]
    apart = [np.nanmax(np.abs(evidence.ratings[at].mean(axis=0) - evidence.truth[at])) for at in rated]
    number = sum(distance > _ROUNDING for distance in apart)
    if not number:
        return ""
    return (
        f"{number:,} of {len(rated):,} labels are not the means of their ratings (up to {max(apart):.2f} apart): human "
        "agreement is that of raters who may not be those of the labels."
    )


def alarms(
    evidence: Evidence, summaries: Summaries, decisions: Mapping[str, Decision], differences: Mapping[str, float | None]
) -> tuple[str, ...]:
    """A reference that means of groups beat, A/A rows that differ, first targets that should not have moved."""
    notes = []
    if beaten := _worse_than(evidence.group_means, evidence.reference, summaries):
        notes.append(
            f"Control alarm: '{evidence.group_means}', which knows only which of the {evidence.group_noun} an item is "
            f"of, is better than '{evidence.reference}' on {beaten} (means, not tested)."
        )
    if _varies(evidence):
        notes.append(
            f"'{evidence.constant}' predicts another constant in each fold, a lower one where the labels held out are "
            "higher: its correlations are below 0 for that reason alone, and those of every row somewhat lower."
        )
    if differing := _labels_apart(evidence):
        notes.append(differing)
    for row in evidence.aa:
        decision = decisions.get(row)
        if decision is not None and decision.verdict not in ("inconclusive", "equivalent", "undefined"):
            notes.append(
                f"A/A alarm: '{row}' repeats '{evidence.reference}' on other seeds, yet its verdict is "
                f"'{decision.verdict}'. One table in twenty does so by chance."
            )
    for row, difference in differences.items():
        if difference:
            why = (
                "With clip_scope per_head this must not happen: distrust these runs."
                if evidence.clip_scope == "per_head"
                else f"clip_scope {evidence.clip_scope} couples the two heads' steps."
            )
            notes.append(
                f"OMQ of '{row}' differs from that of '{evidence.reference}' by up to {difference:.3g}, "
                f"although only the TA side was changed. {why}"
            )
    return tuple(notes)
