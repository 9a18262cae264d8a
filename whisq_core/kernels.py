"""The kernels of `csrc`, compiled when the package was installed: which of them serve this processor, and how to call.

They are plain C, called without Python's lock. Where they were not built (no C compiler) the reference form in PyTorch
computes the same, more slowly; `chosen` says which of the two a process uses.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from whisq_core.errors import InputError
from whisq_core.plugins import is_plugin
from whisq_core.spec import RunSpec

VARIANTS = ("avx512", "avx2", "base")  # fastest first
SWITCH = "WHISQ_KERNELS"  # an environment variable: a variant, the path of a library, or "pytorch"

# As in csrc/interaction.h.
FRAME_PAD, DIM_STEP = 32, 16

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


class Interaction(ctypes.Structure):
    """One clip's frames and its prompt's rows: `Interaction` in csrc/interaction.h, which says what each field is."""

    _fields_ = (
        *((name, _INT) for name in ("num_frames", "dim", "num_tokens", "heads", "stride", "head_step")),
        *((name, _INT) for name in ("attends_text", "attends_audio", "aligns")),
        *((name, _POINTER) for name in ("frames", "centre", "tokens", "to_text", "to_audio", "to_text_constants")),
        *((name, _POINTER) for name in ("rounded_frames", "rounded_scores", "state", "work")),
    )


_INTERACTION = ctypes.POINTER(Interaction)


class Kernels:
    """The functions of one library, each as csrc/kernels.c describes it; arrays are given by their addresses."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self.state_floats = self._function("state_floats", _INT)
        self.work_floats = self._function("work_floats", _INT)
        self.half_norms = self._function("half_norms", None, _POINTER)
        self.score = self._function("score", None)
        self.round = self._function("round", None, _POINTER)
        self.attend = self._function("attend", None, _POINTER, _POINTER)
        self.align = self._function("align", ctypes.c_double, _POINTER, _POINTER, _INT)
        self.slopes = self._function("slopes", None, _POINTER, _POINTER, ctypes.c_float, *[_POINTER] * 4)
        self.collect = self._function("collect", None, _POINTER, _POINTER, _POINTER, _POINTER)

    def run_here(self) -> bool:
        """Whether this processor has the instructions that the library was compiled for."""
        return bool(self._library.kernels_run_here())

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        function: Callable[..., Any] = self._library[f"kernels_{name}"]
        function.restype, function.argtypes = result, (_INTERACTION, *arguments)  # type: ignore[attr-defined]
        return function


@cache
def chosen() -> tuple[str, Kernels | None]:
    """The name of what serves here and its kernels; ("pytorch", None) where none was built, or they are switched off.

    Raises:
        InputError: when kernels are asked for by name and are not there.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted == "pytorch":
        return wanted, None
    for name in (wanted,) if wanted else VARIANTS:
        path = Path(__file__).with_name(f"_kernels_{name}.so") if name in VARIANTS else Path(name)
        if path.is_file() and (kernels := Kernels(path)).run_here():
            return name, kernels
    if wanted:
        raise InputError(
            f"{SWITCH}={wanted}: no such kernels, or not for this processor. Allowed: {', '.join(VARIANTS)} where they "
            "were built, the path of a library built from whisq_core/csrc, or pytorch."
        )
    return "pytorch", None


def serve(spec: RunSpec, audio_dim: int) -> bool:
    """Whether the kernels do what this run asks; the reference form does any run."""
    return (
        spec.train.device == "cpu"
        and spec.train.precision in ("float32", "bf16")
        and audio_dim == spec.model.feature_dim
        and audio_dim % DIM_STEP == 0
        and spec.model.attention != "pooled_query"
        and not is_plugin(spec.model.attention)
        and spec.model.pool == "mean"
        and not spec.model.layer_norm
        and (spec.loss.ot_weight == 0 or (spec.loss.p == 2 and not is_plugin(spec.loss.alignment)))
        and chosen()[1] is not None
    )
