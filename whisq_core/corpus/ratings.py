"""Ratings of single raters, from which the labels are means: `utterance,rater,omq,ta` as CSV, where a corpus has them.

They train nothing and are no part of a corpus's identity; they say how well one panel of raters agrees with another.
"""

from pathlib import Path

import pandas as pd

from whisq_core.corpus.listings import parse_labels, read_table
from whisq_core.errors import did_you_mean, raise_all

COLUMNS = ("utterance", "rater", "omq", "ta")


def ratings_file(corpus: Path) -> Path:
    """Where the ratings of a corpus lie: `ratings.csv` in its folder, or `NAME.ratings.csv` beside `NAME.csv`."""
    return corpus / "ratings.csv" if corpus.is_dir() else corpus.with_name(f"{corpus.stem}.ratings.csv")


def with_ratings(clips: pd.DataFrame, path: Path) -> pd.DataFrame:
    """`clips` with the columns `omq_ratings` and `ta_ratings`: a list for each clip, empty where nobody is listed.

    A line that cannot be read, has no clip, is out of range, or repeats a rater of a clip is an `InputError`.
    """
    mistakes: list[str] = []
    named, lines = read_table(path, mistakes)
    header = [name.lower() for name in named]
    if not mistakes and any(header.count(name) != 1 for name in COLUMNS):
        mistakes.append(f"{path}:1: found the header '{','.join(header)}', allowed: {','.join(COLUMNS)}, each once.")
    raise_all(mistakes)
    known, seen = set(clips["utterance"]), dict[tuple[str, str], str]()
    found: dict[str, list[tuple[float, float]]] = {}
    for where, given in lines:
        cells = {name.lower(): text for name, text in given.items()}
        utterance, rater = cells["utterance"].removesuffix(".wav"), cells["rater"]
        first = seen.setdefault((utterance, rater), where)
        if utterance not in known:
            mistakes.append(f"{where}: unknown utterance '{utterance}'. {did_you_mean(utterance, known)}")
        elif first != where:
            mistakes.append(f"{where}: rater '{rater}' rates '{utterance}' again, already at {first}. Remove one.")
        else:
            found.setdefault(utterance, []).append(parse_labels(where, (cells["omq"], cells["ta"]), mistakes))
    raise_all(mistakes)
    of_clips = [found.get(utterance, []) for utterance in clips["utterance"]]
    omq, ta = ([[one[at] for one in of_clip] for of_clip in of_clips] for at in (0, 1))
    return clips.assign(omq_ratings=omq, ta_ratings=ta)
