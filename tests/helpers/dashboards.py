"""A running `whisq-study dashboard`, what its pages and its JSON say, and runs to show there."""

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from helpers.command import started_script

from study.store import Run, Scored

CLIPS = pd.DataFrame(
    {
        "utterance": [f"clip{index}" for index in range(4)],
        "system": ["S001", "S002", "S001", "S002"],
        "prompt": "a waltz",
        "omq": [3.0, 2.6, 4.2, 1.0],
        "ta": [2.0, 3.0, 4.0, 5.0],
        "split": "dev",
    }
)


@contextmanager
def dashboard(folder: Path, storage: str) -> Iterator[str]:
    """The address of a dashboard that the installed command serves on a free port; ended with the block."""
    with started_script(folder, "dashboard", "--storage", storage, "--port", 0) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line + process.stderr.read()
        try:
            yield address[0]
        finally:
            process.kill()


def get(address: str) -> bytes:
    """The body of a page; raises for every status but 200."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def get_json(address: str) -> Any:
    """The JSON that an address answers with."""
    return json.loads(get(address))


def attributes(described: dict[str, Any]) -> dict[str, str]:
    """The user attributes of a trial or study in the dashboard's JSON."""
    return {line["key"]: line["value"] for line in described["user_attrs"]}


def stored_run(run_id: str = "run1", splits: Sequence[str] = ("dev",), metrics: Mapping[str, float] = {}) -> Run:
    """A done run with two predictions for each split."""
    scored = {name: Scored(np.array([2, 0]), np.array([[1 / 3, 2.0], [np.pi, 4.0]]), dict(metrics)) for name in splits}
    identity = {"loss.ot_weight": 4.057e-05, "corpus": "0123"}
    curve = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.1}]
    return Run(run_id, "table", "whisq", 0, "done", identity, curve=curve, scored=scored)
