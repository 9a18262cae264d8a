"""What depends on the processor is the same on lesser ones, which the libraries are told this one is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1] / "whisq_core"
FILES = ("encoders/test_encoders.py", "training/test_cpu.py")
DEPENDENT = "transformers or near_float32 or (base and (equal or underflows or rounded))"
RUN = "import sys, pytest, torch; print(torch.backends.cpu.get_cpu_capability()); sys.exit(pytest.main(sys.argv[1:]))"
LESSER = {  # PyTorch's own loops, and the largest that oneDNN may use: AMX is beyond all of them
    "DEFAULT": "SSE41",
    "AVX2": "AVX2",
    "AVX512": "AVX512_CORE_BF16",
}


@pytest.mark.parametrize(
    "lesser", ["DEFAULT", *(pytest.param(each, marks=pytest.mark.slow) for each in ("AVX2", "AVX512"))]
)
def test_features_and_steps_are_right_on_lesser_processors(lesser: str, tmp_path: Path) -> None:
    here = torch.backends.cpu.get_cpu_capability()
    if here not in LESSER or list(LESSER).index(lesser) > list(LESSER).index(here):
        pytest.skip(f"this processor has no {lesser}")
    told = {"ATEN_CPU_CAPABILITY": lesser.lower(), "ONEDNN_MAX_CPU_ISA": LESSER[lesser]}
    options = ("-q", "-n", "0", "-k", DEPENDENT, "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "tests"))

    ended = subprocess.run(
        [sys.executable, "-c", RUN, *options, *(str(TESTS / name) for name in FILES)],
        env=os.environ | told, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[0] == lesser
