"""Anybody's predictions: their metrics against the labels of a corpus, and the verdict table of any rows and seeds."""

from study.scoring.corpus_scores import Scores, score_file
from study.scoring.files import numbered_rows, read_files, wants_scores
from study.scoring.meanings import MEANINGS
from study.scoring.predictions import Predictions, read_frame
from study.scoring.verdicts import MARGIN, JudgedTable, judge

__all__ = [
    "MARGIN",
    "MEANINGS",
    "JudgedTable",
    "Predictions",
    "Scores",
    "judge",
    "numbered_rows",
    "read_files",
    "read_frame",
    "score_file",
    "wants_scores",
]
