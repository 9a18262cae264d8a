"""The built-in demo corpus: composed, damaged, rated, and written in the official MusicEval layout.

Pieces, systems and raters are simulated (demo_music.py, demo_systems.py) from one seed, byte for byte the same each
time on one machine. `SIMULATED.txt` in the folder says so, and how; every table made from it carries the mark.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.demo import text as demo_text
from study.demo.music import SOUNDS, Prompt, draw_prompt
from study.demo.render import Piece, render
from study.demo.systems import SYSTEMS, Performance, System, draw_raters, perform, rate
from whisq_core.errors import InputError

RECIPE = 2  # raise it whenever the same parameters give another corpus
RECIPE_FILE = "recipe.json"
NUM_PROMPTS = 36  # of the ordinary systems
NUM_DEMO_PROMPTS = 14  # of the demo systems; their P-ids collide with the ordinary ones, as in the real corpus
NUM_RATERS, RATERS_PER_CLIP = 15, 5
MAX_CLIPS = sum(NUM_DEMO_PROMPTS if system.demo else NUM_PROMPTS for system in SYSTEMS)
_PACKAGES = ("pretty_midi", "midirenderer")
# Numbers of the random streams below the corpus seed: each part of the corpus draws from its own.
_PLAN, _PERFORMANCE, _SOUND, _RATERS, _RATING = range(5)


@dataclass(frozen=True)
class Clip:
    """One system's answer to one prompt; `index` is its place in the plan and names its random streams."""

    index: int
    system: System
    prompt: Prompt

    @property
    def utterance(self) -> str:
        """The official name, without `.wav`."""
        return f"audiomos2025-track1-{self.system.name}_{self.prompt.name}"


@dataclass(frozen=True)
class Rated:
    """What was done in a clip, and one (rater, omq, ta) for each rating."""

    clip: Clip
    performance: Performance
    ratings: tuple[tuple[str, int, int], ...]

    @property
    def mean(self) -> tuple[float, float]:
        """The labels (omq, ta)."""
        omq, ta = np.mean([rating[1:] for rating in self.ratings], axis=0).tolist()
        return omq, ta


def render_demo_corpus(
    folder: Path,
    *,
    seed: int = 0,
    num_train: int = 120,
    num_dev: int = 100,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the corpus to `folder`, or keep the complete one of the same recipe that is there.

    The folder appears whole or not at all, and is the same whatever the number of `workers`. `progress` gets (clips
    done, clips in all).

    Raises:
        InputError: when a package is missing, a number is out of range, the folder holds something else, or it
            cannot be written.
    """
    recipe = {"recipe": RECIPE, "seed": seed, "num_train": num_train, "num_dev": num_dev}
    _check(folder, num_train, num_dev)
    if _is_complete(folder, recipe):
        return
    unfinished = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    try:
        _sweep(folder)
        (unfinished / "wav").mkdir(parents=True)
        rated = _render_clips(unfinished / "wav", plan(seed, num_train + num_dev), seed, workers, progress)
        _write_lists(unfinished, rated[:num_train], rated[num_train:])
        (unfinished / "SIMULATED.txt").write_text(demo_text.explanation(recipe), encoding="utf-8")
        (unfinished / RECIPE_FILE).write_text(json.dumps(recipe) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)  # ours, of another recipe, or damaged: `_check` refused everything else
        os.replace(unfinished, folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --out or free space."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def plan(seed: int, num_clips: int) -> list[Clip]:
    """The first `num_clips` clips: round after round, each system answers its next prompt.

    So train and dev, cut one after the other, share all systems and most prompts, and a smaller corpus is the
    beginning of a larger one.
    """
    generator = _stream(seed, _PLAN)
    sounds = list(SOUNDS)
    ordinary, demo = (
        [draw_prompt(f"P{number + 1:03d}", sounds[number % len(sounds)], generator) for number in range(count)]
        for count in (NUM_PROMPTS, NUM_DEMO_PROMPTS)
    )
    queues = {
        system.name: [pool[place] for place in generator.permutation(len(pool))]
        for system in SYSTEMS
        for pool in ([demo] if system.demo else [ordinary])
    }
    clips: list[Clip] = []
    while len(clips) < num_clips:
        for place in generator.permutation(len(SYSTEMS)):
            system = SYSTEMS[place]
            if queues[system.name]:
                clips.append(Clip(len(clips), system, queues[system.name].pop()))
    return clips[:num_clips]


def _stream(seed: int, *names: int) -> np.random.Generator:
    return np.random.default_rng([seed, *names])


def _check(folder: Path, num_train: int, num_dev: int) -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the demo corpus: {' and '.join(missing)} not installed, needed to render it. "
            "Run: pip install 'whisq-study[demo]'"
        )
    if num_train < 1 or num_dev < 1 or num_train + num_dev > MAX_CLIPS:
        raise InputError(
            f"the demo corpus: found {num_train} train and {num_dev} dev clips, "
            f"allowed: at least 1 of each, at most {MAX_CLIPS} together."
        )
    is_ours = (folder / RECIPE_FILE).is_file() and (folder / "SIMULATED.txt").is_file()
    if folder.exists() and not is_ours and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: found something that is not a demo corpus. Give another folder or remove it.")


def _is_complete(folder: Path, recipe: dict[str, int]) -> bool:
    """Whether `folder` is this very corpus with every file that was written."""
    try:
        if json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8")) != recipe:
            return False
        names = [
            line.split(",")[0]
            for split in ("train", "dev")
            for line in (folder / "sets" / f"{split}_mos_list.txt").read_text(encoding="utf-8").splitlines()
        ]
    except (OSError, ValueError):
        return False
    others = ("prompt_info.txt", "demo_prompt_info.txt", "system_mos/system_mos_phase1.csv")
    paths = [folder / "wav" / name for name in names] + [folder / name for name in others]
    return len(names) == recipe["num_train"] + recipe["num_dev"] and all(path.is_file() for path in paths)


def _sweep(folder: Path) -> None:
    """Remove what killed renders of this folder left beside it."""
    for path in folder.parent.glob(f".{folder.name}.unfinished-*"):
        process = int(path.name.rpartition("-")[2])
        if process == os.getpid() or not _is_alive(process):  # a container gives the same numbers again
            shutil.rmtree(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    return True


def _render_clips(
    wav: Path, clips: Sequence[Clip], seed: int, workers: int, progress: Callable[[int, int], None]
) -> list[Rated]:
    """Each clip's file written, and the clip rated."""
    performances = [perform(clip.system, clip.prompt.asked, _stream(seed, _PERFORMANCE, clip.index)) for clip in clips]
    pieces = [
        Piece(wav / f"{clip.utterance}.wav", performance, _stream(seed, _SOUND, clip.index))
        for clip, performance in zip(clips, performances, strict=True)
    ]
    render(pieces, workers, lambda done: progress(done, len(clips)))
    raters = draw_raters(NUM_RATERS, _stream(seed, _RATERS))
    rated = []
    for clip, performance in zip(clips, performances, strict=True):
        generator = _stream(seed, _RATING, clip.index)
        people = [raters[place] for place in generator.choice(NUM_RATERS, RATERS_PER_CLIP, replace=False)]
        ratings = tuple((rater.name, *rate(performance, rater, generator)) for rater in people)
        rated.append(Rated(clip, performance, ratings))
    return rated


def _write_lists(folder: Path, train: Sequence[Rated], dev: Sequence[Rated]) -> None:
    """Lists, prompts and scores, each in its official place and form."""
    both = [*train, *dev]
    scores: dict[str, list[tuple[float, float]]] = {}
    for item in both:
        scores.setdefault(item.clip.system.name, []).append(item.mean)
    system_means = {name: np.mean(values, axis=0) for name, values in sorted(scores.items())}
    ordinary = {item.clip.prompt.name: item.clip.prompt.text for item in both if not item.clip.system.demo}
    demo = {f"{item.clip.utterance}.wav": item.clip.prompt.text for item in both if item.clip.system.demo}
    files = {
        "sets/train_mos_list.txt": [_label_line(item) for item in train],
        "sets/dev_mos_list.txt": [_label_line(item) for item in dev],
        "system_mos/system_mos_phase1.csv": [f"{name},{omq:.6f},{ta:.6f}" for name, (omq, ta) in system_means.items()],
        "person_mos/train_person_mos.txt": [
            f"{item.clip.utterance}.wav,{rater},{omq},{ta}" for item in train for rater, omq, ta in item.ratings
        ],
        "prompt_info.txt": ["id\ttext", *(f"{name}\t{text}" for name, text in sorted(ordinary.items()))],
        "demo_prompt_info.txt": ["id\ttext", *(f"{name}\t{text}" for name, text in sorted(demo.items()))],
    }
    for name, lines in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _label_line(item: Rated) -> str:
    omq, ta = item.mean
    return f"{item.clip.utterance}.wav,{omq:.1f},{ta:.1f}"
