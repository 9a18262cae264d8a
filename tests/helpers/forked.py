"""Real command lines in milliseconds: a process that has imported everything forks for each of them, within limits.

A command that hangs, fills memory or ends in a traceback spoils nothing but its own answer.
"""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds after which a command counts as hung; its own time is measured apart, since machines are busy
MEMORY = 6 * 2**30  # bytes of address space beyond what is there at the start

_PRELOADED = (
    "study.ablation.publish", "study.audit", "study.dashboard.server", "study.demo", "study.doctor", "study.scoring",
    "study.report.comparison_figures", "study.report.page", "study.report.run_figures", "study.report.sweep_figure",
    "study.search", "study.tables.latex", "whisq_core.encoders.audio", "whisq_core.encoders.text",
    "whisq_core.training", "alembic.command", "optuna.storages._rdb.models", "optuna.visualization", "optuna_dashboard",
    "plotly.graph_objs.layout", "plotly.graph_objs.scatter", "plotly.io", "plotly.subplots", "psycopg", "rich.progress",
    "scipy.signal", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "torch.utils.flop_counter",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert", "transformers.models.whisper.feature_extraction_whisper",
    "transformers.models.whisper.modeling_whisper",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command left: its status (negative: the signal that ended it), both streams, time of its own, memory."""

    status: int
    out: str
    err: str
    cpu_seconds: float
    peak_bytes: int

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that name mistakes, ours or those of the parser of options, without their beginning."""
        return [line[len("error: ") :] for line in self.err.splitlines() if line.lower().startswith("error: ")]


class Commands:
    """The client; one server process per instance."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), environment.get("PYTHONPATH", "")])
        self._server = subprocess.Popen(
            [sys.executable, "-m", "helpers.forked"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, folder: Path, *arguments: object, **how: Any) -> Answer:
        """Run `whisq-study` to its end, as `start` starts it."""
        return self.wait(self.start(folder, *arguments, **how))

    def start(
        self, folder: Path, *arguments: object, encoding: str = "utf-8", environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None, failing: tuple[str, int, int] | None = None,
    ) -> int:  # fmt: skip
        """Start `whisq-study` with `folder` as the working directory; the id of its process and process group.

        `limits` go by name (``RLIMIT_FSIZE``); `failing` names a function of `os` whose calls fail from the n-th on,
        and the error that the system reports then.
        """
        request = {
            "folder": str(folder), "arguments": [str(each) for each in arguments], "encoding": encoding,
            "environment": dict(environment or {}), "limits": dict(limits or {}), "failing": failing,
        }  # fmt: skip
        pid: int = self._ask(request)
        return pid

    def wait(self, pid: int) -> Answer:
        """What a started command has left when it has ended."""
        return Answer(**self._ask({"pid": pid}))

    def _ask(self, request: Mapping[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def _serve() -> None:
    import importlib

    for name in _PRELOADED:
        importlib.import_module(name)
    started: dict[int, tuple[Any, Any, str]] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        print(
            json.dumps(_ended(started, request["pid"]) if "pid" in request else _started(started, request)), flush=True
        )


def _started(started: dict[int, tuple[Any, Any, str]], request: dict[str, Any]) -> int:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    pid = os.fork()
    if pid == 0:
        _become(request, out.fileno(), err.fileno())
    started[pid] = (out, err, request["encoding"])
    return pid


def _ended(started: dict[int, tuple[Any, Any, str]], pid: int) -> dict[str, Any]:
    _, status, usage = os.wait4(pid, 0)
    out, err, encoding = started.pop(pid)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read().decode(encoding, errors="replace"))
        stream.close()
    return {
        "status": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1],
        "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024,
    }  # fmt: skip


def _fail(name: str, at: int, number: int) -> None:
    """Have the system's calls of one kind fail from the `at`-th on."""
    real, calls = getattr(os, name), itertools.count(1)

    def failing(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= at:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    setattr(os, name, failing)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    """Turn this fork into the command; never returns."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = open(1, "w", encoding=request["encoding"], closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding=request["encoding"], errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits = {"RLIMIT_AS": pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, "RLIMIT_CORE": 0, **request["limits"]}
        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, name), (limit, limit))
        if request["failing"]:
            _fail(*request["failing"])
        sys.argv = ["whisq-study", *request["arguments"]]
        from study.cli import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 71
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
