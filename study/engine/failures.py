"""Why a run failed, in one line for a person: the same words for a cell of a table and a trial of a search."""

import traceback
from pathlib import Path

from whisq_core.errors import InputError


def failure_reason(error: Exception) -> str:
    """Why a run failed, in one line; a place in the code only for what we did not expect."""
    from whisq_core.training import Diverged

    if isinstance(error, Diverged | InputError):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "out of memory: try a smaller train.batch_size or fewer --workers"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or in PyTorch's CPU allocator, which raises a plain RuntimeError."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
