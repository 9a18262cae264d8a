"""`auto` becomes concrete the same way at every run on a machine, and without torch where there is no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from whisq_core import machine
from whisq_core.errors import InputError
from whisq_core.machine import resolve_auto
from whisq_core.spec import TrainSpec


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GPU_NODES", ())
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_a_precision_of_it() -> None:
    resolved = resolve_auto(TrainSpec())

    assert resolved.device == "cpu"
    assert resolved.precision in ("float32", "bf16")
    assert resolved == resolve_auto(TrainSpec()) == resolve_auto(resolved)


@pytest.mark.usefixtures("no_gpu")
def test_what_is_given_is_kept() -> None:
    given = TrainSpec(device="cpu", precision="float16")

    assert resolve_auto(given) == given


@pytest.mark.usefixtures("no_gpu")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        resolve_auto(TrainSpec(device="cuda"))

    assert str(caught.value) == (
        "setting 'train.device': cuda, but PyTorch finds no CUDA device here. Use auto or cpu."
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("flags\t\t: fpu avx2 avx512_bf16", False),
        ("Features\t: fp asimd bf16", False),
        ("bugs\t\t: amx_bf16", False),
    ],
)
def test_bf16_is_chosen_by_the_matrix_units_of_the_cpu(tmp_path: Path, flags: str, expected: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{flags}\n", encoding="utf-8")

    assert machine._has_bf16_units(info) is expected


def test_a_system_that_does_not_tell_has_no_bf16_units(tmp_path: Path) -> None:
    assert machine._has_bf16_units(tmp_path / "cpuinfo") is False


def test_torch_is_not_imported_to_learn_that_there_is_no_gpu() -> None:
    program = (
        "import sys; from whisq_core import machine; from whisq_core.spec import TrainSpec; machine._GPU_NODES = ();"
        "machine.resolve_auto(TrainSpec()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == f"{sys.platform != 'linux'}\n"
