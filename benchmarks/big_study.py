"""A corpus, a feature store and a database as large as a real study's: sparse files, invented runs."""

import hashlib
import math
import wave
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from study.ablation import AblateRequest, prepare
from study.config import SHIPPED_FILE
from study.engine import Cell, Pool, Sources, Workspace, identify, score
from study.store import CellEntry, Run, Scored
from whisq_core.features import FeatureKey, FeatureStore, StoreMeta
from whisq_core.features.file import Item, ItemKey, file_bytes, frames_offset
from whisq_core.spec import BackboneSpec, RunSpec, digest

SPLITS = {"train": 1923, "dev": 412, "test": 413}  # MusicEval
NUM_PROMPTS = 384
NUM_SYSTEMS = 31
FRAMES, AUDIO_DIM = 1500, 512  # Whisper-base, half precision: 1.5 MB a clip
TOKENS, TEXT_DIM = 24, 1024  # Qwen3-0.6B
REAL_ENCODERS = {
    "openai/whisper-base": "untrained:whisper",
    "Qwen/Qwen3-0.6B": "untrained:qwen3",
    "laion/larger_clap_music": "untrained:clap",
    "facebook/wav2vec2-base": "untrained:wav2vec2",
    "answerdotai/ModernBERT-base": "untrained:modernbert",
}


def write_corpus(folder: Path) -> Path:
    """A CSV manifest of short clips with random labels; features decide what training costs, not sound."""
    generator = np.random.default_rng(0)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    lines = ["utterance,system,prompt,audio,omq,ta,split"]
    splits = [name for name, count in SPLITS.items() for _ in range(count)]
    for index, split in enumerate(splits):
        samples = generator.integers(-2000, 2000, 800, dtype=np.int16)  # 50 ms at 16 kHz
        with wave.open(str(folder / f"wav/clip{index}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        omq, ta = generator.integers(5, 26, 2) / 5
        prompt = f"a prompt of number {index % NUM_PROMPTS}"
        lines.append(f"clip{index},S{index % NUM_SYSTEMS:03d},{prompt},wav/clip{index}.wav,{omq},{ta},{split}")
    manifest = folder / "corpus.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def write_file(folder: Path) -> Path:
    """Table II with encoders whose weights are always at hand."""
    text = SHIPPED_FILE.read_text(encoding="utf-8")
    for name, stand_in in REAL_ENCODERS.items():
        text = text.replace(name, stand_in)
    path = folder / "table.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_features(workspace: Workspace) -> None:
    """Sparse files for the base's encoders: a real header, random means and first frames; the rest takes no disk."""
    backbone = workspace.backbone(BackboneSpec(audio="untrained:whisper", text="untrained:qwen3"))
    prompts = workspace.corpus.clips["prompt"].unique()
    texts = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts]
    _write_store(workspace.features, backbone.audio_key, list(workspace.audio_digests), FRAMES, AUDIO_DIM)
    _write_store(workspace.features, backbone.text_key, texts, TOKENS, TEXT_DIM)


def _write_store(root: Path, key: FeatureKey, items: Sequence[str], num_frames: int, dim: int) -> None:
    store, generator = FeatureStore(root, key), np.random.default_rng(1)
    store.describe(StoreMeta("a placeholder", dim, 20_590_592, None, None, untrained=True))
    beginning = generator.normal(size=(min(16, num_frames), dim)).astype("<f2").tobytes()
    rest = bytes(2 * dim * num_frames - len(beginning))
    frames_crc = zlib.crc32(rest, zlib.crc32(beginning))
    for item in items:
        pooled = generator.normal(size=(2, dim)).astype("<f4")
        head = Item(dim, num_frames, num_frames, frames_crc, pooled).head(ItemKey(item, key.digest))
        with store.path(item).open("wb") as file:
            file.write(head)
            file.seek(frames_offset(dim))
            file.write(beginning)
            file.truncate(file_bytes(dim, num_frames))


def fill_database(sources: Sources, num_runs: int) -> None:
    """Finished runs of one table: its cells but those of the row mlp_only, and older runs with other learning rates."""
    prepared = prepare(AblateRequest(sources), Pool(1))
    database, workspace = prepared.database, prepared.inputs.workspace
    cells = [cell for cell in prepared.cells if cell.run_id]
    done = [cell for cell in cells if cell.row != "mlp_only"]
    with database.writing("benchmark"):
        database.save_corpus(workspace.stored_corpus())
        entries = [CellEntry(cell.row, cell.seed, cell.run_id, None, workspace.digest) for cell in cells]
        database.save_cells(prepared.file.name, entries)
        for number in range(num_runs):
            is_current = number < len(done)
            cell = done[number] if is_current else cells[number % len(cells)]
            other = {} if is_current else {"train.learning_rate": 1e-6 * number}
            database.save_run(_run(cell, workspace, number, other))


def _run(cell: Cell, workspace: Workspace, number: int, other: dict[str, float]) -> Run:
    parts = {**identify(cell.spec, workspace).parts, **other}
    return Run(
        run_id=digest(parts),
        table_name="table2",
        row=cell.row,
        seed=cell.seed,
        state="done",
        identity=parts,
        details={"system_truth": "clips", "num_trainable": 3_052_802, "num_total": 619_693_314, "macs": None,
                 "untrained": True, "audio_dim": AUDIO_DIM, "num_train_clips": 1923, "frames": FRAMES,
                 "tokens": TOKENS},
        curve=_curve(number % 50) if cell.spec.uses_features else [],
        manifest={"packages": {"torch": "2.13.0"}, "made_at": "2025-01-01T00:00:00+00:00"},
        seconds=600.0,
        finished_at=1.7e9 - number,
        scored={"dev": _scored(workspace, number % 50)},
    )  # fmt: skip


@cache
def _scored(workspace: Workspace, number: int) -> Scored:
    """Noisy labels as predictions; 50 different ones are enough for 10,000 runs."""
    generator = np.random.default_rng(number)
    dev = np.flatnonzero(workspace.corpus.clips["split"] == "dev")
    truth = workspace.corpus.clips[["omq", "ta"]].to_numpy(np.float64)[dev]
    return score(dev, truth + generator.normal(0, 1, truth.shape), workspace, RunSpec())


@cache
def _curve(number: int) -> list[dict[str, float]]:
    """148 epochs of the nine numbers that training records."""
    names = ("loss", "huber_omq", "huber_ta", "ot", "ot_gradient_share", "gradient_norm_omq", "gradient_norm_ta")
    noise = np.random.default_rng(number).random((148, len(names)))
    return [
        {"epoch": epoch + 1, **dict(zip(names, (math.exp(-epoch / 30) + line).tolist(), strict=True)), "seconds": 4.0}
        for epoch, line in enumerate(noise)
    ]
