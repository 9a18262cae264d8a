"""What this machine computes with: `auto` made concrete, from facts that do not change between two runs on it.

The answer belongs to the identity of a run, so nothing is timed here: a busy machine must not make a table stale. And
torch, whose import takes longer than a whole plan, is asked only where there may be a device.
"""

import os
import sys

from whisq_core.errors import InputError
from whisq_core.spec import TrainSpec

# Device nodes without which PyTorch finds no GPU on Linux: NVIDIA's driver, WSL, AMD's driver, NVIDIA's Tegra boards.
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/nvhost-gpu")


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
        # The paper trains with automatic mixed precision on CUDA. On a CPU only float32 has the fused step, and a
        # precision that depended on the CPU's model would give a run another identity on each node of a cluster.
        precision = "float16" if device == "cuda" else "float32"
    return train.model_copy(update={"device": device, "precision": precision})


def _has_cuda() -> bool:
    if sys.platform == "linux" and not any(os.path.exists(node) for node in _GPU_NODES):
        return False
    import torch

    return torch.cuda.is_available()
