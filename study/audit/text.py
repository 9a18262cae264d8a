"""An audit as text: the findings first, then the numbers they rest on."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from study.audit.cells import AuditedCell
from study.audit.claims import Count, Gain, Rival
from study.audit.placement import PlacedCell
from study.published.paper import OMQ_LABEL_VARIANCE, PUBLISHED, STATE_OF_THE_ART_CLAIM
from whisq_core.metrics import title


def attainable_part(heading: str, cells: Sequence[AuditedCell], other_columns: Sequence[str]) -> list[str]:
    """Which rank correlations can occur."""
    ranked = [cell for cell in cells if cell.attainability]
    impossible = [cell for cell in ranked if cell.verdict == "not attainable"]
    truncated = [cell for cell in ranked if cell.verdict == "truncated"]
    systems = _systems(ranked)
    lines = [
        heading,
        "",
        f"{len(ranked)} rank correlations over {systems}: {_counted(cell.verdict for cell in ranked)}.",
    ]
    if other_columns:
        lines.append(f"Columns that are no metrics were not looked at: {', '.join(other_columns)}.")
    if impossible:
        lines += ["", "Not attainable: no two rankings of so many systems, without ties, give the printed digits,"]
        lines += ["rounded or cut. Beside each cell: the nearest values that can occur, and ties that would allow it."]
        lines += [f"  {_described(cell)}; {_ties(cell)}" for cell in impossible]
    if truncated:
        lines += ["", "Attainable only with the last digit cut, not rounded:"]
        lines += [f"  {_described(cell)}" for cell in truncated]
    return lines


def _systems(cells: Sequence[AuditedCell]) -> str:
    numbers = sorted({cell.num_systems for cell in cells})
    return " or ".join(map(str, numbers)) + " systems"


def _counted(words: Iterable[str]) -> str:
    shown = {"rounded": "attainable", "truncated": "attainable only when cut"}
    return ", ".join(f"{count} {shown.get(word, word)}" for word, count in Counter(words).most_common())


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


def interval_part(cells: Sequence[AuditedCell]) -> list[str]:
    """The 95 % interval of every printed correlation."""
    lines = ["What so few systems leave open: 95 % intervals of the printed correlations (Fisher's z)"]
    for cell in cells:
        interval = "undefined" if math.isnan(cell.low) else f"[{cell.low:.3f}, {cell.high:.3f}]"
        lines.append(
            f"  {cell.label:<42} {title(cell.metric):<10} {cell.printed:>9}  {interval:<17} {cell.verdict}".rstrip()
        )
    return lines


def gain_part(gains: Sequence[Gain]) -> list[str]:
    """The claimed gains beside what the cells say."""
    lines = ["Claimed gains, recomputed from Table II (points: 100 times the difference)"]
    claim = None
    for gain in gains:
        if gain.claim is not claim:
            claim = gain.claim
            pair = f"{PUBLISHED[claim.row].label} over {PUBLISHED[claim.against].label}"
            found = [other for other in gains if other.claim is claim and other.reading]
            matches = ", ".join(f"{title(other.metric)} in {_reading(other)}" for other in found)
            lines.append(f"  +{claim.percent:g} % ({claim.where}): {pair}: agrees with {matches or 'no pair of cells'}")
        lines.append(
            f"    {title(gain.metric):<10} {gain.reference:.4f} -> {gain.value:.4f}: "
            f"{gain.points:+.2f} points, {gain.relative:+.1f} %"
        )
    return lines


def _reading(gain: Gain) -> str:
    return "points" if gain.reading == "points" else "percent"


def count_part(counts: Sequence[Count]) -> list[str]:
    """The printed sizes beside our own counts."""
    lines = ["Sizes, recounted from the equations"]
    claim = None
    for count in counts:
        if count.claim is not claim:
            claim = count.claim
            found = any(other.agrees for other in counts if other.claim is claim)
            lines.append(f"  {claim.name}: {claim.printed} printed{'' if found else '; no count made here gives it'}")
        mark = "=" if count.agrees else " "
        lines.append(f"    {mark} {count.value:>17,}  {count.what}")
    return lines


def rival_part(rival: Rival) -> list[str]:
    """The state-of-the-art claim against another published row."""
    row, other = PUBLISHED[rival.row], PUBLISHED[rival.rival]
    total = len(rival.better) + len(rival.worse)
    kept = ", ".join(title(name) for name in rival.worse)
    return [
        f"Claim: {STATE_OF_THE_ART_CLAIM[1]}",
        f"  {other.label} ({other.source}), same dev set: better than {row.label} on {len(rival.better)} of {total}",
        f"  columns, not on {kept}. Which of the two was public first is not known here.",
    ]


def failed_part(rows: Sequence[str]) -> list[str]:
    """Rows that predict worse than a constant."""
    shown = [f"  {PUBLISHED[row].label}: {PUBLISHED[row].values['omq.utterance.mse']}" for row in rows]
    return [f"OMQ U-MSE above that of always predicting the mean label ({OMQ_LABEL_VARIANCE}): a failed run", *shown]


def placed_part(placed: Sequence[PlacedCell]) -> list[str]:
    """Published cells against our intervals: counts per row, and each cell outside."""
    lines = ["Published cells against our intervals"]
    for row in dict.fromkeys(cell.row for cell in placed):
        own = [cell for cell in placed if cell.row == row]
        lines.append(
            f"  {row}: {', '.join(f'{n} {word}' for word, n in Counter(c.placement for c in own).most_common())}"
        )
        lines += [f"    {reason}" for reason in dict.fromkeys(cell.reason for cell in own) if reason]
        lines += list(_outside(own))
    return lines


def _outside(placed: Iterable[PlacedCell]) -> Iterator[str]:
    for cell in placed:
        if cell.placement == "outside":
            yield f"    {title(cell.metric):<10} published {cell.printed}, ours [{cell.low:.4f}, {cell.high:.4f}]"
