"""A corpus is one table of clips: read, checked, named by a digest, and split.

`read_corpus` reads text only; `check_audio_files` looks at the sound. Both report all mistakes at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from whisq_core.corpus.audio import inspect
from whisq_core.corpus.listings import Corpus, read_manifest
from whisq_core.corpus.musiceval import read_official
from whisq_core.corpus.ratings import ratings_file, with_ratings
from whisq_core.errors import InputError, raise_all
from whisq_core.files import FileDigests
from whisq_core.spec import FOLDS, DataSpec, digest

_FOLD_STREAM, _FRACTION_STREAM = 1, 2  # two draws from one seed


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers into `Corpus.clips`, ascending."""

    fit: np.ndarray
    score: dict[str, np.ndarray]


def read_corpus(path: Path) -> Corpus:
    """Read a MusicEval folder (training or evaluation phase, or its parent) or a `.csv` manifest; texts only.

    Where `ratings_file` is there, its clips have the single ratings too.

    Raises
    ------
    InputError : with every mistake of every list, prompt file and csv.
    """
    is_manifest = path.suffix.lower() == ".csv" and not path.is_dir()
    corpus = read_manifest(path) if is_manifest else read_official(path)
    ratings = ratings_file(path)
    return replace(corpus, clips=with_ratings(corpus.clips, ratings)) if ratings.exists() else corpus


def check_audio_files(corpus: Corpus, cache: Path) -> np.ndarray:
    """The SHA-256 (hexadecimal) of each clip's file, after `inspect` found nothing wrong with it.

    Parameters
    ----------
    corpus : its clips.
    cache : the file of a `FileDigests`; only clips that are new or have changed are opened.

    Raises
    ------
    InputError : with every bad file.
    """
    digests, found, mistakes = FileDigests(cache), list[str](), dict[str, None]()
    for path in map(Path, corpus.clips["audio"]):
        if digests.known(path) is None:
            mistake = f"{path}: {wrong}" if (wrong := inspect(path)) else None
            if not path.parent.is_dir():  # one mistake for a whole folder instead of one for each of its clips
                mistake = f"{path.parent}: no such folder; it should hold the clips that the lists name."
            if mistake:
                mistakes[mistake] = None
                continue
        found.append(digests.of(path))
    digests.save()
    raise_all(list(mistakes))
    return np.array(found, dtype=str)


def corpus_digest(corpus: Corpus, audio_digests: Sequence[str] | np.ndarray) -> str:
    """The identity of all that can decide a result: ids, systems, prompts, labels, splits, audio and system truth.

    The order of the clips belongs to it, since it decides the order of the batches. 32 hexadecimal digits.
    """
    assert len(audio_digests) == len(corpus.clips), "one digest for each clip"
    columns = ["utterance", "system", "prompt", "omq", "ta", "split"]
    rows = [
        [None if value != value else value for value in row] + [str(audio)]  # NaN, no label, has no JSON form
        for row, audio in zip(corpus.clips[columns].itertuples(index=False, name=None), audio_digests, strict=True)
    ]
    means = None if corpus.system_mos is None else sorted(corpus.system_mos.itertuples(name=None))
    return digest({"clips": rows, "system_mos": means})


def splits(corpus: Corpus, data: DataSpec, seed: int) -> list[Split]:
    """The parts that one run trains and scores: one, or as many as there are folds.

    Both folds and the share of training clips that `data.fraction` leaves are drawn from the run's seed: rows stay
    paired, and what another training set would have given is part of the difference between seeds. A smaller fraction
    is part of every larger one.

    Raises
    ------
    InputError : a split that the corpus lacks, or that has no clips to hold out; or fewer groups than folds.
    """
    parts = [split(corpus, data)] if data.folds is None else _folds(corpus, data, seed)
    if data.fraction == 1:
        return parts
    chosen = [_share(part.fit, data.fraction, seed) for part in parts]
    return [Split(fit, part.score) for fit, part in zip(chosen, parts, strict=True)]


def used_clips(corpus: Corpus, data: DataSpec) -> np.ndarray:
    """Row numbers of the clips of all splits that are fitted or scored, ascending."""
    return np.flatnonzero(corpus.clips["split"].isin([data.fit, *data.score]))


def _folds(corpus: Corpus, data: DataSpec, seed: int) -> list[Split]:
    """Whole groups go to the fold that is smallest so far, the largest groups first: folds of nearly one size."""
    assert data.folds is not None, "asked for"
    split(corpus, data)  # every split is there
    used = used_clips(corpus, data)
    names = used if data.fold_by == "clip" else corpus.clips[data.fold_by].to_numpy()[used]
    groups, member, sizes = np.unique(names, return_inverse=True, return_counts=True)
    if len(groups) < data.folds:
        raise InputError(
            f"corpus '{corpus.name}': {data.folds} folds by {data.fold_by} need at least as many {data.fold_by}s, "
            f"found {len(groups)}. Choose fewer data.folds or another data.fold_by."
        )
    order = np.random.default_rng((_FOLD_STREAM, seed)).permutation(len(groups))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of, filled = np.empty(len(groups), dtype=np.int64), np.zeros(data.folds, dtype=np.int64)
    for group in order:
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    held_out = fold_of[member]
    return [Split(used[held_out != fold], {FOLDS: used[held_out == fold]}) for fold in range(data.folds)]


def _share(fit: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    order = np.random.default_rng((_FRACTION_STREAM, seed)).permutation(len(fit))
    return fit[np.sort(order[: max(1, round(fraction * len(fit)))])]


def split(corpus: Corpus, data: DataSpec) -> Split:
    """The clips that train a model and those that score it; with `inner` scored, it is held out of train."""
    splits = corpus.clips["split"].to_numpy()
    rows: dict[str, np.ndarray] = {
        name: np.flatnonzero(splits == name) for name in (data.fit, *data.score) if name != "inner"
    }
    if absent := [name for name in rows if not len(rows[name])]:
        found = corpus.clips["split"].value_counts(sort=False).items()
        has = ", ".join(f"{name} ({count} clips)" for name, count in found)
        raise InputError(*(f"corpus '{corpus.name}' has no split '{name}'; it has {has}." for name in absent))
    fit = rows[data.fit]
    if "inner" in data.score:
        fit, rows["inner"] = inner_split(corpus, fit, data)
    return Split(fit, {name: rows[name] for name in data.score})


def inner_split(corpus: Corpus, indices: np.ndarray, data: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """Divide `indices` into (fit, inner) by whole prompts, systems or clips; the seed decides which ones go to inner.

    The inner part has the size nearest to `data.inner_fraction` of the clips that whole groups can make.

    Raises
    ------
    InputError : fewer than two groups.
    """
    names = corpus.clips["utterance" if data.inner_by == "clip" else data.inner_by].to_numpy()[indices]
    groups, member = np.unique(names, return_inverse=True)
    if len(groups) < 2:
        raise InputError(
            f"corpus '{corpus.name}': an inner split by {data.inner_by} needs at least 2 {data.inner_by}s among the "
            f"{len(indices)} clips, found {len(groups)}. Choose another data.inner_by."
        )
    order = np.random.default_rng(data.inner_seed).permutation(len(groups))
    sizes = np.bincount(member)[order]
    chosen = order[_nearest_subset(sizes, data.inner_fraction * len(indices))]
    inner = np.isin(member, chosen)
    return indices[~inner], indices[inner]


def system_truth(
    name: str, system_mos: pd.DataFrame | None, convention: Literal["clips", "csv"], systems: Iterable[str]
) -> dict[str, tuple[float, float]] | None:
    """True (OMQ, TA) of each system by the csv convention; None for `clips`, where the labels themselves give it.

    Raises
    ------
    InputError : the corpus of this `name` has no csv, or the csv lacks a system.
    """
    if convention == "clips":
        return None
    if system_mos is None:
        raise InputError(f"corpus '{name}': system truth 'csv' needs one system_mos/*.csv, found none. Use 'clips'.")
    table = {str(system): (float(omq), float(ta)) for system, omq, ta in system_mos.itertuples(name=None)}
    wanted = sorted(set(systems))
    absent = [system for system in wanted if system not in table]
    raise_all([f"corpus '{name}': system_mos/*.csv has no row of system '{system}'. Add it." for system in absent])
    return {system: table[system] for system in wanted}


def _nearest_subset(sizes: np.ndarray, target: float) -> list[int]:
    """Positions of a subset, neither empty nor all, whose sum is nearest to `target` (the smaller of two).

    Which of the many such subsets is decided by the order of `sizes`: the first ones that reach each sum.
    """
    total = int(sizes.sum())
    last_added: dict[int, int] = {0: -1}  # sum -> position of the group that first made it
    for position, size in enumerate(sizes.tolist()):
        for reached in list(last_added):
            last_added.setdefault(reached + size, position)
    best = min((value for value in last_added if 0 < value < total), key=lambda value: (abs(value - target), value))
    subset = []
    while best:
        subset.append(last_added[best])
        best -= int(sizes[last_added[best]])
    return subset
