"""Throughput of N one-thread training processes beside that of one, on the cores of this machine.

Rounds with one process and with N take turns; medians over the rounds. Training only: no database, no start-up.

    python benchmarks/workers.py [--workers N] [--repeats 3] [--json]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from step import Sizes, synthetic_dataset

from study.engine import Pool
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training.step import Trainer

SIZES = Sizes(frames=1500, tokens=24, audio_dim=512, text_dim=1024, batch=64, textbook_batch=1, prompts=64)


@dataclass(frozen=True)
class Result:
    """Medians of clips per second; `efficiency` is N workers' throughput over N times one worker's."""

    workers: int
    cores: int
    one_clips_per_second: float
    all_clips_per_second: float
    efficiency: float


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    one, many = [], []
    for _ in range(arguments.repeats):
        one.append(throughput(1))
        many.append(throughput(arguments.workers))
    result = Result(
        arguments.workers,
        os.cpu_count() or 1,
        statistics.median(one),
        statistics.median(many),
        statistics.median(many) / (arguments.workers * statistics.median(one)),
    )
    if arguments.json:
        print(json.dumps(asdict(result), indent=1))
    else:
        print(f"1 worker   {result.one_clips_per_second:8.1f} clips/s")
        print(f"{result.workers} workers  {result.all_clips_per_second:8.1f} clips/s on {result.cores} cores")
        print(f"efficiency {result.efficiency:.2f} (1 is perfect)")


def throughput(workers: int) -> float:
    """Clips per second of all workers together: they start each round at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=_train, args=(barrier, seconds)) for _ in range(workers)]
    for process in processes:
        process.start()
    rates = [SIZES.batch / seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rates)


def _train(barrier: Barrier, seconds: Any) -> None:
    torch.set_num_threads(1)  # as `fit` does
    settings = {"train.threads": 1, "train.batch_size": SIZES.batch, "train.device": "cpu"}
    spec = Pool(1).resolved(with_settings(RunSpec(), settings))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(spec, synthetic_dataset(Path(folder), SIZES))
        trainer.epoch(1)
        barrier.wait()
        rounds = []
        for epoch in range(2, 6):
            started = time.perf_counter()
            trainer.epoch(epoch)
            rounds.append(time.perf_counter() - started)
    seconds.put(statistics.median(rounds))


if __name__ == "__main__":
    main()
