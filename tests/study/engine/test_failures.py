"""Why a run failed is told in the words of the person who has to mend it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.command import run
from helpers.searches import request, shared_data

from study.engine.failures import failure_reason, is_out_of_memory
from whisq_core.errors import InputError

OUT_OF_MEMORY = "out of memory: try a smaller train.batch_size or fewer --workers"
TOO_MANY = 2**60  # bytes: beyond every address space


def test_memory_that_runs_out_in_numpy_or_in_torch_is_told_alike() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(TOO_MANY, np.uint8)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as of_torch:
        torch.empty(TOO_MANY, dtype=torch.uint8)

    assert failure_reason(of_numpy.value) == OUT_OF_MEMORY
    assert failure_reason(of_torch.value) == OUT_OF_MEMORY


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)

    assert not is_out_of_memory(caught.value)
    assert failure_reason(caught.value).startswith("unexpected RuntimeError: mat1 and mat2")


def test_a_mistake_of_the_user_is_told_in_one_line_without_a_place_in_the_code() -> None:
    assert failure_reason(InputError("one thing,\nand another")) == "one thing, and another"


def test_a_failed_cell_of_a_table_says_that_memory_ran_out(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    asked = request(shared_data(tmp_path_factory), tmp_path)
    content = yaml.safe_load(asked.file.read_text(encoding="utf-8"))
    wide = {"id": "wide", "label": "Too wide", "set": {"model.feature_dim": 4_000_000_000_000}}
    content["sections"][0]["rows"].append(wide)
    asked.file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    where = ("--data", asked.data, "--features", asked.features, "--storage", asked.storage, "--out", "out")

    finished = run(tmp_path, "ablate", asked.file, *where, "--rows", "wide,constant", "--workers", 1)

    assert finished.status == 1, finished.err
    failed = [line for line in finished.err.splitlines() if line.startswith("failed: ")]
    assert failed == [f"failed: wide seed {seed}: {OUT_OF_MEMORY}" for seed in (0, 1)]
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert f"Too wide, seed 0: failed ({OUT_OF_MEMORY})" in table
