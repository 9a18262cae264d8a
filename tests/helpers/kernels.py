"""The kernels that this machine has, one after the other."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import whisq_core
from whisq_core import kernels
from whisq_core.errors import InputError

SOURCE = Path(whisq_core.__file__).with_name("csrc") / "kernels.c"
WIDE = "wide"  # vectors of 16 floats made of narrower ones: AVX-512's way through the source, on any processor


def compiler() -> str | None:
    """The C compiler, where there is one."""
    return shutil.which("cc")


def all_kernels() -> list[str]:
    """Names for `kernels_in_use`."""
    return ["pytorch", *(name for name in kernels.VARIANTS if _is_there(name)), *([WIDE] if compiler() else [])]


@contextmanager
def kernels_in_use(name: str, folder: Path) -> Iterator[None]:
    """Inside, this process computes with these kernels; those that have to be built lie in `folder`."""
    with using(str(_build_wide(folder)) if name == WIDE else name):
        yield


def _is_there(name: str) -> bool:
    try:
        with kernels_in_use(name, Path()):
            kernels.chosen()
    except InputError:
        return False
    return True


def _build_wide(folder: Path) -> Path:
    library = folder / "wide-kernels.so"
    if not library.exists():
        flags = ["-mavx2", "-mfma", "-mf16c"] if platform.machine() == "x86_64" else []
        command = [compiler(), "-O1", *flags, "-DVL=16", "-Wno-psabi", "-shared", "-fPIC", SOURCE, "-o", library]
        subprocess.run([str(part) for part in command if part], check=True)
    return library


@contextmanager
def using(name: str) -> Iterator[None]:
    """Inside, this process computes with the kernels of this name, as `WHISQ_KERNELS` takes it."""
    before = os.environ.get(kernels.SWITCH, "")
    os.environ[kernels.SWITCH] = name
    kernels.chosen.cache_clear()
    try:
        yield
    finally:
        os.environ[kernels.SWITCH] = before
        kernels.chosen.cache_clear()
