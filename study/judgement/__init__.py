"""From predictions to verdicts: `judge` takes a table's `Evidence`, of any targets, groups and metrics.

Pure: arrays in, values out; it knows neither files nor databases nor settings. The statistics are in `study.stats`.
"""

from study.judgement.evidence import Evidence
from study.judgement.table import Judgement, RowJudgement, judge
from study.judgement.verdicts import Decision, Verdict, decide, words

__all__ = ["Decision", "Evidence", "Judgement", "RowJudgement", "Verdict", "decide", "judge", "words"]
