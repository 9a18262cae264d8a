"""What this machine computes with: `auto` made concrete, from facts that do not change between two runs on it.

The answer belongs to the identity of a run, so nothing is timed here: a busy machine must not make a table stale. And
torch, whose import takes longer than a whole plan, is asked only where there may be a device.
"""

import os
import sys
from pathlib import Path

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
        InputError: when CUDA is asked for and there is none.
    """
    device = train.device
    if device == "auto":
        device = "cuda" if _has_cuda() else "cpu"
    elif device == "cuda" and not _has_cuda():
        raise InputError("setting 'train.device': cuda, but PyTorch finds no CUDA device here. Use auto or cpu.")
    precision = train.precision
    if precision == "auto":
        # The paper trains with automatic mixed precision on CUDA.
        precision = "float16" if device == "cuda" else "bf16" if has_bf16_units() else "float32"
    return train.model_copy(update={"device": device, "precision": precision})


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
