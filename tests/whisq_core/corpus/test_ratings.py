"""Ratings of single raters: read beside a corpus, checked line by line, no part of its identity."""

from pathlib import Path

import pytest
from helpers.corpora import write_official_corpus

from whisq_core.corpus import corpus_digest, read_corpus
from whisq_core.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_official_corpus(tmp_path / "corpus", num_train=4, num_dev=3, num_systems=2, seconds=0.2)


def test_ratings_stand_beside_the_labels_and_are_no_part_of_the_identity(folder: Path) -> None:
    bare = read_corpus(folder)
    first, second, *_ = bare.clips["utterance"]
    (folder / "ratings.csv").write_text(
        f"rater,utterance,omq,ta\na,{first}.wav,1,2\nb,{first},3,4.5\na,{second},5,5\n", encoding="utf-8"
    )
    rated = read_corpus(folder)

    assert rated.clips["omq_ratings"].tolist()[:3] == [[1.0, 3.0], [5.0], []]
    assert rated.clips["ta_ratings"].tolist()[:2] == [[2.0, 4.5], [5.0]]
    audio = [str(number) for number in range(len(bare.clips))]
    assert corpus_digest(rated, audio) == corpus_digest(bare, audio)


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ("utterance,omq,ta\n", ":1: found the header 'utterance,omq,ta', allowed: utterance,rater,omq,ta, each once."),
        ("utterance,rater,omq,ta\nNAME,a,9,2\n", ":2: found OMQ '9', allowed: a number from 1 to 5."),
        ("utterance,rater,omq,ta\nNAME,a,1\n", ":2: found 3 fields, allowed: 4, as the header."),
        ("utterance,rater,omq,ta\nNAME,a,1,2\nNAME,a,1,2\n", ":3: rater 'a' rates 'NAME' again, already at"),
        ("utterance,rater,omq,ta\nother,a,1,2\n", ":2: unknown utterance 'other'."),
        ("", ":1: found the header '', allowed"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, lines: str, mistake: str) -> None:
    name = read_corpus(folder).clips["utterance"].iloc[0]
    (folder / "ratings.csv").write_text(lines.replace("NAME", name), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_corpus(folder)
    assert mistake.replace("NAME", name) in str(caught.value)


def test_a_manifest_has_its_ratings_beside_it(folder: Path, tmp_path: Path) -> None:
    clips = read_corpus(folder).clips
    manifest = tmp_path / "clips.csv"
    clips[["utterance", "system", "prompt", "audio", "omq", "ta", "split"]].to_csv(manifest, index=False)
    (tmp_path / "clips.ratings.csv").write_text(f"utterance,rater,omq,ta\n{clips['utterance'].iloc[1]},a,1,2\n")
    assert read_corpus(manifest).clips["omq_ratings"].tolist()[:2] == [[], [1.0]]
