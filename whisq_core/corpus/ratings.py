"""Ratings of single raters, from which the labels are means: `utterance,rater,omq,ta` as CSV, where a corpus has them.

They train nothing and are no part of a corpus's identity; they say how well one panel of raters agrees with another.
"""

from pathlib import Path

import pandas as pd

from whisq_core.corpus.listings import decode_lines, parse_labels, read_bytes, read_records
from whisq_core.errors import did_you_mean, raise_all

COLUMNS = ("utterance", "rater", "omq", "ta")


def ratings_file(corpus: Path) -> Path:
    """Where the ratings of a corpus lie: `ratings.csv` in its folder, or `NAME.ratings.csv` beside `NAME.csv`."""
    return corpus / "ratings.csv" if corpus.is_dir() else corpus.with_name(f"{corpus.stem}.ratings.csv")


def with_ratings(clips: pd.DataFrame, path: Path) -> pd.DataFrame:
    """`clips` with the columns `omq_ratings` and `ta_ratings`: a list for each clip, empty where nobody is listed.

    Raises
    ------
    InputError : with every line that cannot be read, has no clip, is out of range, or repeats a rater of a clip.
    """
    mistakes: list[str] = []
    records = list(read_records(decode_lines(read_bytes(path, mistakes) or b"", path, mistakes), mistakes))
    header = [name.strip().lower() for name in records[0][1]] if records else []
    if not mistakes and any(header.count(name) != 1 for name in COLUMNS):
        mistakes.append(f"{path}:1: found the header '{','.join(header)}', allowed: {','.join(COLUMNS)}, each once.")
    raise_all(mistakes)
    known, seen = set(clips["utterance"]), dict[tuple[str, str], str]()
    found: dict[str, list[tuple[float, float]]] = {}
    for where, fields in records[1:]:
        if len(fields) != len(header):
            mistakes.append(f"{where}: found {len(fields)} fields, allowed: {len(header)}, as the header.")
            continue
        cells = {name: text.strip() for name, text in zip(header, fields, strict=True)}
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
    columns = {
        f"{name}_ratings": [[one[at] for one in of_clip] for of_clip in of_clips]
        for at, name in ((0, "omq"), (1, "ta"))
    }
    return clips.assign(**columns)
