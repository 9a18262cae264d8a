"""Verdict tables of predictions that other people made: their files, their columns, their mistakes."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command import run
from helpers.corpora import write_official_corpus
from scipy.stats import ttest_rel

from study.scoring import JudgedTable, judge, read_files
from whisq_core.corpus import read_corpus
from whisq_core.errors import InputError
from whisq_core.metrics import evaluate, metrics_of

NUM_ITEMS, NUM_GROUPS = 96, 12


def long_table(
    errors: dict[str, float] | None = None,
    num_seeds: int = 10,
    num_items: int = NUM_ITEMS,
    num_groups: int = NUM_GROUPS,
) -> pd.DataFrame:
    """Rows that predict the truth with an error of their own, the same for all seeds, and a small one of each seed."""
    generator = np.random.default_rng(3)
    truth = generator.normal(3, 1, num_items)
    frames = []
    for row, sd in (errors or {"base": 0.3, "same": 0.3, "worse": 3.0}).items():
        own = truth + generator.normal(0, sd, num_items)
        for seed in range(num_seeds):
            lines = {
                "row": row,
                "seed": seed,
                "item": [f"clip{place}" for place in range(num_items)],
                "group": [f"S{place % num_groups}" for place in range(num_items)],
                "truth": truth,
                "prediction": own + generator.normal(0, 0.05, num_items),
            }
            frames.append(pd.DataFrame(lines))
    return pd.concat(frames, ignore_index=True)


def words(table: JudgedTable) -> dict[str, str]:
    return dict(zip(table.verdicts["row"], table.verdicts["verdict"], strict=True))


def mistakes(frame: pd.DataFrame, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        judge(frame, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_long_csv_with_other_names_gets_its_verdicts_in_every_format(tmp_path: Path) -> None:
    frame = long_table()
    names = {"row": "Model", "seed": "random_seed", "item": "utt_id", "group": "System", "truth": "MOS"}
    frame.rename(columns={**names, "prediction": "y_pred"}).to_csv(tmp_path / "runs.csv", index=False)
    finished = run(tmp_path, "evaluate", "runs.csv", "--to", "base", "--out", "made")
    table = judge(frame, "base", name="made")

    assert finished.status == 0, finished.err
    assert words(table) == {"base": "reference", "same": "these systems only", "worse": "worse"}
    assert "beyond the noise of seeds and systems" in finished.out
    for name in ("table.md", "table.csv", "table.tex", "table.html"):
        text = (tmp_path / "made" / name).read_text(encoding="utf-8")
        assert text == table.text(name).replace("groups", "systems"), name
    wide = pd.read_csv(tmp_path / "made/table.csv").set_index("row")
    np.testing.assert_allclose(
        wide.loc["worse", "difference"], table.verdicts.set_index("row").loc["worse", "difference"]
    )
    as_json = run(tmp_path, "evaluate", "runs.csv", "--to", "base", "--json").out
    assert [line["verdict"] for line in json.loads(as_json)] == ["reference", "these systems only", "worse"]


def test_every_metric_is_the_one_that_evaluate_computes() -> None:
    frame = long_table(num_seeds=2)
    table = judge(frame, metric="system.mse", margin=0.1)
    shown = table.metrics.set_index(["row", "metric"])["mean"]
    for row, of_row in frame.groupby("row"):
        values = [
            evaluate(run[["prediction"]].to_numpy(), run[["truth"]].to_numpy(), list(run["group"]), None, ["score"])
            for _, run in of_row.groupby("seed")
        ]
        for name in metrics_of("score"):
            assert shown[row, name] == pytest.approx(np.mean([each[name] for each in values])), name
    assert set(table.verdicts["metric"]) == {"score.system.mse"}


def test_rows_and_seeds_stand_in_the_names_of_files(tmp_path: Path) -> None:
    frame = long_table(num_seeds=3)
    paths: dict[str, list[Path]] = {"habit": [], "pattern": [], "folders": []}
    for (row, seed), lines in frame.groupby(["row", "seed"]):
        forms = {
            "habit": tmp_path / f"{row}-seed{seed}.csv",
            "pattern": tmp_path / f"{row}_{seed}.csv",
            "folders": tmp_path / str(row) / f"run{seed}" / "predictions.csv",
        }
        for form, path in forms.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            lines.drop(columns=["row", "seed"]).to_csv(path, index=False)
            paths[form].append(path)
    expected = judge(frame).verdicts

    for form, pattern in (
        ("habit", None),
        ("pattern", "{row}_{seed}.csv"),
        ("folders", None),
        ("folders", "{row}/run{seed}/*.csv"),
    ):
        pd.testing.assert_frame_equal(judge(read_files(paths[form], pattern)).verdicts, expected)
    hint = run(tmp_path, "evaluate", *paths["pattern"])
    assert "If these are seeds, give --pattern '{row}_{seed}.csv'." in hint.err
    assert hint.out.startswith("# predictions: 9 rows on 96 items"), "a bare number may belong to a name: gpt-4"
    twice = run(tmp_path, "evaluate", paths["habit"][0], paths["habit"][0])
    assert "both would be row 'base', seed 0" in twice.err
    wrong = run(tmp_path, "evaluate", *paths["habit"], "--pattern", "{row}.txt")
    assert (wrong.status, "does not end as --pattern '{row}.txt' says" in wrong.err) == (2, True)


def test_answer_files_are_judged_with_the_labels_of_their_corpus(tmp_path: Path) -> None:
    corpus = write_official_corpus(tmp_path / "corpus", num_train=4, num_dev=24, num_systems=6, seconds=0.05)
    clips = read_corpus(corpus).clips.query("split == 'dev'")
    generator = np.random.default_rng(0)
    lines, long = [], []
    for row in ("ours", "theirs"):
        for seed in range(2):
            values = (clips[["omq", "ta"]].to_numpy() + generator.normal(0, 0.5, (len(clips), 2))).round(3)
            answer = pd.DataFrame({"utterance": clips["utterance"], "omq": values[:, 0], "ta": values[:, 1]})
            answer.to_csv(tmp_path / f"{row}-seed{seed}.txt", index=False, header=False)
            long.append(answer.assign(model=row, seed=seed))
            lines.append(f"{row}-seed{seed}.txt")
    pd.concat(long).to_csv(tmp_path / "long.csv", index=False)
    by_files = run(tmp_path, "evaluate", *lines, "--data", corpus)
    by_table = run(tmp_path, "evaluate", "long.csv", "--data", corpus)

    assert by_files.status == 0, by_files.err
    assert by_files.out == by_table.out
    assert "## Verdicts on TA U-SRCC, differences from ours" in by_files.out
    assert "Overall quality (OMQ)" in by_files.out
    assert "Items belong to 6 systems" in by_files.out
    assert len(run(tmp_path, "evaluate", lines[0], "--data", corpus, "--json").out.splitlines()) == 18, (
        "one file: 16 metrics"
    )
    unknown = pd.concat(long).replace({clips["utterance"].iloc[0]: "nobody"})
    unknown.to_csv(tmp_path / "long.csv", index=False)
    assert "long.csv:2: unknown utterance 'nobody'" in run(tmp_path, "evaluate", "long.csv", "--data", corpus).err


def test_a_mean_of_single_runs_is_compared_item_by_item() -> None:
    generator = np.random.default_rng(1)
    correct = generator.random((2, 400)) < np.array([[0.6], [0.75]])
    frame = pd.DataFrame(
        [
            {"method": name, "question": place, "correct": bool(value)}
            for name, values in zip(("A", "B"), correct, strict=True)
            for place, value in enumerate(values)
        ]
    )
    table = judge(frame)
    found = table.verdicts.set_index("row").loc["B"]

    assert found["metric"] == "score.utterance.mean"
    assert found["difference"] == pytest.approx(correct[1].mean() - correct[0].mean())
    assert found["p_system"] == pytest.approx(ttest_rel(correct[1].astype(float), correct[0]).pvalue, rel=1e-6)
    assert found["verdict"] == "these runs only"
    assert "No groups were given: items count as independent" in table.text()
    assert "| 95 % items" in re.sub(" +", " ", table.text())
    assert judge(frame, lower_is_better=True).text().count("mean ↑") == 0


def test_classes_are_judged_by_the_share_that_is_right() -> None:
    lines = [("A", 0, "cat", "cat"), ("A", 1, "dog", "cat"), ("A", 2, "3", "3.0"), ("B", 0, "cat", "cat")]
    lines += [("B", 1, "dog", "dog"), ("B", 2, "3", "2")]
    frame = pd.DataFrame(lines, columns=["model", "id", "label", "prediction"])

    assert "line 0 of the frame: prediction is 'cat'" in mistakes(frame)
    assert "--metric accuracy" in mistakes(frame)
    table = judge(frame, metric="accuracy")
    assert table.verdicts["mean"].tolist() == pytest.approx([2 / 3, 2 / 3])


def test_unequal_seeds_are_paired_where_they_can_be_and_strange_names_of_seeds_are_taken() -> None:
    frame = long_table({"base": 0.3, "worse": 3.0}, num_seeds=8)
    fewer = frame[(frame["row"] == "base") | (frame["seed"] < 7)]
    named = fewer.assign(seed=fewer["seed"].map("run-{}".format))

    assert judge(fewer).judgement.rows["worse"].comparisons["score.utterance.srcc"].n == 7
    assert words(judge(fewer)) == words(judge(named)) == {"base": "reference", "worse": "worse"}
    alone = fewer.assign(seed=fewer["seed"] + 100 * (fewer["row"] == "worse"))
    assert not judge(alone).judgement.rows["worse"].comparisons["score.utterance.srcc"].paired


def test_items_that_a_run_lacks_are_left_out_of_all_and_said() -> None:
    frame = long_table(num_seeds=2)
    lacking = frame.drop(index=frame[(frame["row"] == "same") & (frame["seed"] == 1)].index[:5])
    table = judge(lacking)

    assert "Judged on the 91 of 96 items that every run has predicted ('same' seed 1 lacks 5)" in table.text()
    kept = frame[~frame["item"].isin([f"clip{place}" for place in range(5)])]
    pd.testing.assert_frame_equal(table.verdicts, judge(kept).verdicts)
    assert "found 0 items that every run has predicted" in mistakes(frame.assign(item=frame["row"] + frame["item"]))


def test_constant_predictions_ties_and_many_rows_are_judged() -> None:
    frame = long_table({f"row{place}": 0.5 for place in range(20)}, num_seeds=2)
    frame["prediction"] = frame["prediction"].round()
    frame.loc[frame["row"] == "row7", "prediction"] = 3
    found = words(judge(frame))

    assert len(found) == 20
    assert found["row7"] == "undefined"
    assert set(found.values()) <= {"reference", "undefined", "inconclusive", "these systems only", "equivalent"}
    assert "There is one row, so nothing is compared." in judge(frame[frame["row"] == "row1"]).text()


def test_a_listeners_score_beside_predictions_is_the_truth() -> None:
    sheet = long_table(num_seeds=1).drop(columns="seed")
    names = {"truth": "score", "prediction": "answer", "item": "sample_id", "group": "system_id"}

    pd.testing.assert_frame_equal(judge(sheet.rename(columns=names)).verdicts, judge(sheet).verdicts)
    assert judge(sheet.rename(columns={"prediction": "score"}).drop(columns="truth")).judgement.metric.endswith(".mean")


def test_a_table_without_names_of_items_is_matched_by_position() -> None:
    frame = long_table(num_seeds=2)
    table = judge(frame.drop(columns="item"))

    pd.testing.assert_frame_equal(table.verdicts, judge(frame).verdicts)
    assert "No column names the items" in table.text()


def test_a_column_for_each_model_is_a_row_each(tmp_path: Path) -> None:
    frame = long_table(num_seeds=2)
    named = frame.assign(model=frame["row"] + "_seed" + frame["seed"].astype(str))
    wide = named.pivot(index=["item", "group", "truth"], columns="model", values="prediction").reset_index()
    wide.to_csv(tmp_path / "wide.csv")  # with a column of numbers of lines, whose name is empty
    expected = judge(frame, "same").verdicts.set_index("row").sort_index()

    for table in (judge(wide, "same"), judge(read_files([tmp_path / "wide.csv"]), "same")):
        pd.testing.assert_frame_equal(table.verdicts.set_index("row").sort_index(), expected, rtol=1e-9)


def test_every_mistake_names_its_line_and_what_to_do(tmp_path: Path) -> None:
    lines = ["model,item,truth,prediction", "A,1,2,nan", "A,2,x1,3", "B,1,2,", "B,2,2,1e999"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    found = run(tmp_path, "evaluate", "a.csv")

    assert (found.status, found.out) == (2, "")
    assert [error.partition(" is ")[0] for error in found.errors] == [
        "a.csv:2: prediction", "a.csv:4: prediction", "a.csv:5: prediction", "a.csv:3: truth",
    ]  # fmt: skip
    assert "Leave the line out" in found.errors[0]
    assert "Write decimals with a point" in found.errors[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,item,prediction\nA,1,2\nA,1,3\n", "a.csv:3: item '1' of row 'A', seed 0 is there already, at a.csv:2."),
        ("model,item,truth,prediction\nA,1,2,3\nB,1,3,3\n", "a.csv:3: truth of item '1' is 3.0, but 2.0 at a.csv:2."),
        ("model,item,prediction\n,1,2\nB,1,3\n", "a.csv:2: row is empty, allowed: a name."),
        ("utt,x,y2\nA,1,2\n", "a.csv:1: found the columns utt, x, y2, allowed: prediction and,"),
        ("model,item,prediction\nA,1,2,3\n", "a.csv: not a CSV with a header (Expected 3 fields in line 2, saw 4)."),
        ("model,item,prediction\n\nA,1\n", "a.csv:3: prediction is '', allowed: a finite number."),
        ("model,model,prediction\nA,1,2\n", "column 'model' is there twice"),
        ("", "a.csv: not a CSV with a header"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_judged_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    found = run(tmp_path, "evaluate", "a.csv")

    assert (found.status, found.out, len(found.errors)) == (2, "", 1), found
    assert said in found.errors[0]


def test_unknown_rows_metrics_and_columns_come_with_the_nearest_name(tmp_path: Path) -> None:
    frame = long_table(num_seeds=1)

    assert "Did you mean 'worse'?" in mistakes(frame, to="wrose")
    assert "Did you mean 'score.system.srcc'?" in mistakes(frame, metric="score.systm.srcc")
    assert "needs a column truth" in mistakes(frame.drop(columns="truth"), metric="srcc")
    assert "allowed: a number above 0" in mistakes(frame, margin=0)
    assert "Did you mean 'prediction'?" in mistakes(frame, columns={"prediction": "predicton"})
    assert "unknown meaning 'rwo'. Did you mean 'row'?" in mistakes(frame, columns={"rwo": "row"})
    frame.rename(columns={"prediction": "p", "row": "who"}).to_csv(tmp_path / "a.csv", index=False)
    chosen = run(tmp_path, "evaluate", "a.csv", "--columns", "prediction=p,row=who", "--metric", "U-LCC")
    assert "## Verdicts on score U-LCC, differences from base" in chosen.out
    assert "allowed: MEANING=COLUMN" in run(tmp_path, "evaluate", "a.csv", "--columns", "p").err
