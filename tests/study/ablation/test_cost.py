"""The estimate of a run learns from past runs of the same kind, the nearest first."""

from study.ablation.cost import ratio_of
from whisq_core.spec import RunSpec, with_settings

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
