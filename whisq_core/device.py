"""What this machine computes with: `auto` made concrete, from facts that do not change between two runs on it.

The answer belongs to the identity of a run, so nothing is timed here: a busy machine must not make a table stale. And
torch, whose import takes longer than a whole plan, is asked only where there may be a device.
"""

import os
import sys
from pathlib import Path
from typing import Literal

from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

# Device nodes without which PyTorch finds no GPU on Linux: NVIDIA's driver, WSL, AMD's driver, NVIDIA's Tegra boards.
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/nvhost-gpu")

_WORKER_BYTES = 1.5 * 2**30  # memory that a training process may need

# Where a processor has one of these, bf16 products were measured to be twice as fast as float32 ones, or faster
# (benchmarks/README.md); where it has none, PyTorch emulates them and they are slower.
_BF16_UNITS = {"avx512_bf16", "amx_bf16"}


def resolve_auto(train: TrainSpec) -> TrainSpec:
    """`train` with a concrete device and precision, as they belong to the identity of a run.

    Raises:
        InputError: when a device is asked for that is not there.
    """
    device = resolve_device(train.device, "setting 'train.device'")
    precision = train.precision
    if precision == "auto":
        # The paper trains with automatic mixed precision on CUDA: bf16, or float16 with a scaled loss on older GPUs.
        fast = {"cpu": has_bf16_units, "cuda": _has_bf16_cuda}.get(device, lambda: False)()
        precision = "bf16" if fast else "float16" if device == "cuda" else "float32"
    return train.model_copy(update={"device": device, "precision": precision})


def resolve_device(device: str, setting: str) -> Literal["cpu", "cuda", "mps"]:
    """A concrete device: `auto` is CUDA where there is one, else the CPU; Apple's `mps` is taken where it is named.

    Raises:
        InputError: when the device is not there; `setting` is what asked for it.
    """
    if device == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise InputError(f"{setting}: mps, but PyTorch finds no Apple GPU here. Use auto or cpu.")
        return "mps"
    if device == "cuda" and not _has_cuda():
        raise InputError(f"{setting}: cuda, but PyTorch finds no CUDA device here. Use auto or cpu.")
    return "cuda" if device == "cuda" or (device == "auto" and _has_cuda()) else "cpu"


def _has_bf16_cuda() -> bool:
    """Whether the GPU multiplies bf16 matrices itself: NVIDIA's Ampere and later, AMD's."""
    import torch

    return bool(torch.version.hip) or torch.cuda.get_device_capability()[0] >= 8


def _has_cuda() -> bool:
    if sys.platform == "linux" and not any(os.path.exists(node) for node in _GPU_NODES):
        return False
    import torch

    return torch.cuda.is_available()


def has_bf16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 matrices itself, by the flags that Linux lists; false where it has none."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BF16_UNITS.isdisjoint(flags.split())


def default_workers() -> int:
    """How many runs this machine trains side by side: one per GPU if there are any, else per core, as memory goes."""
    if _has_cuda():
        import torch

        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return cores
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, int(memory / _WORKER_BYTES)))
