"""A hub id: found in the Hugging Face cache, or asked for once, and one clear line where there is no hub."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from whisq_core.checkpoints import Checkpoint, resolve

COMMIT = "0123abcd" * 5


def cached_on_the_hub(home: Path, folder: Path, repo: str, commit: str) -> Path:
    """Lay a folder into a Hugging Face cache, as a download does."""
    root = home / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text(commit)
    return Path(shutil.copytree(folder, root / "snapshots" / commit))


@pytest.mark.parametrize("name", ["owner/model", "owner/model@main", f"owner/model@{COMMIT}"])
def test_a_cached_model_needs_no_connection(folder, tmp_path, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = cached_on_the_hub(tmp_path / "hub", folder, "owner/model", COMMIT)
    assert resolve(name, tmp_path) == Checkpoint(
        name, "transformers", snapshot, "bert", resolve(str(folder), tmp_path).digest
    )


RESOLVE = """
import sys
from pathlib import Path
from whisq_core.checkpoints import resolve
from whisq_core.errors import InputError
home, *names = sys.argv[1:]
for name in names:
    try:
        resolve(name, Path(home))
    except InputError as error:
        print(error)
"""


def resolved(home: Path, *names: str, **environment: str) -> list[str]:
    """What a process of its own says of these names."""
    found = os.environ | {"HF_HOME": str(home)} | environment
    command = [sys.executable, "-c", RESOLVE, str(home), *names]
    ended = subprocess.run(command, env=found, capture_output=True, text=True, check=True, timeout=60)
    return ended.stdout.splitlines() + ended.stderr.splitlines()


def test_a_missing_hub_gives_one_line_with_the_command(tmp_path):
    [line] = resolved(tmp_path, "openai/whisper-base@v2")
    assert line.startswith(
        "checkpoint 'openai/whisper-base@v2': not in the Hugging Face cache and not to be had from the hub ("
    )
    assert line.endswith(
        "). Run `hf download openai/whisper-base --revision v2` where there is a connection, or give a local folder."
    )


def test_a_hub_that_just_could_not_be_reached_is_not_asked_for_the_next_name(tmp_path):
    """Where there is no connection, every question waits for a name server."""
    asked = []

    class Down(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *what):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Down) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
        said = resolved(tmp_path, "owner/first", "owner/second", **online)
        hub.shutdown()

    assert [line.split("'")[1] for line in said] == ["owner/first", "owner/second"]
    assert all("503 Service Unavailable" in line for line in said)
    assert any("owner/first" in path for path in asked)
    assert not any("owner/second" in path for path in asked)


def test_a_name_that_the_hub_cannot_have_is_one_line(tmp_path):
    assert resolved(tmp_path, "owner/model--1")[0].startswith(
        "checkpoint 'owner/model--1': not in the Hugging Face cache and not to be had from the hub (HFValidationError: "
    )


def test_a_download_that_was_cut_off_is_not_taken_for_whole(folder, tmp_path):
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / shards["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    snapshot = cached_on_the_hub(tmp_path / "hub", folder, "owner/model", COMMIT)
    assert resolved(tmp_path, "owner/model") == [
        f"checkpoint 'owner/model': {snapshot} lacks config.json or weights (model.bin, model*.safetensors, "
        "pytorch_model*.bin). Run `hf download owner/model` where there is a connection, or give a local folder."
    ]
