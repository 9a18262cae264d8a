"""Ratings of single raters become a row that says how another panel would do, also when they come after the runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.control_tables import finished_table

from whisq_core.corpus import read_corpus


def test_ratings_that_come_after_the_runs_are_in_the_table_and_nothing_runs_again(
    small_corpus: Path, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(small_corpus, tmp_path / "corpus"))
    study = finished_table(tmp_path, corpus)
    assert "human_panel" not in study.table()
    clips, draw = read_corpus(corpus).clips, np.random.default_rng(0)
    scored = clips[clips["split"] == "dev"]
    ratings = {utterance: draw.integers(1, 6, (4, 2)) for utterance in clips["utterance"]}
    lines = [f"{name},{rater},{omq},{ta}" for name, of in ratings.items() for rater, (omq, ta) in enumerate(of)]
    (corpus / "ratings.csv").write_text("\n".join(["utterance,rater,omq,ta", *lines]), encoding="utf-8")

    finished = study.ablate()

    assert finished.status == 0, finished.err
    assert "done" not in finished.err
    panel = study.table()["human_panel"]
    noise = np.mean([2 * ratings[utterance][:, 1].var(ddof=1) / 4 for utterance in scored["utterance"]])
    assert float(panel["ta.utterance.mse"]) == pytest.approx(noise)
    assert "Another panel of raters" in (study.results / "table/table.md").read_text(encoding="utf-8")


def test_contrasts_are_sentences_of_the_table_in_every_format(small_corpus: Path, tmp_path: Path) -> None:
    study = finished_table(tmp_path, small_corpus)
    study.content["contrasts"] = [{"id": "gain", "label": "Gain", "rows": {"lookup": 1, "mean": -1}}]

    finished = study.ablate()

    assert finished.status == 0, finished.err
    table = study.table()
    difference = float(table["lookup"]["ta.utterance.mse"]) - float(table["mean"]["ta.utterance.mse"])
    said = f"Gain (+1 lookup -1 mean): {difference:.3f}, 95 % interval ["
    for name in ("table.md", "table.html", "report.html"):
        assert said in (study.results / "table" / name).read_text(encoding="utf-8"), name
