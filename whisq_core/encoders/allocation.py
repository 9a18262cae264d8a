"""How the C library treats memory that is freed; where it is not glibc, nothing here does anything.

An encoder takes and frees arrays of 70 MB many times per clip. As glibc is set up, each of them comes anew from the
system, which fills it with zeros page by page: a quarter of a clip's time.
"""

import ctypes
import sys
from functools import cache

# Options of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """From now on, freed memory stays with this process, to be used again. Call it before any thread is started.

    Threads that are started later share one heap: heaps of their own would be too small for such arrays.
    """
    if (library := _glibc()) is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1)):
            library.mallopt(option, value)


def give_back_freed_memory() -> None:
    """What is free now goes back to the system."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
