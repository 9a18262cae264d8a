"""`auto` becomes concrete the same way at every run on a machine, and without torch where there is no GPU."""

import subprocess
import sys

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
def test_without_a_gpu_auto_is_float32_on_the_cpu() -> None:
    resolved = resolve_auto(TrainSpec())

    assert (resolved.device, resolved.precision) == ("cpu", "float32")
    assert resolve_auto(resolved) == resolved


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


def test_torch_is_not_imported_to_learn_that_there_is_no_gpu() -> None:
    program = (
        "import sys; from whisq_core import machine; from whisq_core.spec import TrainSpec; machine._GPU_NODES = ();"
        "machine.resolve_auto(TrainSpec()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == f"{sys.platform != 'linux'}\n"
