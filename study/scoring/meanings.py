"""What the columns of a table of predictions mean, under the names that people give them."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from study.columns import find_columns

MEANINGS: dict[str, tuple[str, ...]] = {
    "row": ("row", "model", "method", "config", "configuration", "variant", "algorithm", "experiment"),
    "seed": ("seed", "randomseed", "run", "repeat", "repetition", "replicate", "trial"),
    "item": (
        "item", "itemid", "utterance", "uttid", "utteranceid", "clip", "id", "uid", "sample", "sampleid", "example",
        "exampleid", "question", "questionid", "docid", "instance", "index", "wav", "wavpath", "wavname", "file",
        "filename", "audio", "path", "image", "name",
    ),
    "truth": (
        "truth", "groundtruth", "ytrue", "label", "gold", "mos", "reference", "expected", "actual", "avgscore",
        "averagescore", "target", "y",
    ),
    "prediction": (
        "prediction", "pred", "predicted", "ypred", "yhat", "estimate", "output", "answer", "correct", "iscorrect",
        "accuracy", "acc", "hit", "score", "value",
    ),
    "group": (
        "group", "system", "systemid", "speaker", "subject", "cluster", "dataset", "task", "topic", "document",
        "category",
    ),
    "second_group": ("secondgroup", "group2", "prompt", "promptid", "rater", "listener", "listenerid", "template"),
    "target": ("targetname", "scale", "dimension", "aspect"),
}  # fmt: skip
SEED_AT_END = re.compile(r"(?P<row>.+?)[-_./ ]+(?:random)?(?:seed|run|rep|repeat|trial)[-_=. ]*(?P<seed>\d+)", re.I)
"""`ours-seed3`; a bare number is no seed, since `gpt-4` is a name."""


def meanings_of(header: Sequence[str], chosen: Mapping[str, str] | None) -> dict[str, str]:
    """Meaning -> column of a table of predictions."""
    found = find_columns("the table of predictions", header, MEANINGS, chosen)
    free = {column.lower(): column for column in header if column not in found.values()}
    if "target" in free:  # a truth has another column already
        found["target"] = free["target"]
    if "truth" not in found and "prediction" in found and "score" in free:  # as SHEET names the listeners' score
        found["truth"] = free["score"]
    return found


def long_form(frame: pd.DataFrame, chosen: Mapping[str, str] | None) -> pd.DataFrame:
    """A table with a column of numbers for each model as one line for each prediction; any other as it is."""
    header = [str(column) for column in frame.columns if column != "_where"]
    found = meanings_of(header, chosen)
    models = [name for name in header if name not in found.values() and name and not name.startswith("Unnamed: ")]
    if {"prediction", "row"} & set(found) or not {"item", "truth"} & set(found) or len(models) < 2:
        return frame
    if frame[models].apply(pd.to_numeric, errors="coerce").isna().any(axis=None):
        return frame
    kept = [column for column in frame.columns if column not in models]
    lines = frame.melt(kept, models, "row", "prediction")
    if "seed" not in found:
        matches = {model: SEED_AT_END.fullmatch(model) for model in models}
        lines["seed"] = lines["row"].map({model: match["seed"] if match else "0" for model, match in matches.items()})
        lines["row"] = lines["row"].map({model: match["row"] if match else model for model, match in matches.items()})
    return lines


def nouns_of(found: Mapping[str, str]) -> tuple[str, str]:
    """What groups and second groups are: the names of their columns, in the plural."""
    names = [
        found.get(meaning, meaning).lower().removesuffix("id").strip(" _-") for meaning in ("group", "second_group")
    ]
    first, second = (f"{name[:-1]}ies" if name.endswith("y") else f"{name}s" for name in names)
    return first.replace("_", " "), second.replace("_", " ")
