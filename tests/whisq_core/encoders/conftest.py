"""Tiny checkpoints of every family, each written and loaded once."""

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import write_all, write_checkpoint
from helpers.corpora import write_official_corpus
from helpers.encoders import audio_encoder, opened

from whisq_core.checkpoints import Checkpoint, resolve
from whisq_core.encoders import encode, missing
from whisq_core.spec import BackboneSpec


@pytest.fixture(scope="module")
def one_thread():
    """As when encoding; threads that wait for each other are slow where several tests run at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A whole text checkpoint; not to be changed."""
    return write_checkpoint(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture
def folder(bert, tmp_path) -> Path:
    """A copy of one, to be changed."""
    return Path(shutil.copytree(bert, tmp_path / "model"))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A function (family, dtype) -> checkpoint on a tiny folder, each written once."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def make(family: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
        folder = write_checkpoint(root / f"{family}-{dtype}", family, dtype)
        return resolve(str(folder), root)

    return make


@pytest.fixture(scope="session")
def hearing(made):
    """A function family -> its loaded encoder, each loaded once."""
    return cache(lambda family: audio_encoder(made(family), "float32"))


@pytest.fixture
def copied(made, tmp_path):
    """A function family -> path of a copy that a test may damage."""
    return lambda family: Path(shutil.copytree(made(family).folder, tmp_path / family))


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return write_official_corpus(tmp_path_factory.mktemp("corpus"), num_train=14, num_dev=6)


@pytest.fixture(scope="session")
def spec(folders) -> BackboneSpec:
    return BackboneSpec(audio=str(folders["whisper"]), text=str(folders["qwen3"]))


@pytest.fixture(scope="session")
def undisturbed(data, spec, tmp_path_factory) -> Path:
    """A root that one call has filled."""
    root = tmp_path_factory.mktemp("undisturbed")
    arguments = opened(data, spec, root)
    assert missing(*arguments) == (20, len(set(arguments[0].clips["prompt"])))
    encode(*arguments)
    return root
