"""The feature store: each clip and each prompt encoded once, mapped into memory by every process.

One folder per `FeatureKey` holds one file per item, named by the item's own SHA-256. A file is renamed into place when
it is whole, so a process may be killed at any moment and many processes may fill one store. Reading asks for no right
to write.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from whisq_core.errors import InputError, raise_all
from whisq_core.features.file import LAYOUT, SUFFIX, Broken, Item, ItemKey, read_item, verify_item, write_item
from whisq_core.features.table import FeatureTable, Maps
from whisq_core.files import read_regular, sweep, write_atomically
from whisq_core.spec import digest


@dataclass(frozen=True)
class FeatureKey:
    """What the features of one store are a function of, besides the item itself."""

    kind: Literal["audio", "text"]
    checkpoint_digest: str
    preprocessing: str
    precision: Literal["float32", "bf16"]

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name this key and the layout of its files."""
        return digest({**asdict(self), "layout": LAYOUT})


@dataclass(frozen=True)
class StoreMeta:
    """What a store says about its encoder; `macs` per item and `frame_rate` in Hz where they are known."""

    name: str
    dim: int
    num_parameters: int
    macs: int | None
    frame_rate: float | None
    untrained: bool


class FeatureStore:
    """The features of one `FeatureKey` under `root`."""

    def __init__(self, root: Path, key: FeatureKey) -> None:
        self.key = key
        self.folder = root / f"{key.kind}-{key.digest[:16]}"
        self._key_digest = key.digest

    def path(self, item_key: str) -> Path:
        """Where the features of the item with this SHA-256 (64 hexadecimal digits) lie."""
        return self.folder / f"{item_key}{SUFFIX}"

    @property
    def meta(self) -> StoreMeta | None:
        """The description written beside the items, None before the first encoding.

        Raises
        ------
        InputError : when `store.json` describes another key or cannot be read.
        """
        path = self.folder / "store.json"
        try:
            stored = json.loads(read_regular(path))
            if stored["key"] != asdict(self.key):
                raise InputError(
                    f"{path}: describes the features of another encoder ({stored['meta']['name']}). "
                    f"Use another folder for features, or delete {self.folder} and run `whisq-study encode`."
                )
            meta = StoreMeta(**stored["meta"])
            if not (isinstance(meta.name, str) and type(meta.dim) is type(meta.num_parameters) is int):
                raise TypeError(meta)
            return meta
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: not the description of a feature store. Delete this file and run `whisq-study encode`: "
                "it is written anew, and nothing is encoded twice."
            ) from error

    def describe(self, meta: StoreMeta) -> None:
        """Write `store.json`, or check that it tells the same.

        Raises
        ------
        InputError : when the folder belongs to another key or cannot be written.
        """
        if self.meta == meta:
            return
        text = json.dumps({"key": asdict(self.key), "meta": asdict(meta)}, indent=1, sort_keys=True) + "\n"
        write_atomically(self.folder / "store.json", [text.encode()])

    def write(
        self,
        item_key: str,
        frames: Float[np.ndarray, "frames dim"],
        valid: int,
        pooled: Float[np.ndarray, " dim"] | None = None,
    ) -> None:
        """Store one item. The bytes depend on the arguments alone: two processes may write the same item.

        Parameters
        ----------
        item_key : the item's SHA-256, 64 hexadecimal digits.
        frames : [frames, dim], stored in half precision.
        valid : the first frames that are signal; the rest is the encoder's padding.
        pooled : [dim], the encoder's own pooled vector (CLAP), in place of both means.

        Raises
        ------
        InputError : when features are not finite in half precision, or the folder cannot be written.
        """
        assert 1 <= valid <= len(frames), (valid, frames.shape)
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(frames, dtype=np.float16)
        if not np.isfinite(half).all():
            raise InputError(
                f"item {item_key}: its features are not finite in half precision (largest magnitude "
                f"{np.abs(frames).max():.4g}, allowed 65504). Use another checkpoint."
            )
        means = [part.mean(axis=0, dtype=np.float64) for part in (frames, frames[:valid])]
        vectors = np.stack(means if pooled is None else [pooled, pooled]).astype(np.float32)
        write_item(self.path(item_key), self._item_key(item_key), half, valid, vectors)

    def problems(self, item_keys: Iterable[str]) -> dict[str, str]:
        """Items that cannot be read, with the reason: "missing", or the file's path and what is wrong with it.

        Frames are not read (`verify` reads them), so this is quick: sizes, identity and pooled vectors only.
        """
        return self._look(item_keys)[1]

    def missing(self, item_keys: Iterable[str]) -> list[str]:
        """The items that must be encoded, each once, in the order given: those of `problems`."""
        return list(self.problems(dict.fromkeys(item_keys)))

    def open(self, item_keys: Sequence[str]) -> FeatureTable:
        """Row i of the table is `item_keys[i]`. Reads headers and pooled vectors; frames are mapped when asked for.

        Raises
        ------
        InputError : with every item that is absent, truncated, mismatched or corrupt.
        """
        items, problems = self._look(dict.fromkeys(item_keys))
        rebuild = "Run `whisq-study encode`: it rebuilds the file."
        raise_all(
            [
                f"{self.path(item)}: missing. Run `whisq-study encode`." if text == "missing" else f"{text}. {rebuild}"
                for item, text in problems.items()
            ]
        )
        rows = [items[item_key] for item_key in item_keys]
        assert rows, "a feature table has at least one row"
        return FeatureTable(
            keys=tuple(item_keys),
            folder=self.folder,
            num_frames=np.array([row.num_frames for row in rows], dtype=np.int64),
            num_valid=np.array([row.num_valid for row in rows], dtype=np.int64),
            pooled_vectors=np.stack([row.pooled for row in rows], axis=1),
            maps=Maps(rows[0].dim),
        )

    def verify(self) -> dict[str, str]:
        """Read every file of the store whole: item key -> path and what is wrong. Minutes for a large store."""
        found = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                verify_item(path, self._item_key(path.stem))
            except (Broken, OSError) as error:
                found[path.stem] = f"{path}: {getattr(error, 'strerror', error)}"
        return found

    def sweep(self) -> None:
        """Remove the temporary files that killed writers left behind."""
        sweep(self.folder)

    def _item_key(self, item_key: str) -> ItemKey:
        return ItemKey(item_key, self._key_digest)

    def _look(self, item_keys: Iterable[str]) -> tuple[dict[str, Item], dict[str, str]]:
        """The items that can be read, and the problems of the others."""
        items, problems = dict[str, Item](), dict[str, str]()
        for item_key in item_keys:
            try:
                items[item_key] = read_item(self.path(item_key), self._item_key(item_key))
            except FileNotFoundError:
                problems[item_key] = "missing"
            except (Broken, OSError) as error:
                problems[item_key] = f"{self.path(item_key)}: {getattr(error, 'strerror', error)}"
        return items, problems
