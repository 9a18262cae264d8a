"""What bf16 changes beside float32, on the same seeds and clips: in training, or with `--encoding` in the encoders.

    make demo
    python benchmarks/precision.py [--encoding] [--row whisq] [--seeds 5] [--json]

Trains one row of the demo's table with each seed both ways and compares what a table shows: the mean of each metric
over seeds, and the predictions themselves. With `--encoding` training is float32 both times and the features differ
(those in bf16 are made on the first call). The demo's database is not touched.

The demo's own settings train fast and carry what is rounded far: `--threads 2` and `--kernels pytorch` show how far
float32 is from itself in another order of summation. Calm settings show what bf16 itself changes:

    python benchmarks/precision.py --set train.learning_rate=1.5e-4 --set train.epochs=14
"""

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.config import read_ablation_file
from study.demo import DEMO_FILE
from study.engine import Task, Workspace, encode_backbones, execute, identify
from study.store import Scored
from whisq_core import kernels
from whisq_core.metrics import METRICS
from whisq_core.spec import RunSpec, with_settings

_SPLIT = "dev"


@dataclass(frozen=True)
class Change:
    """A metric's means over seeds, and how far the difference of a seed lies from their mean (standard deviation)."""

    metric: str
    float32: float
    other: float
    difference: float
    sd_of_differences: float


@dataclass(frozen=True)
class Result:
    """`median_prediction_change` is over seeds and clips, on the scale of the ratings."""

    what: str
    row: str
    seeds: int
    median_prediction_change: dict[str, float]
    changes: list[Change]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("results/demo"), help="the demo's output folder")
    parser.add_argument("--row", default="whisq")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoding", action="store_true", help="encode in bf16, train in float32")
    parser.add_argument("--threads", type=int, help="compare float32 with float32 on so many threads")
    parser.add_argument("--kernels", help="compare the kernels in use with these (WHISQ_KERNELS)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of both sides")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    print(json.dumps(asdict(result), indent=1) if arguments.json else _text(result))


def measure(arguments: argparse.Namespace) -> Result:
    """Train every seed both ways."""
    rows = {row.id: row for row in read_ablation_file(DEMO_FILE).rows}
    given = {name: _value(text) for name, text in (each.split("=", 1) for each in arguments.set)}
    exact = with_settings(
        rows[arguments.row].spec, {"train.precision": "float32", "train.device": "cpu", "train.threads": 1, **given}
    )
    name, value = "train.precision", "bf16"
    if arguments.encoding:
        name = "backbone.precision"
    if arguments.threads:
        name, value = "train.threads", arguments.threads
    if arguments.kernels:
        name, value = kernels.SWITCH, arguments.kernels
    other = exact if arguments.kernels else with_settings(exact, {name: value})
    workspace = Workspace(arguments.demo / "corpus", arguments.demo / "features")
    if problems := encode_backbones(workspace, [exact.backbone, other.backbone]):
        raise SystemExit("\n".join(problems.values()))
    pairs = [
        (
            _scored(with_settings(exact, {"seed": seed}), workspace),
            _scored(with_settings(other, {"seed": seed}), workspace, arguments.kernels),
        )
        for seed in range(arguments.seeds)
    ]
    moved = np.median([np.abs(ours.predicted - theirs.predicted) for theirs, ours in pairs], axis=(0, 1))
    changes = []
    for metric in METRICS:
        values = np.array([[scored.metrics[metric] for scored in pair] for pair in pairs])
        differences = values[:, 1] - values[:, 0]
        means = values.mean(axis=0)
        changes.append(Change(metric, *map(float, (*means, differences.mean(), differences.std(ddof=1)))))
    return Result(
        f"{name}: {value}",
        arguments.row,
        arguments.seeds,
        dict(zip(("omq", "ta"), map(float, moved), strict=True)),
        changes,
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _scored(spec: RunSpec, workspace: Workspace, chosen: str | None = None) -> Scored:
    before = os.environ.get(kernels.SWITCH, "")
    os.environ[kernels.SWITCH] = chosen or before
    kernels.chosen.cache_clear()
    task = Task(identify(spec, workspace).run_id, "benchmark", spec, "benchmark", "row")
    scored = execute(task, workspace).scored[_SPLIT]
    os.environ[kernels.SWITCH] = before
    kernels.chosen.cache_clear()
    return scored


def _text(result: Result) -> str:
    lines = [
        f"{result.what} beside float32, row {result.row}, {result.seeds} seeds",
        f"{'':22}{'float32':>9}{'other':>9}{'difference':>12}{'sd':>8}",
    ]
    lines += [
        f"{each.metric:22}{each.float32:9.4f}{each.other:9.4f}{each.difference:+12.4f}{each.sd_of_differences:8.4f}"
        for each in result.changes
    ]
    moved = ", ".join(f"{target} {change:.4f}" for target, change in result.median_prediction_change.items())
    return "\n".join([*lines, f"median change of a prediction: {moved}"])


if __name__ == "__main__":
    main()
