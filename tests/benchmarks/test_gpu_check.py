"""What anybody with a GPU runs first, on a CPU in small: the whole path of a GPU but for the device itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "benchmarks" / "gpu_check.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})


def test_the_small_check_passes_and_writes_what_it_found(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--small", "--minutes", "60", "--out", tmp_path / "found.json")

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"machine", "equality", "ceilings", "step", "rows", "encoding"}
    assert found["equality"]["failed"] == []
    assert len([name for name in found["equality"] if name.startswith("float32 is float64")]) == 12
    assert found["rows"]["all_70_runs_minutes_extrapolated"] > 0
    assert "small: measures nothing" in (tmp_path / "found.md").read_text()


def test_it_needs_no_more_than_it_lists() -> None:
    """Neither Optuna nor the database nor anything else of the harness."""
    code = (
        "import sys; sys.path[:0] = ['benchmarks', 'tests/reference']\n"
        "import gpu_parts, gpu_encoding, textbook\n"
        "print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {"optuna", "sqlalchemy", "distributed", "typer", "yaml", "study"}.isdisjoint(modules.split())
    assert run("--list-wheels").stdout == "nothing is missing here\n"
