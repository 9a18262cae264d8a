"""The official MusicEval folder (AudioMOS Challenge 2025, Track 1), training and evaluation phase.

Source of the layout: NKU-HLT/MusicEval-baseline. Lists have no header; a line is ``name.wav,OMQ,TA``, in the
evaluation phase only the name without ``.wav``. The prompt of a clip stands under its full name in
demo_prompt_info.txt, else under its P-id in prompt_info.txt: the P-ids of the two groups collide.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from whisq_core.corpus.listings import Clip, Corpus, Line, Seen, parse_labels, read_lines
from whisq_core.errors import raise_all

DEMO_SYSTEMS = frozenset({"S001", "S006", "S013", "S017", "S018", "S033"})
_NAME = re.compile(r"(?:[^/\\]*-)?(?P<system>S\d+)_(?P<prompt>P\d+)")
_NAME_SHAPE = "audiomos2025-track1-S<number>_P<number>.wav"
_LAYOUT = (
    "a training-phase folder holds sets/train_mos_list.txt and sets/dev_mos_list.txt, "
    "an evaluation-phase folder DATA/sets/eval_list.txt"
)
_PROMPT_HEADER = "id\ttext"


@dataclass(frozen=True)
class _Prompts:
    """Prompt texts; None for a file that could not be read, whose mistake is reported once."""

    ordinary: dict[str, str] | None
    demo: dict[str, str] | None

    @classmethod
    def read(cls, root: Path, mistakes: list[str]) -> "_Prompts":
        """From `root`, or from the folder above an evaluation-phase DATA folder.

        A missing demo file is no mistake yet: only a clip of a demo system needs it.
        """
        above = root.parent if root.name == "DATA" and not (root / "prompt_info.txt").exists() else root
        demo = above / "demo_prompt_info.txt"
        return cls(
            _read_prompts(above / "prompt_info.txt", mistakes), _read_prompts(demo, mistakes) if demo.exists() else None
        )

    def of(self, clip: tuple[str, str, str], where: str, mistakes: list[str]) -> str:
        """The prompt of (utterance, system, P-id); without one a mistake is added and the text is empty."""
        utterance, system, prompt_id = clip
        if self.demo is not None and utterance in self.demo:
            return self.demo[utterance]
        if self.demo is None and system in DEMO_SYSTEMS:
            mistakes.append(
                f"{where}: no demo_prompt_info.txt, which holds the prompt of '{utterance}': "
                f"{system} is a demo system, its P-ids mean other prompts than those of prompt_info.txt."
            )
            return ""
        if self.ordinary is not None and prompt_id not in self.ordinary:
            mistakes.append(
                f"{where}: clip '{utterance}' has no prompt: neither '{utterance}.wav' in demo_prompt_info.txt "
                f"nor '{prompt_id}' in prompt_info.txt. Add it to one of them."
            )
        return (self.ordinary or {}).get(prompt_id, "")


def read_official(folder: Path) -> Corpus:
    """A MusicEval folder of either phase, or the parent of exactly one.

    When sets/test_mos_list.txt is there, sets/eval_list.txt names the same clips without labels and is not read.
    """
    root = _find_root(folder)
    seen = Seen()
    prompts = _Prompts.read(root, seen.mistakes)
    sets = root / "sets"
    labelled = {name: sets / f"{name}_mos_list.txt" for name in ("train", "dev", "test")}
    present = {split: path for split, path in labelled.items() if path.exists()}
    unlabelled = sets / "eval_list.txt"
    needs_training_lists = present or not unlabelled.exists()
    clips: list[Clip | None] = []
    for split, path in labelled.items():
        if split in present:
            clips += _read_list(path, split, root / "wav", prompts, seen)
        elif split != "test" and needs_training_lists:
            seen.mistakes.append(f"{path}: no such list; {_LAYOUT}.")
    if "test" not in present and unlabelled.exists():
        clips += _read_list(unlabelled, "eval", root / "wav", prompts, seen)
    system_mos = _read_system_mos(root / "system_mos", seen.mistakes)
    raise_all(seen.mistakes)
    name = root.parent.resolve().name if root.name == "DATA" else root.resolve().name
    return Corpus.of(name, clips, system_mos, root, folder)


def _find_root(folder: Path) -> Path:
    """The folder that holds sets/: here, in DATA/, or in the one subfolder that has it."""
    if not folder.is_dir():
        raise_all([f"{folder}: no such folder; give the MusicEval folder (its sets/ and wav/) or a .csv manifest."])
    children = sorted(child for child in folder.iterdir() if child.is_dir())
    places = [folder, folder / "DATA"], [place for child in children for place in (child, child / "DATA")]
    for candidates in places:
        found = [place for place in candidates if (place / "sets").is_dir()]
        if len(found) > 1:
            raise_all([f"{folder}: found {len(found)} corpora ({', '.join(map(str, found))}). Give one of them."])
        if found:
            return found[0]
    raise_all([f"{folder}: found no folder sets/ in it, in DATA/ or in a subfolder; {_LAYOUT}."])
    raise AssertionError("raise_all returns only without mistakes")


def _read_list(path: Path, split: str, wav: Path, prompts: "_Prompts", seen: Seen) -> list[Clip | None]:
    lines = read_lines(path, seen.mistakes)
    if lines == []:
        seen.mistakes.append(f"{path}:1: found no clip, allowed: at least one.")
    audio_folder = os.path.abspath(wav)
    clips = []
    for line in lines or []:
        parsed = _parsed(line, split == "eval", seen.mistakes) if line.clean else None
        clips.append(_official_clip(line.where, parsed, split, audio_folder, prompts, seen) if parsed else None)
    return clips


def _parsed(line: Line, is_name: bool, mistakes: list[str]) -> tuple[str, float, float] | None:
    """Name, OMQ and TA of a line of a list."""
    if is_name and "," in line.text:
        mistakes.append(f"{line.where}: found '{line.text}', allowed: one id without .wav and without labels.")
        return None
    if is_name:
        return line.text.strip(), math.nan, math.nan
    fields = _three_fields(line, "name.wav,OMQ,TA", mistakes)
    return (fields[0], *parse_labels(line.where, (fields[1], fields[2]), mistakes)) if fields else None


def _three_fields(line: Line, shape: str, mistakes: list[str]) -> list[str]:
    fields = [part.strip() for part in line.text.split(",")]
    if len(fields) == 3:
        return fields
    mistakes.append(f"{line.where}: found {len(fields)} fields in '{line.text}', allowed: 3 ({shape}).")
    return []


def _official_clip(
    where: str, parsed: tuple[str, float, float], split: str, audio_folder: str, prompts: "_Prompts", seen: Seen
) -> Clip | None:
    name, omq, ta = parsed
    utterance = name.removesuffix(".wav")
    match = _NAME.fullmatch(utterance)
    if not match:
        seen.mistakes.append(f"{where}: found the name '{name}', allowed: {_NAME_SHAPE}.")
        return None
    if not seen.is_new(utterance, where):
        return None
    prompt = prompts.of((utterance, match["system"], match["prompt"]), where, seen.mistakes)
    audio = f"{audio_folder}{os.sep}{utterance}.wav"
    return Clip(utterance, match["system"], prompt, audio, omq, ta, split)


def _read_prompts(path: Path, mistakes: list[str]) -> dict[str, str] | None:
    """Texts by id (a wav name without its ending). Ids of broken lines are kept: each mistake is reported once."""
    lines = read_lines(path, mistakes)
    if lines is None:
        return None
    has_header = bool(lines) and lines[0].text.strip() == _PROMPT_HEADER
    if not has_header:
        found = f"'{lines[0].text}'" if lines else "an empty file"
        mistakes.append(f"{path}:1: found {found}, allowed: the header 'id<TAB>text'.")
    texts: dict[str, str] = {}
    for line in lines[has_header:]:
        key, _, text = (part.strip() for part in line.text.partition("\t"))
        name = key.removesuffix(".wav")
        if not name or not text:
            mistakes.append(f"{line.where}: found '{line.text}', allowed: id<TAB>text, neither of them empty.")
        elif texts.get(name, text) != text:
            mistakes.append(f"{line.where}: a second, different text for '{key}'. Give each id one text.")
        if name:
            texts[name] = text
    return texts


def _read_system_mos(folder: Path, mistakes: list[str]) -> dict[str, tuple[float, float]] | None:
    """Rows ``S002,OMQ,TA`` without header of the one csv in `folder`; None when there is none."""
    files = sorted(folder.glob("*.csv"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        mistakes.append(f"{folder}: found {len(files)} csv files ({names}), allowed: one. Remove the others.")
    if len(files) != 1:
        return None
    rows: dict[str, tuple[float, float]] = {}
    for line in read_lines(files[0], mistakes) or []:
        fields = _three_fields(line, "system,OMQ,TA", mistakes)
        if fields and fields[0] in rows:
            mistakes.append(f"{line.where}: duplicate system '{fields[0]}', allowed: each system once.")
        elif fields:
            rows[fields[0]] = parse_labels(line.where, (fields[1], fields[2]), mistakes)
    return rows
