"""Folders of saved models that anybody may have changed: other files, sizes, settings and tensors."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from helpers.malformed import ODD_FILES, Change, edited, put, replaced_by, sampled

Attempt = Callable[..., object]
MODEL = "out/models/whisq-seed0"
PREDICT = f"predict {MODEL} corpus/wav --prompt piano"


def config(**values: Any) -> Change:
    """Set keys of the model's description."""
    return edited(f"{MODEL}/config.json", lambda content: json.dumps(json.loads(content) | values).encode())


def in_spec(section: str, **values: Any) -> Change:
    """Set settings of the run that made it."""

    def edit(content: bytes) -> bytes:
        data = json.loads(content)
        data["spec"][section] |= values
        return json.dumps(data).encode()

    return edited(f"{MODEL}/config.json", edit)


CASES: dict[str, Change] = {
    f"{name}: {kind}": replaced_by(kind, f"{MODEL}/{name}")
    for name in ("config.json", "model.safetensors")
    for kind in ODD_FILES
}
CASES |= {
    f"config.json: {kind}": put(f"{MODEL}/config.json", content)
    for kind, content in {"a list": b"[]", "deep": b"[" * 100_000, "no text": b"\xff\xfe\xff", "null": b"null"}.items()
}
CASES |= {
    f"{key} {value!r:.30}": config(**{key: value})
    for key, values in {
        "format": [0, "1", None],
        "audio_dim": [0, -1, 10**9, 33, "x", None, 2.5],
        "text_dim": [0, 10**9, 65_536, [32]],
        "spec": [None, [], {}, "x"],
        "features": [None, "x", [], {"audio": "x"}, {"audio": 1, "text": 2}],
        "plugins": [{"model.attention": "evil==1"}, 3],
    }.items()
    for value in values
}
CASES |= {
    f"{section}.{key} {value!r:.30}": in_spec(section, **{key: value})
    for section, key, value in [
        ("model", "feature_dim", 65_536), ("model", "feature_dim", 10**9), ("model", "feature_dim", 31),
        ("model", "attention", "evil"), ("model", "attention", "evil.part"),
        ("model", "predictor", "constant"), ("train", "device", "tpu"), ("train", "threads", 10**9),
        ("backbone", "audio", "../../evil"), ("backbone", "audio", "plugin:evil.part"), ("backbone", "text", ""),
    ]
}  # fmt: skip
CASES |= {
    "weights: junk": put(f"{MODEL}/model.safetensors", bytes(range(256)) * 9),
    "weights: half": edited(f"{MODEL}/model.safetensors", lambda content: content[: len(content) // 2]),
    "weights: not numbers": edited(f"{MODEL}/model.safetensors", lambda content: content[:-400] + b"\xff" * 400),
}


@pytest.mark.parametrize("case", sampled(CASES, 7))
def test_a_model_that_is_none_is_refused(attempt: Attempt, case: str) -> None:
    attempt(CASES[case], PREDICT, MODEL if case.split(":")[0] == "config.json" else "")
