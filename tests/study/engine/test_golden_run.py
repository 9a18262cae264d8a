"""Runs whose numbers are committed: a change of what a run computes shows here before it reaches anybody's table.

Stored runs are found by their identity, which holds `NUMERICS_VERSION`. When these numbers change, runs of the old and
the new program would be mixed in one table, unless the version is raised.
"""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from helpers.corpora import write_official_corpus
from helpers.features import write_table

from study.engine import NUMERICS_VERSION, Pool, Task, Workspace, encode_backbones, execute, identify
from whisq_core.features import Dataset
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import fit, predict

GOLDEN = Path(__file__).with_name("golden_run.json")
WRITE = "WHISQ_WRITE_GOLDEN"
ADVICE = (
    "\nThe same settings give other numbers than before. If that is meant, raise NUMERICS_VERSION in "
    "study/engine/workspace.py, else stored runs of the old program are taken for new ones; then run: "
    f"{WRITE}=1 pytest tests/study/engine/test_golden_run.py"
)
NUM_CLIPS, NUM_PROMPTS, AUDIO_DIM, TEXT_DIM = 14, 5, 16, 12
SPREAD = 6.0  # of features: attention is then far from uniform, so that its variants differ

# Strong settings, so that each part of a run moves the predictions by far more than another CPU's rounding does.
BASE = {
    "model.feature_dim": AUDIO_DIM,
    "loss.ot_weight": 0.05,
    "loss.diameter": 16.0,
    "train.learning_rate": 0.05,
    "train.batch_size": 4,
    "train.epochs": 3,
    "train.device": "cpu",
    "train.precision": "float32",
}
RUNS = {
    "sequence": {},
    "valid_frames": {"model.audio_frames": "valid", "loss.blur": 0.5},
    "without_ot": {"loss.ot_weight": 0.0},
    "cross": {"model.attention": "cross"},
    "pooled": {"model.attention": "pooled"},
    "pooled_query": {"model.attention": "pooled_query"},
    "projected_audio": {"model.feature_dim": 8},
    "linear_l1": {"model.attention": "none", "model.head": "linear", "loss.task": "l1", "loss.ot_weight": 0.0},
    "unpooled_path": {"model.pool": "max", "model.residual": True, "model.layer_norm": True},
    "p1_sum_global": {"loss.p": 1, "loss.reduction": "sum", "train.clip_scope": "global"},
    "adamw": {"train.optimizer": "adamw", "train.weight_decay": 0.1, "loss.task": "mse", "train.learning_rate": 0.003},
}
WHOLE = {
    "backbone.audio": "untrained:whisper",
    "backbone.text": "untrained:qwen3",
    "data.score": ["inner", "dev"],
    "model.feature_dim": 32,
    "train.patience": 1,
    "train.epochs": 4,
}


def numbers(count: int, size: float, stream: random.Random) -> np.ndarray:
    """Numbers in [-size, size) that no version of NumPy changes."""
    return np.array([size * (2 * stream.random() - 1) for _ in range(count)], dtype=np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    stream = random.Random(7)
    valid = [stream.randrange(6, 13) for _ in range(NUM_CLIPS)]
    audio = [numbers(12 * AUDIO_DIM, SPREAD, stream).reshape(12, AUDIO_DIM) for _ in range(NUM_CLIPS)]
    lengths = [stream.randrange(2, 6) for _ in range(NUM_PROMPTS)]
    text = [numbers(length * TEXT_DIM, SPREAD, stream).reshape(length, TEXT_DIM) for length in lengths]
    root = tmp_path_factory.mktemp("golden")
    return Dataset(
        audio=write_table(root, "audio", audio, valid),
        text=write_table(root, "text", text),
        prompt_of=np.arange(NUM_CLIPS) % NUM_PROMPTS,
        omq=3 + np.round(5 * numbers(NUM_CLIPS, 1, stream)) / 5,
        ta=3 + np.round(5 * numbers(NUM_CLIPS, 1, stream)) / 5,
    )


def check(name: str, found: np.ndarray, tolerance: float) -> None:
    """Compare with the committed numbers, or write them when asked to.

    A CPU held to SSE4 moves them by up to 1.5e-4 against AVX2, and a setting by 0.3 and more.
    """
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"runs": {}}
    if os.environ.get(WRITE):
        golden["numerics_version"] = NUMERICS_VERSION
        golden["runs"][name] = [[float(f"{value:.6g}") for value in clip] for clip in found.tolist()]
        runs = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in sorted(golden["runs"].items()))
        GOLDEN.write_text(f'{{"numerics_version": {NUMERICS_VERSION}, "runs": {{\n{runs}\n}}}}\n', encoding="utf-8")
    elif golden["numerics_version"] != NUMERICS_VERSION:
        pytest.fail(f"NUMERICS_VERSION is {NUMERICS_VERSION}, {GOLDEN.name} has the numbers of another.{ADVICE}")
    else:
        expected = np.array(golden["runs"][name])
        assert found.shape == expected.shape, ADVICE
        assert np.abs(found - expected).max() < tolerance, f"{np.abs(found - expected).max()}{ADVICE}"


@pytest.mark.parametrize("name", RUNS)
def test_training_gives_the_committed_predictions(dataset: Dataset, name: str) -> None:
    spec = with_settings(RunSpec(), BASE | RUNS[name])

    check(name, predict(fit(spec, dataset).model, dataset), tolerance=2e-3)


def test_each_kind_of_run_has_numbers_of_its_own(dataset: Dataset) -> None:
    """Else a golden number would not notice that a setting is ignored."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["runs"]
    ta = {name: np.array(golden[name])[:, 1] for name in RUNS}

    near = [(a, b) for a in ta for b in ta if a < b and np.abs(ta[a] - ta[b]).max() < 5e-3]
    assert near == []


def test_a_whole_run_gives_the_committed_predictions(tmp_path: Path) -> None:
    """From sound files through untrained encoders and an inner split, so that those are guarded too."""
    corpus = write_official_corpus(tmp_path / "corpus", num_train=8, num_dev=2, num_systems=2, seconds=0.4)
    workspace = Workspace(corpus, tmp_path / "features")
    spec = Pool(1).resolved(with_settings(RunSpec(), BASE | WHOLE))
    assert encode_backbones(workspace, [spec.backbone]) == {}

    run = execute(Task(identify(spec, workspace).run_id, "whole", spec, "golden", "whole"), workspace)

    found = np.concatenate([run.scored[split].predicted for split in ("inner", "dev")])
    check("whole", found, tolerance=1e-3)
