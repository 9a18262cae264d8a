"""Searches small enough for tests: a corpus of half-second tones, tiny untrained encoders, two epochs a trial."""

import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import yaml
from helpers.command import ENVIRONMENT, SCRIPT
from helpers.corpora import write_official_corpus
from optuna.trial import FrozenTrial

from study.dashboard import open_storage
from study.engine import Pool, Sources, Workspace, encode_backbones
from study.search import OptimizeRequest, SearchOutcome, optimize
from study.store import Database
from study.store.schema import runs
from whisq_core.spec import BackboneSpec

BACKBONE = {"audio": "untrained:wav2vec2", "text": "untrained:modernbert"}
SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "train.momentum": {"low": 0.0, "high": 0.9},
}


def shared_data(factory: pytest.TempPathFactory) -> Path:
    """The corpus and features of all tests of a session; nothing writes to them."""
    root = factory.getbasetemp() / "searches"
    return root if root.exists() else write_data(root)


def write_data(root: Path) -> Path:
    """A corpus and its features under `root`; returns `root`."""
    write_official_corpus(root / "corpus", num_train=20, num_dev=8, num_systems=4, seconds=0.3)
    encode_backbones(Workspace(root / "corpus", root / "features"), [BackboneSpec(**BACKBONE)])
    return root


def request(data: Path, folder: Path, url: str | None = None, **search: Any) -> OptimizeRequest:
    """A request for a search in `folder` on the data of `write_data`; `search` goes over the file's search."""
    sources = Sources(
        file=write_file(folder, **search),
        data=data / "corpus",
        features=data / "features",
        storage=url or f"sqlite:///{folder}/whisq.db",
        out=folder / "results",
    )
    return OptimizeRequest(sources, trials=3)


def search(asked: OptimizeRequest, workers: int = 1) -> SearchOutcome:
    """Run a search as the command does."""
    with Pool(workers) as pool:
        return optimize(asked, pool)


def database_of(asked: OptimizeRequest) -> Database:
    """The database of a search."""
    assert asked.sources.storage is not None
    return Database(asked.sources.storage)


def runs_of(asked: OptimizeRequest, table: str) -> list[sa.Row[Any]]:
    """The done runs that were made for a table or a search."""
    made_for = sa.select(runs).where(runs.c.table_name == table, runs.c.state == "done")
    with database_of(asked).engine.connect() as connection:
        return list(connection.execute(made_for))


def options(asked: OptimizeRequest) -> tuple[object, ...]:
    """Where its corpus, features and results are, for other commands."""
    sources = asked.sources
    return ("--data", sources.data, "--features", sources.features, "--storage", sources.storage)


def write_file(folder: Path, train: dict[str, Any] | None = None, ot_weight: float = 0.0, **search: Any) -> Path:
    """The ablation file: a row to tune, one that fixes lambda, one control."""
    content = {
        "name": "tiny",
        "base": {
            "backbone": BACKBONE,
            "model": {"feature_dim": 32, "attention": "none"},
            "loss": {"ot_weight": ot_weight},
            "train": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, **(train or {})},
        },
        "seeds": [0, 1],
        "sections": [
            {
                "title": "Rows",
                "rows": [
                    {"id": "whisq", "label": "WhisQ"},
                    {"id": "no_ot", "label": "Without OT", "set": {"loss.ot_weight": 0.0}},
                    {"id": "constant", "label": "Constant", "set": {"model.predictor": "constant"}},
                ],
            }
        ],
        "search": {"objective": "omq.utterance.lcc", "top": 1, "space": SPACE, **search},
    }
    path = folder / "ablations.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def trials(asked: OptimizeRequest, name: str = "tiny-whisq") -> list[FrozenTrial]:
    """The trials of a search as they are stored."""
    return optuna.load_study(study_name=name, storage=open_storage(database_of(asked))).get_trials()


def trained(asked: OptimizeRequest, name: str = "tiny-whisq") -> list[tuple[dict[str, Any], float | None]]:
    """Parameters and value of each trial."""
    return [(trial.params, trial.value) for trial in trials(asked, name)]


def start(asked: OptimizeRequest, workers: int = 1) -> "subprocess.Popen[str]":
    """`optimize` in a process group of its own, for tests that end it."""
    arguments = ["optimize", asked.sources.file, *options(asked), "--out", asked.sources.out, "--trials", asked.trials]
    return subprocess.Popen(
        [SCRIPT, *map(str, arguments), "--workers", str(workers)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
