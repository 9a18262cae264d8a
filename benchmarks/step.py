"""Milliseconds per clip of a training step: textbook, ours, and what its matrix products alone take here.

All three take turns in one process, so that a busy machine slows them alike; medians over the repeats.

    python benchmarks/step.py --threads 2
    python benchmarks/step.py --attention cross --no-ot --frames 350 --tokens 20 --text-dim 384 --json
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from textbook import TextbookLoss, TextbookWhisQ, pad

from whisq_core.features import Dataset, FeatureKey, FeatureStore, FeatureTable
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import Trainer

FRAME_NORM = 31.0  # of real Whisper-base frames
TOKEN_NORM = 8.0  # of real MiniLM tokens


@dataclass(frozen=True)
class Sizes:
    """What is measured; `textbook_batch` is smaller since textbook's memory grows with frames squared."""

    frames: int
    tokens: int
    audio_dim: int
    text_dim: int
    batch: int
    textbook_batch: int
    prompts: int


@dataclass(frozen=True)
class Result:
    """Medians; `cpu` is processor time, which a busy machine disturbs less."""

    textbook_ms_per_clip: float
    ours_ms_per_clip: float
    products_ms_per_clip: float
    textbook_cpu_ms_per_clip: float
    ours_cpu_ms_per_clip: float
    products_cpu_ms_per_clip: float
    ratio: float
    fraction_of_ceiling: float
    gflops: float
    threads: int
    precision: str


def main() -> None:
    """Parse, measure, print."""
    arguments = _arguments()
    sizes = Sizes(
        arguments.frames,
        arguments.tokens,
        arguments.audio_dim,
        arguments.text_dim,
        arguments.batch,
        arguments.textbook_batch,
        arguments.prompts or arguments.batch,
    )
    settings = {
        "model.attention": arguments.attention,
        "train.precision": arguments.precision,
        "train.threads": arguments.threads,
        "train.batch_size": sizes.batch,
        "train.device": "cpu",
    }
    if not arguments.ot:
        settings["loss.ot_weight"] = 0
    spec = with_settings(RunSpec(), settings)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(spec, _data(Path(folder), sizes), sizes, arguments.repeats)
    print(json.dumps(asdict(result), indent=1) if arguments.json else _text(result))


def measure(spec: RunSpec, data: Dataset, sizes: Sizes, repeats: int) -> Result:
    """Time the three in turn; the first round warms up and is not counted."""
    trainer = Trainer(spec, data)
    textbook = _textbook_step(spec, data, sizes)
    flops, products = _products(spec, sizes)
    tasks: dict[str, tuple[int, Callable[[], object]]] = {
        "textbook": (sizes.textbook_batch, textbook),
        "ours": (sizes.batch, lambda: trainer.epoch(1)),
        "products": (1, products),
    }
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    cpu: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, (clips, task) in tasks.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            task()
            wall[name].append((time.perf_counter() - start) / clips * 1e3)
            cpu[name].append((time.process_time() - start_cpu) / clips * 1e3)
    ms = {name: statistics.median(values[1:]) for name, values in wall.items()}
    cpu_ms = {name: statistics.median(values[1:]) for name, values in cpu.items()}
    return Result(
        textbook_ms_per_clip=ms["textbook"],
        ours_ms_per_clip=ms["ours"],
        products_ms_per_clip=ms["products"],
        textbook_cpu_ms_per_clip=cpu_ms["textbook"],
        ours_cpu_ms_per_clip=cpu_ms["ours"],
        products_cpu_ms_per_clip=cpu_ms["products"],
        ratio=ms["textbook"] / ms["ours"],
        fraction_of_ceiling=ms["products"] / ms["ours"],
        gflops=flops / ms["products"] / 1e6,
        threads=spec.train.threads,
        precision=spec.train.precision,
    )


def _textbook_step(spec: RunSpec, data: Dataset, sizes: Sizes) -> Callable[[], object]:
    model = TextbookWhisQ(Trainer(spec, data).model)
    loss = TextbookLoss(spec.loss)
    optimizer = torch.optim.SGD(model.parameters(), spec.train.learning_rate, spec.train.momentum)

    def step() -> None:
        clips = range(sizes.textbook_batch)
        audio = [data.audio.frames(clip) for clip in clips]
        text = [data.text.frames(int(data.prompt_of[clip])) for clip in clips]
        labels = torch.from_numpy(np.stack([data.omq, data.ta], axis=1)).float()[: len(clips)]
        loss(model, pad(audio, text, labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _products(spec: RunSpec, sizes: Sizes) -> tuple[float, Callable[[], object]]:
    """The matrix products that no identity removes, of one clip: their operations, and a call that does them.

    Frames times rows, forward and back; projection, query or key projection and absorption of a prompt's tokens,
    forward and for both gradients (the projection's input needs none), shared by the clips of a prompt.
    """
    dim, heads = spec.model.feature_dim, spec.model.heads
    directions = {"sequence": 2, "cross": 1}.get(spec.model.attention, 0)
    rows = sizes.tokens * (heads * directions + (spec.loss.ot_weight > 0))
    tokens = sizes.tokens * sizes.prompts
    shapes = [(rows, sizes.audio_dim, sizes.frames, 1.0), (rows, sizes.frames, sizes.audio_dim, 1.0)]
    shared = sizes.prompts / sizes.batch
    shapes += [(tokens, sizes.text_dim, dim, 2 * shared / sizes.prompts)]
    shapes += [(tokens, dim, dim, 3 * 2 * directions * shared / sizes.prompts)]
    shapes = [shape for shape in shapes if shape[0] and shape[3]]
    arrays = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n, _ in shapes]
    flops = sum(2.0 * m * k * n * times for m, k, n, times in shapes)
    dtype = torch.bfloat16 if spec.train.precision == "bf16" else torch.float32
    arrays = [tuple(array.to(dtype) for array in trio) for trio in arrays]  # type: ignore[misc]
    return flops, lambda: [torch.mm(left, right, out=out) for left, right, out in arrays]


def _data(folder: Path, sizes: Sizes) -> Dataset:
    """Random features of real features' sizes and norms, in a real store."""
    generator = np.random.default_rng(0)
    audio = _table(folder, "audio", generator, (sizes.batch, sizes.frames, sizes.audio_dim), FRAME_NORM)
    text = _table(folder, "text", generator, (sizes.prompts, sizes.tokens, sizes.text_dim), TOKEN_NORM)
    return Dataset(
        utterances=tuple(f"clip{clip}" for clip in range(sizes.batch)),
        systems=("S001",) * sizes.batch,
        audio=audio,
        text=text,
        prompt_of=np.arange(sizes.batch) % sizes.prompts,
        omq=generator.uniform(1, 5, sizes.batch),
        ta=generator.uniform(1, 5, sizes.batch),
    )


def _table(
    folder: Path, kind: str, generator: np.random.Generator, shape: tuple[int, int, int], norm: float
) -> FeatureTable:
    store = FeatureStore(folder, FeatureKey(kind, "0" * 64, "random numbers", "float32"))  # type: ignore[arg-type]
    keys = [f"{item:064x}" for item in range(shape[0])]
    for key in keys:
        frames = generator.normal(size=shape[1:], scale=norm / shape[2] ** 0.5).astype(np.float32)
        store.write(key, frames, len(frames))
    return store.open(keys)


def _text(result: Result) -> str:
    return "\n".join(
        [
            f"{'':20}{'ms per clip':>12}{'CPU ms':>10}",
            f"{'textbook':20}{result.textbook_ms_per_clip:12.2f}{result.textbook_cpu_ms_per_clip:10.2f}",
            f"{'ours':20}{result.ours_ms_per_clip:12.2f}{result.ours_cpu_ms_per_clip:10.2f}",
            f"{'products alone':20}{result.products_ms_per_clip:12.2f}{result.products_cpu_ms_per_clip:10.2f}",
            f"{result.ratio:.1f} times faster than textbook; {result.fraction_of_ceiling:.0%} of the ceiling of "
            f"{result.gflops:.0f} GFLOP/s; {result.threads} threads, {result.precision}",
        ]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("frames", 1500), ("tokens", 24), ("audio-dim", 512), ("text-dim", 1024), ("batch", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--textbook-batch", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=0, help="distinct prompts in the batch; 0: one per clip")
    parser.add_argument("--attention", choices=("sequence", "cross", "none"), default="sequence")
    parser.add_argument("--ot", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
