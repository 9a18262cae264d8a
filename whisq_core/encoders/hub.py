"""Weights from the Hugging Face hub: what is in its cache first, then one attempt to download."""

import json
import re
from pathlib import Path

from whisq_core.errors import InputError

_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)(@(?P<revision>[\w./-]+))?")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]  # configurations, tokenizers, preprocessors
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "model.bin")  # each only where there is none before it
_TIMEOUT = 10.0  # seconds to wait for the hub's first answer


def is_hub_name(name: str) -> bool:
    """Whether this could be a hub id, `owner/model` or `model`, with an optional `@revision`."""
    return _NAME.fullmatch(name) is not None


def snapshot(name: str) -> Path:
    """The folder in the Hugging Face cache that holds this model, downloaded if need be.

    Raises:
        InputError: when it is neither in the cache nor to be had; one line that says how to fetch it beforehand.
    """
    match = _NAME.fullmatch(name)
    assert match, name
    repo, revision = match["repo"], match["revision"] or "main"
    cached = _cached(repo, revision)
    if cached is not None:
        return cached
    from huggingface_hub import snapshot_download

    fetch = f"hf download {repo}" + (f" --revision {match['revision']}" if match["revision"] else "")
    way_out = f"Run `{fetch}` where there is a connection, or give a local folder."
    try:
        for weights in _WEIGHTS:
            patterns = [*_SMALL_FILES, weights]
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, etag_timeout=_TIMEOUT))
            if _is_whole(folder):
                return folder
    except Exception as error:  # whatever the hub's client raises, the user needs one line and a way out
        reason = f"not in the Hugging Face cache and not to be had from the hub ({_reason(error)})"
        raise InputError(f"checkpoint '{name}': {reason}. {way_out}") from None
    # Without a connection the client returns what an interrupted download has left.
    raise InputError(f"checkpoint '{name}': {folder} lacks config.json or weights ({', '.join(_WEIGHTS)}). {way_out}")


def _cached(repo: str, revision: str) -> Path | None:
    """The cached snapshot, when it has a configuration and weights; read by hand, as the client takes .4 s to import.

    Source: huggingface_hub, "Understand caching": models--OWNER--NAME/{refs/REVISION, snapshots/COMMIT/}.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    root = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    reference = root / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = root / "snapshots" / commit
    return folder if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """Whether a configuration and all weights are there; a model in several files has an index of them."""
    for pattern in _WEIGHTS:
        weights = {path.name for path in folder.glob(pattern)}
        for index in folder.glob(f"*{Path(pattern).suffix}.index.json"):
            weights |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if weights:
            return all((folder / file).exists() for file in ("config.json", *weights))
    return False


def _reason(error: Exception) -> str:
    """The last cause in one phrase: the hub's own messages run over several lines."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0].rstrip('.')}"
