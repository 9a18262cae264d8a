"""The parts of `gpu_check.py` in their order, and the table of what was found."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpu_equality import equality
from gpu_rows import rows
from gpu_step import ceilings, step

if TYPE_CHECKING:
    from gpu_check import Check


def encoding(check: "Check") -> None:
    """Clips a second of Whisper-base at its true size with random weights, from sound files to the feature store."""
    import gpu_encoding

    gpu_encoding.measure(check)


PARTS: dict[str, Callable[["Check"], None]] = {
    "equality": equality,
    "ceilings": ceilings,
    "step": step,
    "rows": rows,
    "encoding": encoding,
}


def has_failed(found: dict[str, Any]) -> bool:
    """Whether a check has failed or a part ended with an error."""
    broken = any(key.endswith("error") for part in found.values() for key in part)
    rows_broken = any("error" in row for row in found.get("rows", {}).values() if isinstance(row, dict))
    return broken or rows_broken or bool(found.get("equality", {}).get("failed"))


def table(found: dict[str, Any]) -> str:
    """What was found, short."""
    machine, top = found["machine"], found.get("ceilings", {})
    small = ", small: measures nothing" if machine["small"] else ""
    lines = [f"| {machine['card']}, torch {machine['torch']}{small} | |",
             "| --- | ---: |"]  # fmt: skip

    def line(name: str, value: Any, unit: str = "", digits: int = 2) -> None:
        shown = f"{value:,.{digits}f} {unit}" if isinstance(value, float) else value
        if value is not None:
            lines.append(f"| {name} | {shown} |")

    equal = found.get("equality", {})
    if equal:
        line("equality: failed checks", "; ".join(equal.get("failed", [])) or "none")
    line("ceiling, bf16 product", top.get("bf16_tflops"), "TFLOP/s")
    line("ceiling, copy", top.get("copy_gb_per_s"), "GB/s", 0)
    step_found = found.get("step", {})
    for name, value in step_found.items():
        if name.endswith(("_ms", "_peak_gb")):
            line(f"step, {name.removesuffix('_ms').removesuffix('_peak_gb').replace('_', ' ')}", value,
                 "ms" if name.endswith("_ms") else "GB held")  # fmt: skip
    line("textbook / ours", step_found.get("times_faster"), "times", 1)
    if "gflops" in step_found and "bf16_tflops" in top and not machine["small"]:
        line("step / floor of arithmetic", top["bf16_tflops"] * 1e3 / step_found["gflops"], "times", 1)
        line("step / floor of memory", top["copy_gb_per_s"] / step_found["gb_per_s"], "times", 1)
    for name, row in found.get("rows", {}).items():
        if isinstance(row, dict) and "seconds" in row:
            more = ", extrapolated" if row["extrapolated"] else ""
            line(f"run, {name}{more}", row["seconds"], f"s, {row['peak_gb'] or 0:.1f} GB held")
        elif name.startswith(("all", "tuned")):
            line(name.replace("_", " "), row, "minutes", 1)
    for name, value in found.get("encoding", {}).items():
        if name.endswith("clips_per_s"):
            line(f"encoding, {name.removesuffix('_clips_per_s').replace('_', ' ')}", value, "clips/s", 1)
    for name, part in found.items():
        for key in part:
            if key.endswith("error"):
                line(f"{name}: {key.replace('_', ' ').strip()}", part[key])
    return "\n".join(lines)
