"""Random texts and bytes at every door that reads: an answer, or lines that say what is wrong, and nothing else.

A few hundred examples each time, `make fuzz` goes on for ten minutes each. What it has found is an `@example`.
"""

import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.checkpoints import write_checkpoint
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from study.audit import audit
from study.config import read_ablation_file
from study.engine import collect_errors
from study.scoring import score_file
from study.store import Database, masked
from whisq_core.checkpoints import resolve
from whisq_core.corpus import check_audio_files, read_corpus
from whisq_core.errors import InputError
from whisq_core.features import FeatureKey, FeatureStore

SECONDS = float(os.environ.get("WHISQ_FUZZ_SECONDS", "0"))  # of each test; 0: one short round
EXAMPLES = 100


def fuzz(strategy: st.SearchStrategy[Any], check: Callable[[Any], object]) -> None:
    """Round after round of examples, each round from a seed of its own, until the time is over."""
    deadline = time.monotonic() + SECONDS
    for number in itertools.count():
        how = settings(
            max_examples=EXAMPLES, deadline=None, database=None, print_blob=True,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        )  # fmt: skip

        @seed(number)
        @how
        @given(strategy)
        def examine(example: Any) -> None:
            with suppress(InputError):
                check(example)

        examine()
        if time.monotonic() >= deadline:
            print(f"{(number + 1) * EXAMPLES:,} examples")
            return


def spoilt(good: bytes) -> st.SearchStrategy[bytes]:
    """`good` with a few parts cut out, doubled or replaced, so that what is wrong lies deep inside."""
    place = st.integers(0, len(good))
    part = st.one_of(
        st.binary(max_size=8), st.sampled_from([b"\0", b"\xff" * 8, b"9" * 400, b'"', b"\n", b",", b"{", b"["])
    )
    edits = st.lists(st.tuples(place, st.integers(0, 12), part), min_size=1, max_size=4)

    def edit(changes: list[tuple[int, int, bytes]]) -> bytes:
        content = good
        for start, length, new in changes:
            content = content[:start] + new + content[start + length :]
        return content

    return st.one_of(edits.map(edit), st.binary(max_size=300))


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([10**9, 10**30, -1, 0, "../x", "a/b", "\x1b[2J", "0-9", "auto", "untrained:whisper", 1e308]),
)  # fmt: skip
_WORDS = st.sampled_from(
    ["name", "base", "seeds", "sections", "rows", "id", "label", "set", "extends", "compare", "search", "space", "low",
     "high", "choices", "train", "model", "data", "loss", "backbone", "train.epochs", "loss.ot_weight", "to", "metric"]
)  # fmt: skip
_KEYS = st.one_of(_WORDS, st.text(max_size=8))
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=25,
)  # fmt: skip
_ROWS = [{"id": "a", "label": "A"}, {"id": "b", "label": "B", "set": {"loss.ot_weight": 0}}]
_TABLE = {
    "base": {"backbone": {"audio": "untrained:whisper", "text": "untrained:qwen3"}, "train": {"epochs": 2}},
    "seeds": "0-3",
    "compare": {"to": "a", "rows": ["b"]},
    "sections": [{"title": "T", "rows": _ROWS}],
    "search": {"space": {"train.learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}},
}  # fmt: skip


def grafted(good: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A good tree with something else in one place."""

    def places(tree: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
        return [here, *(place for key, value in inner for place in places(value, (*here, key)))]

    def graft(drawn: tuple[tuple[Any, ...], Any]) -> Any:
        place, new = drawn
        tree = json.loads(json.dumps(good))
        if not place:
            return new
        inner = tree
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = new
        return tree

    return st.tuples(st.sampled_from(places(good)), _TREES).map(graft)


def test_ablation_files_of_odd_trees(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"

    def check(tree: Any) -> None:
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
        read_ablation_file(path)

    fuzz(st.one_of(_TREES, grafted(_TABLE)), check)


def test_ablation_files_of_odd_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_ablation_file(path)

    fuzz(spoilt(yaml.safe_dump(_TABLE).encode()), check)


@pytest.mark.parametrize("name", ["manifest.csv", "corpus/sets/train_mos_list.txt", "corpus/prompt_info.txt"])
def test_corpora(small_corpus: Path, tmp_path: Path, name: str) -> None:
    import shutil

    shutil.copytree(small_corpus, tmp_path / "corpus")
    path = tmp_path / name
    if name == "manifest.csv":
        path.write_text("utterance,system,prompt,audio,omq,ta,split\nu,s,p,a.wav,3,4,train\nv,s,p,b.wav,2,4.5,dev\n")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_corpus(path if name == "manifest.csv" else tmp_path / "corpus")

    fuzz(spoilt(path.read_bytes()), check)


def test_sound_files(small_corpus: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small_corpus, tmp_path / "corpus")
    corpus = read_corpus(tmp_path / "corpus")
    path = Path(corpus.clips["audio"][0])

    def check(content: bytes) -> None:
        path.write_bytes(content)
        check_audio_files(corpus, tmp_path / "cache.json")

    good = path.read_bytes()[:2000]
    fuzz(st.one_of(spoilt(good[:80]).map(lambda head: head + good[80:]), spoilt(good)), check)


def test_predictions(small_corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    names = [line.split(",")[0] for line in (small_corpus / "sets/dev_mos_list.txt").read_text().splitlines()]

    def check(content: bytes) -> None:
        path.write_bytes(content)
        score_file(path, small_corpus, "dev", "clips")

    fuzz(spoilt("".join(f"{name},3.0,2.5\n" for name in names).encode()), check)


def test_archives(small_corpus: Path, tmp_path: Path) -> None:
    import io
    import zipfile

    path, target = tmp_path / "answer.zip", io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("answer.txt", "name,3.0,2.0\n" * 20)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        score_file(path, small_corpus, "dev", "clips")

    fuzz(spoilt(target.getvalue()), check)


def test_published_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = audit(path)
        assert found.text()
        assert found.json()

    fuzz(spoilt(b"model,TA S-SRCC,OMQ S-KTAU,systems,ties\nours,0.512,0.25,29,0\ntheirs,.5,-,29,1\n"), check)


def test_feature_files(tmp_path: Path) -> None:
    store, item = FeatureStore(tmp_path, FeatureKey("audio", "c" * 64, "p", "float32")), "a" * 64
    store.write(item, np.ones((4, 8), dtype=np.float32), 3)
    path = store.path(item)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert store.open([item]).frames(0).shape == (4, 8)

    fuzz(spoilt(path.read_bytes()), check)


def test_descriptions_of_stores(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, FeatureKey("audio", "c" * 64, "p", "float32"))
    path = store.folder / "store.json"
    path.parent.mkdir()

    def check(tree: Any) -> None:
        path.write_text(json.dumps(tree), encoding="utf-8")
        assert store.meta is not None

    key = {"kind": "audio", "checkpoint_digest": "c" * 64, "preprocessing": "p", "precision": "float32"}
    meta = {"name": "n", "dim": 8, "num_parameters": 1, "macs": None, "frame_rate": 1.0, "untrained": True}
    fuzz(st.one_of(_TREES, grafted({"key": key, "meta": meta})), check)


_PARTS = ["sqlite", "postgresql", "+psycopg", "+evil", "://", ":/", "///", "/", ":", "@", "?", "#", "[", "]", "::1"]
_PARTS += ["user", "host", "127.0.0.1:1", "db", "password=", "&", " ", "'", "x.db", ":memory:", "..", "=", "\0", "%00"]
_SECRET = "hunter2secret"


def test_storage_urls_and_their_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def check(parts: list[str]) -> None:
        url = "".join(parts)
        assert _SECRET not in masked(url)
        mistakes: list[str] = []
        with collect_errors(mistakes):
            Database(url)
        assert _SECRET not in "".join(mistakes)
        assert list(tmp_path.iterdir()) == []

    secret = st.sampled_from([f":{_SECRET}@", f"password={_SECRET}", f"sslpassword={_SECRET}&", f"user:{_SECRET}@host"])
    pieces = st.lists(st.one_of(st.sampled_from(_PARTS), st.text(max_size=3)), max_size=8)
    fuzz(st.tuples(pieces, secret, pieces).map(lambda drawn: [*drawn[0], drawn[1], *drawn[2]]), check)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_checkpoints(tmp_path: Path, name: str) -> None:
    from whisq_core.encoders.families import load_encoder

    folder = write_checkpoint(tmp_path / "whisper", "whisper")
    path = folder / name
    good = path.read_bytes()

    def check(content: Any) -> None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        load_encoder(resolve(str(folder), tmp_path / "cache"), "audio", "float32")

    header = spoilt(good[:400]).map(lambda head: head + good[400:])
    fuzz(header if name == "model.safetensors" else st.one_of(spoilt(good), grafted(json.loads(good))), check)
