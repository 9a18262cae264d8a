"""`auto` becomes concrete the same way at every run on a machine, and without torch where there is no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from whisq_core import device
from whisq_core.device import has_bf16_units, resolve_auto
from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_GPU_NODES", ())
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_in_the_precision_it_is_fast_at() -> None:
    resolved = resolve_auto(TrainSpec())

    assert (resolved.device, resolved.precision) == ("cpu", "bf16" if has_bf16_units() else "float32")
    assert resolve_auto(resolved) == resolved


@pytest.mark.parametrize(
    ("flags", "has_units"),
    [
        ("fpu avx512f avx512_bf16 avx512_vbmi2", True),
        ("fpu avx512f amx_bf16 amx_tile", True),
        ("fpu avx2 f16c avx512f avx512_vnni", False),
    ],
)
def test_bf16_units_are_known_by_the_flags_of_the_processor(tmp_path: Path, flags: str, has_units: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: a processor\nflags\t\t: {flags}\n")

    assert has_bf16_units(tmp_path / "cpuinfo") is has_units


def test_a_system_that_lists_no_flags_is_not_taken_to_have_bf16_units(tmp_path: Path) -> None:
    assert has_bf16_units(tmp_path / "missing") is False


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
        "import sys; from whisq_core import device; from whisq_core.spec import TrainSpec; device._GPU_NODES = ();"
        "device.resolve_auto(TrainSpec()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == f"{sys.platform != 'linux'}\n"


@pytest.mark.parametrize(("generation", "precision"), [((7, 5), "float16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_trains_in_bf16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, generation: tuple[int, int], precision: str
) -> None:
    """What PyTorch says of a GPU that is not here."""
    monkeypatch.setattr(device, "_has_cuda", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: generation)

    resolved = resolve_auto(TrainSpec())

    assert (resolved.device, resolved.precision) == ("cuda", precision)


def test_apples_gpu_is_taken_where_it_is_named_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InputError, match="mps, but PyTorch finds no Apple GPU here"):
        resolve_auto(TrainSpec(device="mps"))

    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert resolve_auto(TrainSpec(device="mps")).precision == "float32"
