"""The estimate of a run learns from past runs of the same kind, the nearest first."""

from pathlib import Path

import numpy as np
import pytest
from helpers.corpora import write_official_corpus
from helpers.features import random_dataset

from study.ablation.cost import CostModel, ratio_of
from study.engine import Workspace
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import seconds_per_step

BF16 = with_settings(RunSpec(), {"train.precision": "bf16", "train.device": "cpu"})
FLOAT32 = with_settings(BF16, {"train.precision": "float32"})
KIND = "sequence True False cpu"


def test_runs_of_another_precision_count_only_where_none_has_the_same() -> None:
    learned = {f"{KIND} float32": 0.5, KIND: 0.5, "any": 0.7}

    assert ratio_of(FLOAT32, learned) == 0.5
    assert ratio_of(BF16, learned | {f"{KIND} bf16": 0.2}) == 0.2
    assert ratio_of(BF16, learned) == 0.5


def test_another_kind_of_run_is_better_than_none() -> None:
    assert ratio_of(BF16, {"pooled True False cpu": 0.3, "any": 0.7}) == 0.7
    assert ratio_of(BF16, {}) == 1.0


def test_what_is_not_encoded_yet_costs_its_encoders_operations(tmp_path: Path) -> None:
    corpus = write_official_corpus(tmp_path / "corpus", num_train=8, num_dev=4, seconds=0.3)
    spec = with_settings(FLOAT32, {"backbone.audio": "untrained:whisper", "backbone.text": "untrained:qwen3"})
    control = with_settings(spec, {"model.predictor": "constant"})
    slow, fast = (CostModel(Workspace(corpus, tmp_path / "features"), speed, {}) for speed in (1e9, 4e9))

    minutes = slow.encoding_minutes([spec, spec], workers=1)
    assert minutes is not None
    assert minutes > 0
    assert fast.encoding_minutes([spec], workers=1) == pytest.approx(minutes / 4)
    assert slow.encoding_minutes([control], workers=1) == 0


def test_a_step_is_measured_on_the_clips_themselves(tmp_path: Path) -> None:
    spec = with_settings(FLOAT32, {"model.feature_dim": 16, "train.batch_size": 4})

    assert 0 < seconds_per_step(spec, random_dataset(tmp_path).select(np.arange(8))) < 60
