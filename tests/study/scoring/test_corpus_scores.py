"""Scoring predictions files of any origin."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.corpora import write_evaluation_corpus, write_official_corpus

from study.scoring import Scores, score_file
from whisq_core.corpus import read_corpus
from whisq_core.errors import InputError
from whisq_core.metrics import METRICS, evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_corpus(tmp_path_factory.mktemp("corpus") / "tiny", num_train=8, num_dev=12, seconds=0.1)


def answers(folder: Path) -> list[str]:
    """Lines of a predictor that is right but for some noise."""
    clips = read_corpus(folder).clips.query("split == 'dev'")
    noise = np.random.default_rng(0).normal(0, 0.5, (len(clips), 2)).round(3)
    values = (clips[["omq", "ta"]].to_numpy() + noise).round(3)
    return [f"{name},{omq},{ta}" for name, (omq, ta) in zip(clips["utterance"], values.tolist(), strict=True)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def mistakes_of(path: Path, folder: Path, split: str = "dev") -> list[str]:
    with pytest.raises(InputError) as caught:
        score_file(path, folder, split, "clips")
    return [line.replace(f"{path.parent}{os.sep}", "") for line in caught.value.mistakes]


@pytest.mark.parametrize("convention", ["clips", "csv"])
def test_an_answer_file_gets_the_metrics_of_its_split(folder: Path, tmp_path: Path, convention: str) -> None:
    lines = answers(folder)
    scores = score_file(write(tmp_path / "answer.txt", lines), folder, "dev", convention)  # type: ignore[arg-type]
    corpus = read_corpus(folder)
    clips = corpus.clips.query("split == 'dev'")
    predicted = np.array([[float(cell) for cell in line.split(",")[1:]] for line in lines])
    assert corpus.system_mos is not None
    table = {str(name): (omq, ta) for name, omq, ta in corpus.system_mos.itertuples(name=None)}
    truth_table = table if convention == "csv" else None
    expected = evaluate(predicted, clips[["omq", "ta"]].to_numpy(), list(clips["system"]), truth_table)
    assert scores.values == expected
    assert (scores.num_clips, scores.num_systems) == (12, 4)
    assert json.loads(scores.to_json()) == {name: expected[name] for name in METRICS}


def test_order_endings_header_quotes_and_packing_do_not_matter(folder: Path, tmp_path: Path) -> None:
    lines = answers(folder)
    expected = score_file(write(tmp_path / "answer.txt", lines), folder, "dev", "clips")
    cells = [line.split(",") for line in lines]
    with zipfile.ZipFile(tmp_path / "answer.zip", "w") as archive:
        archive.writestr("team/answer.txt", "\r\n".join(lines[::-1]))
    table = ["TA,seed,Utterance,omq", *(f'{ta},3,"{name}.wav", {omq}' for name, omq, ta in cells)]
    swapped = [f"{name}.wav, {omq} ,{ta}" for name, omq, ta in cells[::-1]]
    forms = [tmp_path / "answer.zip", write(tmp_path / "a.csv", table), write(tmp_path / "b.csv", swapped)]
    for path in forms:
        assert score_file(path, folder, "dev", "clips") == expected


def test_every_mistake_of_a_file_is_listed(folder: Path, tmp_path: Path) -> None:
    lines = answers(folder)
    name = [line.split(",")[0] for line in lines]
    broken = [f"{name[0]},3", f"{name[1]},three,nan", *lines[2:-1], lines[2], "S9,1,2"]
    assert mistakes_of(write(tmp_path / "answer.txt", broken), folder) == [
        f"answer.txt:1: found 2 fields in '{name[0]},3', allowed: 3.",
        "answer.txt:2: OMQ is 'three', allowed: a finite number.",
        "answer.txt:2: TA is 'nan', allowed: a finite number.",
        f"answer.txt:12: duplicate utterance '{name[2]}', already at answer.txt:3.",
        "answer.txt:13: unknown utterance 'S9', allowed: the clips of split 'dev'.",
        f"answer.txt: no prediction for '{name[11]}' of split 'dev'.",
    ]


def test_many_mistakes_of_one_kind_are_counted_and_hide_no_other_kind(tmp_path: Path) -> None:
    folder = write_official_corpus(tmp_path / "corpus", num_train=4, num_dev=32, seconds=0.05)
    lines = answers(folder)
    found = mistakes_of(write(tmp_path / "answer.txt", [f"x{i},1,2" for i in range(25)] + [lines[0] + "x"]), folder)
    unknown = [f"answer.txt:{i + 1}: unknown utterance 'x{i}', allowed: the clips of split 'dev'." for i in range(20)]
    assert found[:21] == [*unknown, "... and 5 more unknown utterances."]
    assert found[21] == f"answer.txt:26: TA is '{lines[0].split(',')[2]}x', allowed: a finite number."
    missing = sorted(line.split(",")[0] for line in lines[1:])
    assert found[22:42] == [f"answer.txt: no prediction for '{name}' of split 'dev'." for name in missing[:20]]
    assert found[42:] == ["... and 11 more missing utterances."]


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", "found no line, allowed: utterance,OMQ,TA."),
        (b"utterance,OMQ\n", "1: found the header 'utterance,omq', allowed: utterance,omq,ta, each once. Correct ta."),
        (b"\xff\xfea\x00", "1: found UTF-16 text, allowed: UTF-8. Save the file as UTF-8."),
        (b'"a,1,2\n', "1: broken CSV (unexpected end of data), allowed: quotes that are closed and doubled inside."),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_mistake(
    folder: Path, tmp_path: Path, content: bytes, mistake: str
) -> None:
    path = tmp_path / "answer.txt"
    path.write_bytes(content)
    found = mistakes_of(path, folder)
    assert len(found) == 1
    assert found[0].removeprefix("answer.txt:").strip() == mistake


def test_a_csv_with_a_header_only_lacks_every_clip(folder: Path, tmp_path: Path) -> None:
    assert len(mistakes_of(write(tmp_path / "a.csv", ["utterance,omq,ta"]), folder)) == 12


def test_a_missing_file_and_a_zip_without_one_answer_are_mistakes(folder: Path, tmp_path: Path) -> None:
    assert mistakes_of(tmp_path / "no.txt", folder) == ["no.txt: no such file."]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "x")
    assert mistakes_of(tmp_path / "a.zip", folder) == ["a.zip: found 0 files answer.txt in the zip, allowed: one."]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("answer.txt", "x,1,2\n")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"x,1,2", b"x,1,3", 1))
    assert mistakes_of(tmp_path / "a.zip", folder) == [
        "a.zip: cannot be unpacked (Bad CRC-32 for file 'answer.txt'). Zip answer.txt again."
    ]


def test_a_split_without_labels_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "answer.txt", ["a,1,2"])
    assert mistakes_of(path, folder, "dve") == [f"{folder}: no labelled split 'dve'. Did you mean 'dev'?"]
    assert mistakes_of(path, folder, "test") == [f"{folder}: no labelled split 'test'. Allowed: dev, train."]
    blind = write_evaluation_corpus(tmp_path / "blind", num_clips=2)
    with pytest.raises(InputError) as caught:
        score_file(path, blind, "eval", "clips")
    assert str(caught.value) == f"{blind}: no labelled split 'eval'. No clip of this corpus has labels."


def test_the_table_says_what_was_measured_and_undefined_numbers_are_dashes() -> None:
    values = dict.fromkeys(METRICS, 0.5) | {"omq.within_system.srcc": 0.25, "ta.within_system.srcc": float("nan")}
    values["ta.system.ktau"] = float("nan")
    scores = Scores(values, "demo", True, "dev", "csv", 100, 12)
    assert scores.to_text().splitlines() == [
        "                   MSE     LCC    SRCC    KTAU",
        "OMQ utterance   0.5000  0.5000  0.5000  0.5000",
        "OMQ system      0.5000  0.5000  0.5000  0.5000",
        "TA  utterance   0.5000  0.5000  0.5000  0.5000",
        "TA  system      0.5000  0.5000  0.5000       –",
        "",
        "OMQ within-system SRCC: 0.2500",
        "TA within-system SRCC: –",
        "Corpus demo, simulated labels, split dev: 100 clips, 12 systems.",
        "System truth: csv (the corpus' system_mos table).",
    ]
    answer = json.loads(scores.to_json())
    assert list(answer) == list(METRICS)
    assert answer["ta.system.ktau"] is None
