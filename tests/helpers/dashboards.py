"""A running `whisq-study dashboard`, and what its pages and its JSON say."""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.command import started_script


@contextmanager
def dashboard(folder: Path, storage: str) -> Iterator[str]:
    """The address of a dashboard that the installed command serves on a free port; ended with the block."""
    with started_script(folder, "dashboard", "--storage", storage, "--port", 0) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line + process.stderr.read()
        try:
            yield address[0]
        finally:
            process.kill()


def get(address: str) -> bytes:
    """The body of a page; raises for every status but 200."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def get_json(address: str) -> Any:
    """The JSON that an address answers with."""
    return json.loads(get(address))


def attributes(described: dict[str, Any]) -> dict[str, str]:
    """The user attributes of a trial or study in the dashboard's JSON."""
    return {line["key"]: line["value"] for line in described["user_attrs"]}
