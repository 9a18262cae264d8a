"""What a table says, in one sentence: which of the declared rows are better, worse, equivalent or inconclusive."""

from study.judgement import Judgement
from study.tables import TableFrame
from whisq_core.metrics import title

_SAID = {  # of one row, of several
    "better": ("is better", "are better"),
    "worse": ("is worse", "are worse"),
    "equivalent": ("is equivalent within ±{margin:g}", "are equivalent within ±{margin:g}"),
    "these systems only": ("differs on these test systems only", "differ on these test systems only"),
    "these runs only": ("differs in these runs only", "differ in these runs only"),
    "inconclusive": ("is inconclusive", "are inconclusive"),
    "exploratory": ("is exploratory, declared after its runs", "are exploratory, declared after their runs"),
    "undefined": ("cannot be compared", "cannot be compared"),
}


def conclusion(frame: TableFrame, judgement: Judgement) -> str:
    """The verdicts on the declared rows as one sentence, and, where it applies, what limits it."""
    cells = [(len(row.declared.seeds), row.num_done) for row in frame.rows]
    declared, done = (sum(counts) for counts in zip(*cells, strict=True))
    verb = "has" if declared - done == 1 else "have"
    missing = f" {declared - done} of {declared} runs {verb} no result." if done < declared else ""
    alarms = " The controls raise an alarm: read the checks first." if judgement.notes else ""
    return f"{_verdicts(frame, judgement)}{frame.warning}.{missing}{alarms}"


def _verdicts(frame: TableFrame, judgement: Judgement) -> str:
    rows = {row.declared.id: row for row in frame.rows if row.decision}
    compared = [rows[row] for row in judgement.compared if row in rows]
    if not compared or frame.reference is None:
        return "No comparison was declared: the table shows numbers without verdicts"
    verdicts = [(row, "exploratory" if row.changed else row.decision.verdict) for row in compared if row.decision]
    parts = []
    for word, (one, several) in _SAID.items():
        labels = [row.label for row, verdict in verdicts if word == verdict]
        if labels:
            said = (one if len(labels) == 1 else several).format(margin=judgement.margin)
            parts.append(f"{len(labels)} {said} ({', '.join(labels)})")
    listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    number = f"{len(compared)} row{'s' if len(compared) > 1 else ''}"
    return f"Of {number} compared with {frame.reference.label} on {title(frame.metric)}, {listed}"
