"""`whisq-study demo`: corpus -> features -> table -> report -> search, with real encoders and without a hub."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from study import ablation
from study.audit import audit
from study.demo.corpus import write_demo_corpus
from study.engine import Pool, Sources, make_folder
from study.search import OptimizeRequest, optimize
from study.terminal import item_progress, log
from whisq_core.files import write_atomically

DEMO_FILE = Path(__file__).with_name("demo.yaml")
REFERENCE = Path(__file__).with_name("reference")
SEARCH_TRIALS = 8
SEARCH_ROW = "vanilla"  # the cheapest row that has all four settings


def demo(out: Path, pool: Pool, audio: str | None = None, text: str | None = None) -> int:
    """Run the whole demonstration and return its exit status; `audio` and `text` replace the encoders of demo.yaml."""
    storage = f"sqlite:///{out / 'whisq.db'}"
    given = {kind: name for kind, name in (("audio", audio), ("text", text)) if name is not None}
    make_folder(out)
    with item_progress("render the demo corpus") as move:
        write_demo_corpus(out / "corpus", lambda done, total: move(done, total, ""))
    sources = Sources(_file(out, given), out / "corpus", out / "features", storage, out)
    prepared = ablation.prepare(ablation.AblateRequest(sources), pool)
    to_run = sum(cell.to_run for cell in prepared.cells)
    log(f"table {prepared.file.name}: {to_run} of {len(prepared.cells)} cells to run")
    status = ablation.exit_status(prepared, ablation.run(prepared, pool))
    published = audit()
    write_atomically(out / "audit.md", [f"```\n{published.text()}\n```\n".encode()])
    write_atomically(out / "audit.csv", [published.csv().encode()])
    log(optimize(OptimizeRequest(sources, SEARCH_ROW, SEARCH_TRIALS), pool).summary)
    print((out / "table.md").read_text(encoding="utf-8"))
    if not given:
        log("\n".join(compared(out)))
    print(f"report   {out / 'report.html'}\ndatabase {storage}\n\nnext:\n{next_commands(storage)}")
    return status


def compared(out: Path, reference: Path = REFERENCE) -> list[str]:
    """Whether the numbers in `out` are those of the reference that is kept with the program, a line for each table."""
    lines = []
    for path in sorted(reference.glob("*.csv")):
        files = (folder / path.name for folder in (out, reference))
        ours, theirs = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in files)
        if ours.equals(theirs):
            lines.append(f"{path.name}: equals the reference")
        elif ours.shape != theirs.shape or list(ours) != list(theirs):
            lines.append(f"{path.name}: has other lines or columns than the reference in {reference}")
        else:
            differs = (ours != theirs).to_numpy()
            numbers = [frame.apply(pd.to_numeric, errors="coerce").to_numpy(float) for frame in (ours, theirs)]
            largest = np.nanmax(np.abs(numbers[0] - numbers[1]), initial=0.0)
            texts = [name for name in ("verdict", "reason") if name in ours and (ours[name] != theirs[name]).any()]
            lines.append(
                f"{path.name}: {differs.sum()} of {differs.size} cells differ from the reference in {reference}, "
                f"numbers by at most {largest:.3g}{'; also in: ' if texts else ''}{', '.join(texts)}"
            )
    return lines


def next_commands(storage: str) -> str:
    """What to type now, line by line; where the shell does not find whisq-study, first what lets it."""
    activate = Path(sys.executable).with_name("activate")
    lines = [shlex.join(["whisq-study", "dashboard", "--storage", storage])]
    if activate.is_file() and shutil.which("whisq-study") is None:
        here = activate.relative_to(Path.cwd()) if activate.is_relative_to(Path.cwd()) else activate
        lines.insert(0, shlex.join([".", str(here)]))
    return "\n".join(lines)


def _file(out: Path, given: Mapping[str, str]) -> Path:
    """demo.yaml, or a copy of it with other encoders; a copy to try things with lies in the output folder."""
    path = out / "demo.yaml"
    if not given:
        if not path.exists():
            write_atomically(path, [DEMO_FILE.read_bytes()])
        return DEMO_FILE
    content = yaml.safe_load(DEMO_FILE.read_text(encoding="utf-8"))
    content["base"]["backbone"] |= given
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
