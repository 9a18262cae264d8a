"""A real headless browser for tests: Debian's chromium, driven over its debugging pipe (no driver, no web socket).

The pipe speaks the Chrome DevTools protocol: JSON messages that end in a NUL, commands in on descriptor 3, answers
and events out on descriptor 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

START_LIMIT = 60.0  # s, on a machine that is busy with other tests
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    """The chromium of this machine, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Page:
    """One tab; `requests` are the addresses it asked for and `problems` what its console complained about."""

    pipe: "_Pipe"
    session: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    loaded: bool = False

    def open(self, path: Path, limit: float = 60.0) -> Self:
        """Load a file and wait for its load event."""
        return self.visit(path.resolve().as_uri(), limit)

    def visit(self, url: str, limit: float = 60.0) -> Self:
        """Load an address of this machine and wait for its load event."""
        self.loaded = False
        self._call("Page.navigate", {"url": url})
        self.pipe.until(lambda: self.loaded, limit)
        return self

    def evaluate(self, script: str) -> Any:
        """The JSON value of a JavaScript expression; a promise is awaited."""
        answer = self._call(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str, limit: float = 60.0) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + limit
        while not self.evaluate(script):
            assert time.monotonic() < deadline, f"still false after {limit:.0f} s: {script}"
            time.sleep(0.1)

    def emulate(self, width: int, medium: str = "screen", scheme: str = "light") -> None:
        """Show the page as on a screen or on paper of so many pixels, light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", {"media": medium, "features": wanted})

    def pdf(self) -> bytes:
        """The page as it is printed, on the paper that its style asks for."""
        return base64.b64decode(self._call("Page.printToPDF", {"preferCSSPageSize": True})["data"])

    def screenshot(self, target: Path) -> Path:
        """The whole page, not only the part that fits the window, as PNG."""
        size = self._call("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        target.write_bytes(base64.b64decode(answer["data"]))
        return target

    def handle(self, method: str, event: dict[str, Any]) -> None:
        """Note what matters of one event of this tab."""
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(event["entry"]))
        elif method == "Page.loadEventFired":
            self.loaded = True

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self.pipe.call(method, params, self.session)


class _Pipe:
    """Commands and answers; events go to the page of their session."""

    def __init__(self, write_end: int, read_end: int) -> None:
        self.write_end, self.read_end = write_end, read_end
        self.buffer = b""
        self.answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}
        self.last_id = 0

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        self.until(lambda: self.last_id in self.answers, START_LIMIT)
        answer = self.answers.pop(self.last_id)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def until(self, done: Any, limit: float) -> None:
        deadline = time.monotonic() + limit
        while not done():
            ready, _, _ = select.select([self.read_end], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {limit:.0f} s"
            data = os.read(self.read_end, 1 << 20)
            assert data, "the browser ended"
            *messages, self.buffer = (self.buffer + data).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self.answers[message["id"]] = message
        elif message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].handle(message["method"], message["params"])


@contextmanager
def page(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A blank tab of a fresh browser that can reach no network; `profile` is an empty folder for its files."""
    found = executable()
    assert found, "no chromium on this machine"
    child_reads, we_write = _pipe_above_ten()
    we_read, child_writes = _pipe_above_ten()
    flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "--proxy-server=127.0.0.1:1")
    # The shell puts the pipes on descriptors 3 and 4, where chromium expects them.
    script = f'exec "$0" "$@" 3<&{child_reads} 4>&{child_writes}'
    process = subprocess.Popen(
        ["bash", "-c", script, found, *flags, "about:blank"],
        pass_fds=(child_reads, child_writes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_reads)
    os.close(child_writes)
    pipe = _Pipe(we_write, we_read)
    try:
        yield _attach(pipe)
        pipe.call("Browser.close", {})
    finally:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(we_write)
        os.close(we_read)


def _pipe_above_ten() -> tuple[int, int]:
    """A pipe whose ends collide with neither 3 nor 4."""
    ends = os.pipe()
    above = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return above[0], above[1]


def _attach(pipe: _Pipe) -> Page:
    target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
    session = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
    tab = Page(pipe, session)
    pipe.pages[session] = tab
    for domain in ("Page", "Runtime", "Log", "Network"):
        pipe.call(f"{domain}.enable", {}, session)
    tab.loaded = False
    return tab
