"""Everything that this project says of a GPU, checked and measured by one command in at most 8 minutes.

    python benchmarks/gpu_check.py                          # on a GPU; writes benchmarks/gpu/<card>.json and .md
    python benchmarks/gpu_check.py --device cpu --small     # the same path in small, anywhere
    python benchmarks/gpu_check.py --list-wheels            # what is missing here, and how to fetch it elsewhere
    python benchmarks/gpu_check.py --full                   # all 70 runs of Table II instead of one of each row

In order: the two ceilings of the card; equality (float32 against float64 on the CPU, bf16 against float32, graphs
against eager steps, no question to the device, streamed against kept features); the step at paper size beside textbook;
a whole run of each row; encoding. It needs the source tree, PyTorch and what `--list-wheels` names, no network and no
installation. A part that fails is reported and the others go on; the JSON is written after every measurement, so that a
run which is cut off has lost nothing. Exit status 1 where a check has failed.
"""

import argparse
import faulthandler
import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WHEELS = {  # what is imported: wheels that bring it
    "pydantic": "pydantic pydantic-core annotated-types typing-inspection",
    "jaxtyping": "jaxtyping wadler-lindig",
    "geomloss": "geomloss",
    "soundfile": "soundfile cffi pycparser",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "pandas": "pandas python-dateutil six",
    "packaging": "packaging",
    "yaml": "pyyaml",
    "tqdm": "tqdm",
    "huggingface_hub": "huggingface-hub click httpx2 httpcore2 h11 anyio idna truststore",
    "transformers": "transformers tokenizers regex",
}


@dataclass
class Check:
    """What is asked for, and what has been found so far: `found` is written to `path` with every change."""

    device: str
    small: bool
    full: bool
    path: Path
    ends: float
    found: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def put(self, part: str, **facts: Any) -> None:
        """Keep facts of a part, and write all."""
        self.found.setdefault(part, {}).update(facts)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Parse, run every part, print the table."""
    arguments = _arguments()
    if arguments.list_wheels:
        return _list_wheels()
    started = time.monotonic()
    if arguments.device == "cpu":
        os.environ["WHISQ_KERNELS"] = "pytorch"  # the path of a GPU, not the compiled kernels
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "reference"), str(ROOT / "benchmarks")]
    import gpu_parts
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device here. Use --device cpu --small for the same path.", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # as runs have by default
    card = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    path = arguments.out or ROOT / "benchmarks" / "gpu" / f"{card.lower().replace(' ', '-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = 60 * arguments.minutes
    check = Check(arguments.device, arguments.small, arguments.full, path, started + limit)
    faulthandler.dump_traceback_later(limit + 60, exit=True)  # a hang in a library: what was found is on disk
    check.put("machine", card=card, device=arguments.device, small=arguments.small, torch=torch.__version__,
              cuda=torch.version.cuda, python=platform.python_version(), cores=os.cpu_count())  # fmt: skip
    for name, part in gpu_parts.PARTS.items():
        if not arguments.only or name in arguments.only.split(","):
            _run(check, name, part)
    check.put("machine", seconds=round(time.monotonic() - started, 1))
    table = gpu_parts.table(check.found)
    path.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n\nwritten: {path}")
    return int(gpu_parts.has_failed(check.found))


def _run(check: Check, name: str, part: Callable[[Check], None]) -> None:
    """One part; whatever happens in it is its own affair."""
    started = time.monotonic()
    print(f"== {name}, {check.left():.0f} s left", flush=True)
    if check.left() < 5:
        check.put(name, error="no time was left for it")
        return
    try:
        part(check)
    except Exception as error:
        traceback.print_exc()
        check.put(name, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    check.put(name, seconds=round(time.monotonic() - started, 1))


def _list_wheels() -> int:
    missing = [wheels for module, wheels in WHEELS.items() if importlib.util.find_spec(module) is None]
    names = " ".join(missing)
    if not names:
        print("nothing is missing here")
        return 0
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms = " ".join(f"--platform {name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"))
    print(f"missing here: {names}\nWhere there is a network:\n  python -m pip download --no-deps --only-binary=:all: "
          f"--python-version {version} {platforms} -d wheels {names}\nand here:\n  python -m pip install --no-index "
          "--no-deps --target site wheels/*.whl && export PYTHONPATH=site")  # fmt: skip
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu", "mps"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--full", action="store_true", help="all 70 runs of Table II")
    parser.add_argument("--only", metavar="PARTS", help="ceilings,equality,step,rows,encoding")
    parser.add_argument("--minutes", type=float, default=7.5, help="for all parts together (default %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON (default: benchmarks/gpu/<card>.json)")
    parser.add_argument("--list-wheels", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
