"""Milliseconds per clip of a training step: textbook, ours, and what its matrix products alone take here.

All three take turns in one process, so that a busy machine slows them alike; medians over the repeats.

    python benchmarks/step.py
    python benchmarks/step.py --threads 1 --attention cross --no-ot --frames 350 --tokens 20 --text-dim 384 --json

With `--against REV` this version's step takes turns with that of another commit, each in a process of its own; the
other one is checked out and its kernels are built in a temporary folder. The ratios are those of neighbouring turns:

    python benchmarks/step.py --against HEAD~1 --precision float32 --repeats 9
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import compare, serve

from whisq_core.spec import RunSpec, with_settings


def _found(name: str, *modules: str) -> Any:
    """The name from the first of these modules that has it: another commit may have it elsewhere."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"this commit has no {name} in {' or '.join(modules)}")


_STORE = ("whisq_core.features", "whisq_core.features.store")
Dataset, FeatureKey, FeatureStore = (_found(name, *_STORE) for name in ("Dataset", "FeatureKey", "FeatureStore"))
Trainer = _found("Trainer", "whisq_core.training.step", "whisq_core.training.fit", "whisq_core.training")

ROOT = Path(__file__).resolve().parents[1]
FRAME_NORM = 31.0  # of real Whisper-base frames
TOKEN_NORM = 8.0  # of real MiniLM tokens


@dataclass(frozen=True)
class Sizes:
    """What is measured; `textbook_batch` is smaller since textbook's memory grows with frames squared.

    Ours goes through an epoch of `steps` batches (what an epoch records is paid once), whose clips share `prompts`.
    """

    frames: int
    tokens: int
    audio_dim: int
    text_dim: int
    batch: int
    textbook_batch: int
    prompts: int
    steps: int = 1

    @property
    def clips(self) -> int:
        """Of an epoch."""
        return self.batch * self.steps

    @property
    def prompts_of_a_batch(self) -> float:
        """How many distinct prompts a batch meets, on average."""
        generator = np.random.default_rng(0)
        batches = generator.permutation(self.clips).reshape(self.steps, self.batch) % self.prompts
        return float(np.mean([len(np.unique(batch)) for batch in batches]))


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
        arguments.prompts,
        arguments.steps,
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
    if arguments.against and not arguments.serve:
        turns = compare(arguments.against, [__file__, *sys.argv[1:], "--serve"], arguments.repeats)
        print(json.dumps(asdict(turns), indent=1) if arguments.json else turns.text())
        return
    with tempfile.TemporaryDirectory() as folder:
        data = synthetic_dataset(Path(folder), sizes)
        if arguments.serve:
            trainer = Trainer(spec, data)
            serve(lambda: _time(lambda: trainer.epoch(1), sizes.clips))
            return
        result = measure(spec, data, sizes, arguments.repeats)
    print(json.dumps(asdict(result), indent=1) if arguments.json else _text(result))


def measure(spec: RunSpec, data: Any, sizes: Sizes, repeats: int) -> Result:
    """Time the three in turn; the first round warms up and is not counted."""
    trainer = Trainer(spec, data)
    textbook = _textbook_step(spec, data, sizes)
    products = _products(spec, sizes)
    rounds = []
    for _ in range(repeats + 1):
        theirs = _time(textbook, sizes.textbook_batch)
        # One product takes milliseconds: as many turns as make it as long as the others.
        ceilings = [_time_products(products) for _ in range(20)]
        ours = _time(lambda: trainer.epoch(1), sizes.clips)
        ceiling = tuple(statistics.median(values) for values in zip(*ceilings, strict=True))
        rounds.append((*theirs, *ours, *ceiling))
    medians = [statistics.median(values) for values in zip(*rounds[1:], strict=True)]
    return Result(
        textbook_ms_per_clip=medians[0],
        ours_ms_per_clip=medians[2],
        products_ms_per_clip=medians[4],
        textbook_cpu_ms_per_clip=medians[1],
        ours_cpu_ms_per_clip=medians[3],
        products_cpu_ms_per_clip=medians[5],
        ratio=medians[0] / medians[2],
        fraction_of_ceiling=medians[4] / medians[2],
        gflops=sum(product.flops for product in products) / medians[4] / 1e6,
        threads=spec.train.threads,
        precision=spec.train.precision,
    )


def _time(task: Callable[[], object], clips: int) -> tuple[float, float]:
    """Milliseconds per clip, and processor milliseconds."""
    start, start_cpu = time.perf_counter(), time.process_time()
    task()
    return (time.perf_counter() - start) / clips * 1e3, (time.process_time() - start_cpu) / clips * 1e3


def _textbook_step(spec: RunSpec, data: Any, sizes: Sizes) -> Callable[[], object]:
    sys.path.insert(0, str(ROOT / "tests" / "reference"))
    from textbook import TextbookLoss, TextbookWhisQ, pad

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


@dataclass(frozen=True)
class _Product:
    """A matrix product that no identity removes; `share` of it falls on one clip."""

    left: torch.Tensor
    right: torch.Tensor
    out: torch.Tensor
    share: float

    @property
    def flops(self) -> float:
        """Per clip."""
        return 2.0 * self.left.shape[0] * self.left.shape[1] * self.right.shape[1] * self.share


def _products(spec: RunSpec, sizes: Sizes) -> list[_Product]:
    """Frames times rows and back; the projection of a batch's tokens and its weights' gradient; and for each
    direction of attention their query or key projection and the absorption of the other one, both with two gradients.
    """
    dim, heads = spec.model.feature_dim, spec.model.heads
    directions = {"sequence": 2, "cross": 1}.get(spec.model.attention, 0)
    rows = sizes.tokens * (heads * directions + (spec.loss.ot_weight > 0))
    tokens = round(sizes.tokens * sizes.prompts_of_a_batch)
    shapes = [
        (rows, sizes.audio_dim, sizes.frames, 1.0),
        (rows, sizes.frames, sizes.audio_dim, 1.0),
        (tokens, sizes.text_dim, dim, 2 / sizes.batch),
        (tokens, dim, dim, 6 * directions / sizes.batch),
    ]
    dtype = torch.bfloat16 if spec.train.precision == "bf16" else torch.float32
    return [
        _Product(torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype), torch.empty(m, n, dtype=dtype), share)
        for m, k, n, share in shapes
        if m and share
    ]


def _time_products(products: list[_Product]) -> tuple[float, float]:
    """Milliseconds per clip, and processor milliseconds."""
    wall = cpu = 0.0
    for product in products:
        start, start_cpu = time.perf_counter(), time.process_time()
        torch.mm(product.left, product.right, out=product.out)
        wall += (time.perf_counter() - start) * product.share * 1e3
        cpu += (time.process_time() - start_cpu) * product.share * 1e3
    return wall, cpu


def synthetic_dataset(folder: Path, sizes: Sizes) -> Any:
    """Random features of real features' sizes and norms, in a real store; each step meets the same sounds."""
    generator = np.random.default_rng(0)
    audio = _table(folder, "audio", generator, (sizes.batch, sizes.frames, sizes.audio_dim), FRAME_NORM)
    text = _table(folder, "text", generator, (sizes.prompts, sizes.tokens, sizes.text_dim), TOKEN_NORM)
    names = {name: ("",) * sizes.clips for name in ("utterances", "systems") if name in Dataset.__dataclass_fields__}
    return Dataset(
        **names,  # those of other commits
        audio=audio.select(np.arange(sizes.clips) % sizes.batch),
        text=text,
        prompt_of=np.arange(sizes.clips) % sizes.prompts,
        omq=generator.uniform(1, 5, sizes.clips),
        ta=generator.uniform(1, 5, sizes.clips),
    )


def _table(folder: Path, kind: str, generator: np.random.Generator, shape: tuple[int, int, int], norm: float) -> Any:
    store = FeatureStore(folder, FeatureKey(kind, "0" * 64, "random numbers", "float32"))
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
    parser.add_argument("--prompts", type=int, default=384, help="of all clips (default: as many as in MusicEval)")
    parser.add_argument("--attention", choices=("sequence", "cross", "none"), default="sequence")
    parser.add_argument("--ot", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=4, help="batches of an epoch (default %(default)s)")
    default = "bf16" if _found("has_bf16_units", "whisq_core.device", "whisq_core.machine")() else "float32"
    parser.add_argument("--precision", choices=("float32", "bf16"), default=default, help="default: %(default)s here")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: the cores")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", metavar="REV", help="take turns with this commit instead of with textbook")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
