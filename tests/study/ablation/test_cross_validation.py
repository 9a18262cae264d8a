"""A cross-validated table: every clip of train and dev is scored, by a model that has not seen it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import run
from helpers.studies import Place, beginning_in, changed, row

from study.config import read_ablation_file
from study.results import TableResults, collect
from study.store import Database
from whisq_core.corpus import read_corpus, splits
from whisq_core.spec import FOLDS


def _crossed(content: dict[str, Any]) -> None:
    whisq, constant = row(content, "whisq"), row(content, "constant")
    half = {"id": "half", "label": "Half of the clips", "set": {"data.fraction": 0.5}}
    content["base"]["data"] = {"folds": 3, "fold_by": "prompt"}
    content["base"]["train"]["epochs"] = 1
    content["sections"] = [{"title": "Rows", "rows": [whisq, half, constant]}]
    content["compare"] = {"to": "whisq", "rows": ["half"]}
    content.pop("search", None)


@pytest.fixture(scope="module")
def crossed(finished_study: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = beginning_in(tmp_path_factory.mktemp("crossed"), finished_study)
    changed(place, _crossed)
    finished = run(place.folder, *place.ablate)
    assert finished.status == 0, finished.err
    return place


@pytest.fixture(scope="module")
def results(crossed: Place) -> TableResults:
    return collect(read_ablation_file(crossed.file), Database(crossed.storage))


def test_every_clip_is_scored_by_a_model_that_has_not_seen_it(crossed: Place, results: TableResults) -> None:
    corpus, data = read_corpus(crossed.corpus), results.file.base.data
    labels = corpus.clips[["omq", "ta"]].to_numpy()
    assert len(results.truth) == len(corpus.clips) == 30
    for place, seed in enumerate(results.seeds_done["constant"]):
        for part in splits(corpus, data, seed):
            means = np.tile(labels[part.fit].mean(axis=0), (len(part.score[FOLDS]), 1))
            np.testing.assert_allclose(results.predictions["constant"][place][part.score[FOLDS]], means)


def test_a_trained_row_predicts_all_clips_and_differs_by_seed_and_share_of_clips(results: TableResults) -> None:
    whole, half = results.predictions["whisq"], results.predictions["half"]
    assert whole.shape == half.shape == (2, 30, 2)
    assert np.isfinite(whole).all()
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole, half)


def test_the_method_says_what_was_crossed(crossed: Place) -> None:
    text = (crossed.out / "table.md").read_text(encoding="utf-8")
    assert "3-fold cross-validation by prompt over the 30 clips of train and dev" in " ".join(text.split())


def test_a_second_run_trains_nothing(crossed: Place) -> None:
    before = crossed.tables()
    finished = run(crossed.folder, *crossed.ablate)
    assert finished.status == 0
    assert "done" not in finished.err
    assert crossed.tables() == before


def test_models_of_a_cross_validated_table_are_not_saved(crossed: Place) -> None:
    finished = run(crossed.folder, *crossed.ablate, "--save-models")
    assert finished.status == 2
    assert "has data.folds: 3, so that each run has as many models" in finished.err


def test_folds_with_an_inner_split_are_refused(crossed: Place, tmp_path: Path) -> None:
    place = beginning_in(tmp_path, crossed)
    changed(place, lambda content: content["base"]["data"].update(score=["inner"]))
    finished = run(place.folder, *place.ablate)
    assert finished.status == 2
    assert "folds scores every clip" in finished.err
