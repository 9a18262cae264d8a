"""Encoding with Whisper-base at its true size and random weights, as `gpu_check.py` measures it."""

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from encode import noise_corpus
from gpu_tools import seconds_of

from whisq_core.checkpoints import ENCODER_ONLY_WHISPER
from whisq_core.encoders import Progress, encode, open_dataset, resolve_backbone
from whisq_core.encoders.families import load_encoder
from whisq_core.spec import BackboneSpec

if TYPE_CHECKING:
    from gpu_check import Check

BASE = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
TINY = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
        "max_source_positions": 50}  # fmt: skip


def measure(check: "Check") -> None:
    """The encoder alone, then everything: decoding, log-mel, encoder, storing. And whether batches change features."""
    clips, seconds, batch = (6, 1.0, 3) if check.small else (384, 10.0, 32)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        folder = Path(name)
        checkpoint = _checkpoint(folder / "whisper", TINY if check.small else BASE)
        if check.small:
            _short_extractor(checkpoint)
        corpus, digests = noise_corpus(folder / "wav", clips, seconds)
        for precision in ("float32", "bf16"):
            spec = BackboneSpec(audio=str(checkpoint), text="untrained:qwen3", precision=precision)  # type: ignore[arg-type]
            backbone = resolve_backbone(spec, folder / "cache")
            encoder = load_encoder(backbone.audio, "audio", spec.precision, check.device)
            wave = np.random.default_rng(0).normal(size=round(16_000 * seconds)).astype(np.float32)
            items = [encoder.prepare(wave)] * batch
            alone = seconds_of(check, lambda: encoder.run(items), 3)  # noqa: B023
            check.put("encoding", **{f"{precision}_encoder_alone_clips_per_s": batch / alone})
        seen: list[tuple[float, int]] = []

        def follow(progress: Progress) -> None:
            if progress.kind == "audio":
                seen.append((time.perf_counter(), progress.done))

        root = folder / "features"
        encode(corpus, digests, backbone, root, device=check.device, batch_size=batch, progress=follow)
        start = len(seen) // 4  # by then processes have started
        rate = (seen[-1][1] - seen[start][1]) / max(seen[-1][0] - seen[start][0], 1e-9)
        check.put("encoding", bf16_whole_clips_per_s=rate, cores=os.cpu_count(), batch=batch, seconds_a_clip=seconds)
        _compare(check, corpus, digests, backbone, root)


def _compare(check: "Check", corpus: object, digests: list[str], backbone: object, root: Path) -> None:
    """The pooled features of a few clips beside those of the CPU, one at a time."""
    few = np.arange(3)
    found = open_dataset(corpus, digests, backbone, root, few).audio.pooled("all")  # type: ignore[arg-type]
    other = root.with_name("on-cpu")
    part = type(corpus)(corpus.name, corpus.clips.iloc[few], None, True)  # type: ignore[attr-defined,call-arg]
    encode(part, digests[:3], backbone, other, device="cpu")  # type: ignore[arg-type]
    exact = open_dataset(part, digests[:3], backbone, other, few).audio.pooled("all")  # type: ignore[arg-type]
    error = float(((found - exact).norm(dim=1) / exact.norm(dim=1)).max())
    check.put("encoding", pooled_difference_from_cpu=error)
    if not error < 0.05:
        raise AssertionError(f"pooled features are {100 * error:.1f} % from those of the CPU")


def _checkpoint(folder: Path, sizes: dict[str, int]) -> Path:
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    WhisperModel(WhisperConfig(**ENCODER_ONLY_WHISPER, **sizes)).save_pretrained(folder)
    return folder


def _short_extractor(folder: Path) -> None:
    from transformers import WhisperFeatureExtractor

    WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
