"""Which clips and prompts are to be predicted: sound files, folders of them, or a CSV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from study.columns import find_columns
from whisq_core.corpus import Corpus, read_table
from whisq_core.errors import InputError, raise_all

SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
_COLUMNS = {
    "audio": ("audio", "file", "path", "wav", "clip", "filename", "audiopath", "wavpath", "filepath", "utterance"),
    "prompt": ("prompt", "text", "caption", "description"),
}


def clips_of(audio: Sequence[str | Path], prompt: str | Sequence[str] | None) -> Corpus:
    """Gather clips and prompts: a corpus without labels, whose utterances are the sound files as they were named.

    Parameters
    ----------
    audio
        Sound files, folders of them, and CSV files with the columns `audio` and `prompt` (paths relative to the file).
    prompt
        The prompt of every sound file, or one for each of them. CSV files have their own.

    Raises
    ------
    InputError
        With every mistake of the lists; the sound itself is looked at by `Model.predict`.
    """
    found: list[tuple[str, Path, str | None]] = []
    mistakes: list[str] = []
    for each in map(Path, audio):
        if each.suffix.lower() == ".csv":
            found += _listed(each, mistakes)
        elif each.is_dir():
            inside = sorted(path for path in each.iterdir() if path.suffix.lower() in SOUND_ENDINGS)
            if not inside:
                mistakes.append(f"{each}: no sound file in this folder, allowed: {', '.join(SOUND_ENDINGS)}.")
            found += [(str(path), path, None) for path in inside]
        else:
            found.append((str(each), each, None))
    raise_all(mistakes)
    if not found:
        raise InputError("no clip to predict. Give sound files, a folder of them, or a CSV with audio and prompt.")
    names, paths, _ = zip(*found, strict=True)
    columns = {"utterance": names, "system": "", "prompt": _prompts(found, prompt), "audio": list(map(str, paths))}
    clips = pd.DataFrame({**columns, "omq": np.nan, "ta": np.nan, "split": "eval"})
    return Corpus("clips to predict", clips, None, simulated=False)


def _prompts(found: Sequence[tuple[str, Path, str | None]], prompt: str | Sequence[str] | None) -> tuple[str, ...]:
    """The prompt of each clip, from the CSV or from `prompt`."""
    without = [name for name, _, own in found if own is None]
    if not without:
        if prompt is not None:
            raise InputError("--prompt: every clip has a prompt in its CSV already. Leave it out.")
        return tuple(own or "" for _, _, own in found)
    if prompt is None:
        raise InputError(f"{without[0]}: no prompt. Give --prompt TEXT, or a CSV with the columns audio and prompt.")
    given = [prompt] * len(without) if isinstance(prompt, str) else list(prompt)
    if len(given) != len(without):
        raise InputError(f"found {len(given)} prompts for {len(without)} clips, allowed: one for all, or one for each.")
    if empty := [name for name, text in zip(without, given, strict=True) if not text.strip()]:
        raise InputError(f"--prompt: found an empty text for {empty[0]}, allowed: the text that the clip is to follow.")
    rest = iter(given)
    return tuple(next(rest) if own is None else own for _, _, own in found)


def _listed(path: Path, mistakes: list[str]) -> list[tuple[str, Path, str | None]]:
    """The clips of a CSV: name as written, path, prompt (None where the CSV has no such column)."""
    before = len(mistakes)
    header, lines = read_table(path, mistakes)
    if len(mistakes) > before:
        return []
    columns = find_columns(f"{path}:1", header, _COLUMNS)
    if "audio" not in columns:
        mistakes.append(f"{path}:1: found the header '{','.join(header)}', allowed: audio and prompt. Add audio.")
        return []
    found: list[tuple[str, Path, str | None]] = []
    for where, cells in lines:
        name, text = cells[columns["audio"]], cells[columns["prompt"]] if "prompt" in columns else None
        if not name or text == "":
            mistakes.append(f"{where}: found no {'prompt' if name else 'audio'}, allowed: a text that is not empty.")
        found.append((name, path.parent / name, text))
    if not found and len(mistakes) == before:
        mistakes.append(f"{path}:1: found no clip below the header, allowed: at least one.")
    return found
