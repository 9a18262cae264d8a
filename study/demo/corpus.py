"""The built-in demo corpus: composed, damaged, rated, and written in the official MusicEval layout.

Pieces, systems and raters are simulated from one seed, byte for byte the same each time. `SIMULATED.txt` in the folder
says so, and how; every table made from the corpus carries the mark.
"""

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from study.demo import ratings
from study.demo.ratings import SYSTEMS, Panel, Performance, System, perform
from study.demo.sound import ATTRIBUTES, INSTRUMENTS, SAMPLE_RATE, play, spoil
from whisq_core.corpus.musiceval import DEMO_SYSTEMS
from whisq_core.errors import InputError
from whisq_core.files import sweep, write_atomically

RECIPE = 3  # raise it whenever this code makes another corpus
SEED = 0
NUM_TRAIN, NUM_DEV = 120, 100
NUM_PROMPTS = 36  # of the ordinary systems
NUM_DEMO_PROMPTS = 14  # of the demo systems; their P-ids collide with the ordinary ones, as in the real corpus
MOODS = {
    ("slow", "major"): ("tender", "peaceful"),
    ("slow", "minor"): ("mournful", "melancholy"),
    ("fast", "major"): ("joyful", "upbeat"),
    ("fast", "minor"): ("urgent", "tense"),
}


@dataclass(frozen=True)
class Prompt:
    """One prompt: its P-id, its words, and the value of each attribute that they name."""

    name: str
    text: str
    asked: dict[str, str]


@dataclass(frozen=True)
class Clip:
    """One system's answer to one prompt, with OMQ and TA by each of its raters; `number` seeds its sound."""

    number: int
    system: System
    prompt: Prompt
    performance: Performance
    ratings: dict[str, tuple[int, int]]

    @property
    def file(self) -> str:
        """The official name."""
        return f"audiomos2025-track1-{self.system.name}_{self.prompt.name}.wav"

    @property
    def labels(self) -> np.ndarray:
        """Mean OMQ and TA."""
        return np.asarray(np.mean(list(self.ratings.values()), axis=0))

    def sound(self) -> bytes:
        """The content of the sound file."""
        generator, strengths = np.random.default_rng([SEED, self.number]), self.performance.strengths
        audio = spoil(play(self.performance.played, strengths, generator), strengths, generator)
        content = io.BytesIO()
        soundfile.write(content, audio, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        return content.getvalue()


def write_demo_corpus(folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write the corpus to `folder`; files of it that are there already are kept.

    Parameters
    ----------
    folder
        Missing, empty, or a demo corpus: one of another recipe is replaced.
    progress
        Called with (sound files written, sound files to write) after each one.

    Raises
    ------
    InputError
        When the folder holds something else or cannot be written.
    """
    _claim(folder)
    clips = plan()
    missing = [clip for clip in clips if not (folder / "wav" / clip.file).exists()]
    for done, clip in enumerate(missing, start=1):
        write_atomically(folder / "wav" / clip.file, [clip.sound()])
        progress(done, len(missing))
    for name, lines in _lists(clips[:NUM_TRAIN], clips[NUM_TRAIN:]).items():
        if not (folder / name).exists():
            write_atomically(folder / name, ["".join(f"{line}\n" for line in lines).encode()])


def _claim(folder: Path) -> None:
    """Make `folder` ours: its first file is `SIMULATED.txt`, which tells the recipe of all others."""
    mark, text = folder / "SIMULATED.txt", _explanation()
    title = text.splitlines()[0]
    try:
        found = mark.read_text(encoding="utf-8", errors="replace") if mark.is_file() else ""
        if found != text and folder.exists():
            if not (folder.is_dir() and (found.startswith(title) or not any(folder.iterdir()))):
                raise InputError(
                    f"{folder}: found something that is not a demo corpus. Give another folder or remove it."
                )
            shutil.rmtree(folder)
        sweep(folder / "wav")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --out or free space."
        ) from error
    if found != text:
        write_atomically(mark, [text.encode()])


def _explanation() -> str:
    """What is not real in the corpus, with the numbers that made it."""
    template = Path(__file__).with_name("simulated.txt").read_text(encoding="utf-8")
    return template.format(
        recipe=f"recipe {RECIPE}, seed {SEED}, {NUM_TRAIN} training clips, {NUM_DEV} dev clips",
        attributes="\n".join(f"  {name}: {', '.join(values)}" for name, values in ATTRIBUTES.items()),
        systems="\n".join(
            f"  {system.name}  faithfulness {system.faithfulness:.2f}, house style {system.house}, "
            f"damage {system.damage:.2f} ({', '.join(system.kinds)})"
            for system in SYSTEMS
        ),
        styles="\n".join(f"  {name}: {', '.join(style.values())}" for name, style in ratings.HOUSE_STYLES.items()),
        harms=", ".join(f"{name} {value}" for name, value in ratings.HARMS.items()),
        weights=", ".join(f"{name} {value}" for name, value in ratings.WEIGHTS.items()),
        numbers=ratings,
    )


def plan() -> list[Clip]:
    """All clips, train before dev: round after round, each system answers its next prompt.

    So train and dev share all systems and most prompts.
    """
    generator = np.random.default_rng(SEED)
    ordinary, demo = _prompts(NUM_PROMPTS, generator), _prompts(NUM_DEMO_PROMPTS, generator)
    panel = Panel(generator)
    pools = [demo if system.name in DEMO_SYSTEMS else ordinary for system in SYSTEMS]
    orders = [generator.permutation(len(pool)) for pool in pools]
    clips: list[Clip] = []
    for turn in range(NUM_DEMO_PROMPTS):
        for place in generator.permutation(len(SYSTEMS)):
            system, prompt = SYSTEMS[place], pools[place][orders[place][turn]]
            performance = perform(system, prompt.asked, generator)
            clips.append(Clip(len(clips), system, prompt, performance, panel.rate(performance.truth, generator)))
    return clips[: NUM_TRAIN + NUM_DEV]


def _prompts(count: int, generator: np.random.Generator) -> list[Prompt]:
    """Prompts for all instruments in turn; whatever else they ask for is drawn.

    They are short, since the cost of training grows with the tokens of a prompt.
    """
    prompts = []
    for number in range(count):
        asked = {name: str(generator.choice(values)) for name, values in ATTRIBUTES.items()}
        asked["instrument"] = list(INSTRUMENTS)[number % len(INSTRUMENTS)]
        instrument = generator.choice(INSTRUMENTS[asked["instrument"]].words)
        tempo, register, mode, drums = asked["tempo"], asked["register"], asked["mode"], asked["drums"]
        mood = generator.choice(MOODS[tempo, mode])
        wordings = (
            f"{mood}, {tempo} {mode} piece on {instrument}, {register} register, {drums}.",
            f"{instrument}: {mood}, {tempo} tune, {register} register, {mode}, {drums}.",
            f"{tempo} and {mood} music for {instrument}, {drums}, {register} register, {mode}.",
        )
        text = str(generator.choice(wordings))
        prompts.append(Prompt(f"P{number + 1:03d}", text[0].upper() + text[1:], asked))
    return prompts


def _lists(train: Sequence[Clip], dev: Sequence[Clip]) -> dict[str, list[str]]:
    """The lines of each text file by its official place; last those without which a folder is no corpus."""
    ordinary: dict[str, str] = {}
    demo: dict[str, str] = {}
    labels: dict[str, list[np.ndarray]] = {}
    for clip in (*train, *dev):
        if clip.system.name in DEMO_SYSTEMS:
            demo[clip.file] = clip.prompt.text
        else:
            ordinary[clip.prompt.name] = clip.prompt.text
        labels.setdefault(clip.system.name, []).append(clip.labels)
    means = {name: np.mean(values, axis=0) for name, values in sorted(labels.items())}
    people = [(clip.file, rater, *scores) for clip in train for rater, scores in clip.ratings.items()]
    return {
        "prompt_info.txt": ["id\ttext", *(f"{name}\t{text}" for name, text in sorted(ordinary.items()))],
        "demo_prompt_info.txt": ["id\ttext", *(f"{name}\t{text}" for name, text in sorted(demo.items()))],
        "system_mos/system_mos_phase1.csv": [f"{name},{omq:.6f},{ta:.6f}" for name, (omq, ta) in means.items()],
        "person_mos/train_person_mos.txt": [f"{file},{rater},{omq},{ta}" for file, rater, omq, ta in people],
        "sets/train_mos_list.txt": [f"{clip.file},{clip.labels[0]:.1f},{clip.labels[1]:.1f}" for clip in train],
        "sets/dev_mos_list.txt": [f"{clip.file},{clip.labels[0]:.1f},{clip.labels[1]:.1f}" for clip in dev],
    }
