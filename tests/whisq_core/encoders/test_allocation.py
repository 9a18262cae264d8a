"""Memory that an encoder frees is there when it asks again."""

import json
import platform
import subprocess
import sys

import pytest

CODE = """
import json, resource, threading
from whisq_core.encoders.allocation import give_back_freed_memory, keep_freed_memory

PAGE, SIZE = resource.getpagesize(), 80 << 20

def pages_taken():
    # How many pages come anew from the system while an array is made and dropped five times, by another thread.
    def work():
        for _ in range(5):
            bytearray(b"1") * SIZE
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * PAGE / SIZE

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / SIZE

if KEPT:
    keep_freed_memory()
pages_taken()
found = {"taken": pages_taken(), "resident": resident()}
give_back_freed_memory()
print(json.dumps({**found, "resident after": resident()}))
"""


def measured(kept: bool) -> dict[str, float]:
    """In a process of its own, in arrays' sizes."""
    done = subprocess.run([sys.executable, "-c", f"KEPT = {kept}\n{CODE}"], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_kept_memory_is_used_again_and_can_be_given_back() -> None:
    usual, kept = measured(kept=False), measured(kept=True)

    assert usual["taken"] > 4
    assert kept["taken"] < 0.1
    assert kept["resident"] > 1
    assert kept["resident after"] < kept["resident"] - 0.9
