"""Where and with what a number was made: versions, commit, machine, time."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from study.store import masked
from whisq_core.kernels import chosen

PACKAGES = ("whisq-study", "torch", "transformers", "optuna", "distributed", "numpy", "scipy")


def manifest(**facts: Any) -> dict[str, Any]:
    """The manifest of this process, with `facts` added; nothing secret and no user or host name."""
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernels": chosen()[0],
        "packages": package_versions(),
        "git_commit": _git_commit(),
        **facts,
    }


def command_line() -> str:
    """The command that was typed, its passwords masked."""
    return " ".join([Path(sys.argv[0]).name, *(masked(part) if "://" in part else part for part in sys.argv[1:])])


@cache
def package_versions() -> dict[str, str]:
    """The installed versions of what numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _git_commit() -> str | None:
    """The commit of this source tree, with "-changed" when it differs from it; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        options = {"cwd": root, "capture_output": True, "text": True, "timeout": 10, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain"], **options).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-changed" if changed else commit


@cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
