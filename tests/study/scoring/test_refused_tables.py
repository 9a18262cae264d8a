"""What a table of predictions leaves open is refused, and so is an option that would have no effect."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command import run
from helpers.corpora import write_official_corpus

from study.scoring import judge, read_files
from whisq_core.corpus import read_corpus
from whisq_core.errors import InputError


def classes() -> pd.DataFrame:
    """Two rows with two seeds each, which choose between classes."""
    lines = [
        (row, seed, f"q{item}", "abc"[item % 3], "abc"[item % 3] if row == "ours" or item % 2 else "z")
        for row in ("base", "ours")
        for seed in (0, 1)
        for item in range(12)
    ]
    return pd.DataFrame(lines, columns=["row", "seed", "item", "truth", "prediction"])


def scores(seeds: tuple[str, ...] = ("0", "1", "2")) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    truth = generator.normal(3, 1, 24)
    frames = []
    for row, noise in (("base", 1.0), ("ours", 0.3)):
        for seed in seeds:
            lines = {"row": row, "seed": seed, "item": range(24), "group": np.arange(24) % 6, "truth": truth}
            frames.append(pd.DataFrame({**lines, "prediction": truth + generator.normal(0, noise, 24)}))
    return pd.concat(frames, ignore_index=True)


def mistakes_of(folder: Path, frame: pd.DataFrame, metric: str) -> list[list[str]]:
    """Of the frame as a file for the command, and of the frame for `judge`, both without their places."""
    frame.to_csv(folder / "a.csv", index=False)
    found = run(folder, "evaluate", "a.csv", "--metric", metric)
    with pytest.raises(InputError) as caught:
        judge(frame, metric=metric)
    assert (found.status, found.out, len(found.errors)) == (2, "", len(caught.value.mistakes))
    assert all(re.match(r"a\.csv:\d+: ", error) for error in found.errors)
    return [[line.partition(": ")[2] for line in lines] for lines in (found.errors, caught.value.mistakes)]


@pytest.mark.parametrize("column", ["truth", "prediction"])
def test_an_empty_answer_is_neither_right_nor_wrong_in_files_and_frames_alike(tmp_path: Path, column: str) -> None:
    frame = classes()
    frame.loc[frame["item"].isin(["q0", "q1"]), column] = np.nan

    for found in mistakes_of(tmp_path, frame, "accuracy"):
        assert len(found) == 8
        assert found[0].startswith(f"{column} is empty, allowed: a class or a number. Leave the line out")


def test_classes_of_an_item_have_one_truth_however_its_number_is_written(tmp_path: Path) -> None:
    frame = classes()
    written = frame.assign(truth=np.where(frame["row"] == "base", "3", "3.0"), prediction="3")
    frame.loc[24:, "truth"] = "z"

    for found in mistakes_of(tmp_path, frame.iloc[::-1], "accuracy"):
        assert len(found) == 20
        assert found[0].startswith("truth of item 'q11' is c, but z at ")
    assert judge(written, metric="accuracy").verdicts["mean"].tolist() == [1, 1]


@pytest.mark.parametrize("names", [("0", "1", "01"), ("0", "²", "--1"), ("-0", "0", "٣"), ("1" * 5000, "0", "1")])
def test_seeds_whose_names_differ_are_different_seeds(tmp_path: Path, names: tuple[str, ...]) -> None:
    scores(names).to_csv(tmp_path / "a.csv", index=False)
    verdicts = judge(read_files([tmp_path / "a.csv"])).verdicts

    assert verdicts["seeds"].tolist() == [3, 3]
    pd.testing.assert_frame_equal(verdicts, judge(scores()).verdicts)


def test_a_file_without_a_column_that_others_have_is_one_mistake(tmp_path: Path) -> None:
    frame = scores(("0",)).drop(columns="seed")
    frame[frame["row"] == "ours"].drop(columns="row").to_csv(tmp_path / "ours.csv", index=False)
    frame[frame["row"] == "base"][["item", "prediction"]].to_csv(tmp_path / "base.csv", index=False)
    frame[frame["row"] == "base"].assign(truth="", row="blank").to_csv(tmp_path / "blank.csv", index=False)
    (tmp_path / "none.csv").write_text("item,truth,group,prediction\n", encoding="utf-8")

    assert run(tmp_path, "evaluate", "ours.csv", "base.csv", "blank.csv", "none.csv").errors == [
        "base.csv: has no column truth, group, but ours.csv has, allowed: the same columns in all files. Add what is "
        "missing, or leave the file out.",
        "blank.csv: has no column truth, but ours.csv has, allowed: the same columns in all files. Add what is "
        "missing, or leave the file out.",
        "none.csv: has no line, but ours.csv has, allowed: the same columns in all files. Add what is missing, or "
        "leave the file out.",
    ]


def test_a_path_may_be_a_text_and_one_file_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    scores().to_csv(path, index=False)

    for paths in (path, str(path), [str(path)], iter([path])):
        assert tuple(read_files(paths).predicted) == ("base", "ours")
    with pytest.raises(InputError, match="no file of predictions"):
        read_files([])


def test_an_option_that_would_have_no_effect_is_refused(tmp_path: Path) -> None:
    corpus = write_official_corpus(tmp_path / "corpus", num_train=4, num_dev=24, num_systems=6, seconds=0.05)
    clips = read_corpus(corpus).clips.query("split == 'dev'")[["utterance", "omq", "ta"]]
    for name in ("a.txt", "b.txt"):
        clips.to_csv(tmp_path / name, index=False, header=False)
    scores().to_csv(tmp_path / "long.csv", index=False)

    for command, options, said in (
        ("a.txt --data corpus", "--out made --margin 0.01 --lower-is-better --columns item=x", "goes with verdicts"),
        ("long.csv", "--split dev --system-truth clips", "goes with the labels of a corpus. Give --data"),
        ("a.txt b.txt --data corpus", "--system-truth csv", "goes with the 16 metrics of one answer file"),
        (
            "long.csv",
            "--lower-is-better",
            "goes with a mean of costs or errors, but the metric is score.utterance.srcc",
        ),
        ("long.csv --metric accuracy", "--lower-is-better", "but the metric is accuracy"),
    ):
        found = run(tmp_path, "evaluate", *command.split(), *options.split())
        assert (found.status, found.out) == (2, ""), command
        wanted = sorted(part for part in options.split() if part.startswith("--"))
        assert sorted(error.partition(": ")[0] for error in found.errors) == wanted
        assert all(said in error for error in found.errors), found.errors
    assert not (tmp_path / "made").exists()
    costs = run(tmp_path, "evaluate", "long.csv", "--metric", "mean", "--lower-is-better", "--margin", "0.02")
    assert (costs.status, "mean ↓" in costs.out) == (0, True)
    assert run(tmp_path, "evaluate", "a.txt", "--data", "corpus", "--split", "dev").status == 0


def test_the_table_of_an_ablation_file_is_never_replaced(tmp_path: Path) -> None:
    lines = [f"{row},{seed},i{item},{item},{item}" for row in "ab" for seed in (0, 1) for item in range(8)]
    (tmp_path / "long.csv").write_text("\n".join(["row,seed,item,truth,prediction", *lines]))
    (tmp_path / "tones").mkdir()
    (tmp_path / "tones/.published.json").write_text('{"table": "tones"}')

    refused, made = (run(tmp_path, "evaluate", "long.csv", "--out", name) for name in ("tones", "mine"))

    assert refused.errors == ["--out tones: holds table 'tones' of an ablation file. Give another folder."]
    assert (refused.status, made.status) == (2, 0)
    assert (tmp_path / "mine/table.md").is_file()


def test_another_encoding_and_a_margin_without_end_are_one_line_each(tmp_path: Path) -> None:
    scores().to_csv(tmp_path / "long.csv", index=False)
    (tmp_path / "wide.csv").write_text((tmp_path / "long.csv").read_text(), encoding="utf-16")

    wide, endless = (run(tmp_path, "evaluate", *words) for words in (["wide.csv"], ["long.csv", "--margin", "inf"]))

    assert wide.errors == ["wide.csv:1: found UTF-16 text, allowed: UTF-8. Save the file as UTF-8."]
    assert endless.errors == ["margin inf: allowed: a number above 0, in the unit of the metric."]
