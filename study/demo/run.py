"""`whisq-study demo`: corpus -> features -> table -> report -> search, with real encoders and without a hub."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from study.ablation import ablate
from study.ablation.publish import report
from study.audit.check import audit
from study.demo.corpus import write_demo_corpus
from study.engine.preflight import make_folder
from study.search import optimize
from study.terminal import item_progress, say
from whisq_core.files import write_atomically

DEMO_FILE = Path(__file__).with_name("demo.yaml")
SEARCH_TRIALS = 8
SEARCH_ROW = "vanilla"  # the cheapest row that has all four settings


@dataclass(frozen=True)
class DemoRequest:
    """What the command line of `demo` says; `audio` and `text` replace the encoders of demo.yaml."""

    out: Path
    workers: int
    audio: str | None = None
    text: str | None = None


def demo(request: DemoRequest) -> int:
    """Run the whole demonstration and return its exit status."""
    corpus, storage = request.out / "corpus", f"sqlite:///{request.out / 'whisq.db'}"
    make_folder(request.out)
    with item_progress("render the demo corpus") as bar:
        write_demo_corpus(corpus, bar)
    file = _file(request)
    features = request.out / "features"
    asked = ablate.AblateRequest(file, corpus, features, storage, request.out, workers=request.workers)
    prepared = ablate.prepare(asked)
    say(f"table {prepared.file.name}: {len(prepared.to_run)} of {len(prepared.cells)} cells to run")
    results = ablate.run(prepared)
    status = ablate.exit_status(prepared, results)
    written = report(file, storage, request.out)
    published = audit()
    write_atomically(request.out / "audit.md", [f"```\n{published.text()}\n```\n".encode()])
    write_atomically(request.out / "audit.csv", [published.csv().encode()])
    searched = optimize.optimize(
        optimize.OptimizeRequest(
            file=file,
            data=corpus,
            features=features,
            storage=storage,
            out=request.out,
            row=SEARCH_ROW,
            trials=SEARCH_TRIALS,
            workers=request.workers,
        )
    )
    say(searched.summary)
    print((request.out / "table.md").read_text(encoding="utf-8"))
    print(f"{written}\ndatabase {storage}\nnext     whisq-study dashboard --storage {storage}")
    return status


def _file(request: DemoRequest) -> Path:
    """demo.yaml, or a copy of it with other encoders; a copy to try things with lies in the output folder."""
    path = request.out / "demo.yaml"
    if request.audio is None and request.text is None:
        if not path.exists():
            write_atomically(path, [DEMO_FILE.read_bytes()])
        return DEMO_FILE
    content = yaml.safe_load(DEMO_FILE.read_text(encoding="utf-8"))
    given = {"audio": request.audio, "text": request.text}
    content["base"]["backbone"] |= {kind: name for kind, name in given.items() if name is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
