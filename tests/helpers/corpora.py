"""Tiny corpora of real sound in the official layout, for tests that need a whole folder.

Every clip is a tone plus noise: more noise means a lower OMQ, and a tone that is not in the register which the
prompt asks for means a lower TA, so that a model can learn both.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000  # Hz
# Two demo systems first: their prompts stand in demo_prompt_info.txt and their P-ids collide with the others'.
SYSTEMS = ("S001", "S002", "S003", "S006", "S004", "S007", "S008", "S009", "S010", "S011", "S012", "S013")
DEMO_SYSTEMS = ("S001", "S006", "S013")
INSTRUMENTS = ("flute", "organ", "string bass", "bell", "reed", "horn", "synth", "whistle")


@dataclass(frozen=True)
class Clip:
    """One line of a list, with what is needed to draw its sound."""

    system: str
    prompt_id: str
    prompt: str
    omq: float
    ta: float
    hertz: float
    noise: float

    @property
    def wav_name(self) -> str:
        return f"audiomos2025-track1-{self.system}_{self.prompt_id}.wav"

    @property
    def line(self) -> str:
        return f"{self.wav_name},{self.omq},{self.ta}"


def write_official_corpus(
    folder: Path,
    num_train: int = 12,
    num_dev: int = 8,
    num_test: int = 0,
    num_systems: int = 4,
    seconds: float = 1.0,
    seed: int = 0,
) -> Path:
    """Write a valid training-phase folder and return it; the same arguments give the same bytes.

    Clips last 0.5 to 1.5 times `seconds`. Systems and splits share the prompts P001, P002, ...; a split with at least
    `num_systems` clips has clips of every system. Labels are multiples of 0.2 in [1, 5].
    """
    assert num_systems <= len(SYSTEMS)
    generator = np.random.default_rng(seed)
    total = num_train + num_dev + num_test
    clips = _clips(total, num_systems, generator)
    for name in ("wav", "sets", "system_mos", "person_mos"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for clip in clips:
        wave = _sound(clip, seconds * generator.uniform(0.5, 1.5), generator)
        soundfile.write(folder / "wav" / clip.wav_name, wave, SAMPLE_RATE, subtype="PCM_16")
    _write_lines(folder / "sets/train_mos_list.txt", [clip.line for clip in clips[:num_train]])
    _write_lines(folder / "sets/dev_mos_list.txt", [clip.line for clip in clips[num_train : num_train + num_dev]])
    if num_test:
        _write_lines(folder / "sets/test_mos_list.txt", [clip.line for clip in clips[num_train + num_dev :]])
    _write_prompts(folder, clips)
    _write_system_mos(folder, clips)
    _write_lines(folder / "person_mos/train_person_mos.txt", [f"{clip.wav_name},1,4,4" for clip in clips[:num_train]])
    return folder


def write_evaluation_corpus(folder: Path, num_clips: int = 6, num_systems: int = 3, seed: int = 0) -> Path:
    """Write a valid evaluation-phase folder, `DATA/sets/eval_list.txt` without labels, and return it."""
    generator = np.random.default_rng(seed)
    clips = _clips(num_clips, num_systems, generator)
    for name in ("DATA/wav", "DATA/sets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for clip in clips:
        wave = _sound(clip, 0.5, generator)
        soundfile.write(folder / "DATA/wav" / clip.wav_name, wave, SAMPLE_RATE, subtype="PCM_16")
    _write_lines(folder / "DATA/sets/eval_list.txt", [clip.wav_name.removesuffix(".wav") for clip in clips])
    _write_prompts(folder, clips)
    return folder


def _clips(total: int, num_systems: int, generator: np.random.Generator) -> list[Clip]:
    """Round by round over the systems; each system starts at another prompt, so that splits share prompts."""
    num_prompts = -(-total // num_systems)
    clips = []
    for i in range(total):
        turn, which = divmod(i, num_systems)
        clips.append(_clip(SYSTEMS[which], (turn + which) % num_prompts + 1, generator))
    return clips


def _clip(system: str, number: int, generator: np.random.Generator) -> Clip:
    demo = system in DEMO_SYSTEMS
    instrument = INSTRUMENTS[(number + 3 * demo) % len(INSTRUMENTS)]
    register = ("low", "high")[number % 2]
    prompt = f"A {register} {instrument} tone" + (f", demo take {system}" if demo else "") + f", variation {number}"
    follows = generator.random() < 0.3 + 0.6 * SYSTEMS.index(system) / len(SYSTEMS)
    noise = float(np.clip(SYSTEMS.index(system) / len(SYSTEMS) + generator.normal(0, 0.2), 0, 1))
    return Clip(
        system=system,
        prompt_id=f"P{number:03d}",
        prompt=prompt,
        omq=_label(5 - 4 * noise),
        ta=_label((4.4 if follows else 2.0) + generator.normal(0, 0.4)),
        hertz=float(generator.uniform(120, 240) if (register == "low") == follows else generator.uniform(900, 1600)),
        noise=noise,
    )


def _label(value: float) -> float:
    """The nearest mean of five whole ratings."""
    return round(round(float(np.clip(value, 1, 5)) * 5) / 5, 1)


def _sound(clip: Clip, seconds: float, generator: np.random.Generator) -> np.ndarray:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * clip.hertz * time) + 0.3 * np.sin(4 * np.pi * clip.hertz * time)
    return 0.3 * tone + 0.2 * clip.noise * generator.normal(size=time.shape).clip(-2.5, 2.5)


def _write_prompts(folder: Path, clips: list[Clip]) -> None:
    """Two TSV files: P-ids of the ordinary systems, full wav names of the demo systems."""
    ordinary = {clip.prompt_id: clip.prompt for clip in clips if clip.system not in DEMO_SYSTEMS}
    demo = {clip.wav_name: clip.prompt for clip in clips if clip.system in DEMO_SYSTEMS}
    for name, prompts in (("prompt_info.txt", ordinary), ("demo_prompt_info.txt", demo)):
        _write_lines(folder / name, ["id\ttext", *(f"{key}\t{text}" for key, text in prompts.items())])


def _write_system_mos(folder: Path, clips: list[Clip]) -> None:
    """Means over all clips of a system, so that the csv convention differs from the evaluated clips' means."""
    lines = []
    for system in sorted({clip.system for clip in clips}):
        labels = np.array([(clip.omq, clip.ta) for clip in clips if clip.system == system])
        omq, ta = labels.mean(axis=0)
        lines.append(f"{system},{omq:.4f},{ta:.4f}")
    _write_lines(folder / "system_mos/system_mos_phase1.csv", lines)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
