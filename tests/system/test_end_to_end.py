"""The whole way: official folder -> encode -> ablate -> tables, with encoders of every family loaded as a hub id is."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import run
from helpers.studies import Place, beginning_in, changed, copied_to, row

from study.config import SHIPPED_FILE, read_ablation_file
from study.config.seeds import expand_seeds
from study.published import PUBLISHED
from study.store.database import Database
from study.store.records import Run
from whisq_core.metrics import EXTRA, METRICS


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def runs(place: Place) -> dict[tuple[str, int], Run]:
    """The stored run of each cell that has one."""
    database = Database(place.storage)
    stored = database.runs([entry.run_id for entry in database.cells("table2").values() if entry.run_id])
    return {(run.row, run.seed): run for run in stored.values()}


def planned(place: Place, *options: object) -> dict[str, tuple[str, str]]:
    """State and reason of each cell that `--plan` prints, by "row seed"."""
    finished = run(place.folder, *place.ablate, "--plan", *options)
    assert finished.status == 0, finished.err
    cells = {}
    reasons = dict(re.findall(r"^(\(\d+\)) (.*)$", finished.out, re.MULTILINE))
    for row_id, states in re.findall(r"^(\w+) +[\d.]+  (\S.*)$", finished.out, re.MULTILINE):
        for seeds, state, number in re.findall(r"(\S+) (\w+)(?: (\(\d+\)))?(?:;|$)", states):
            for seed in expand_seeds(seeds.split(",")):
                cells[f"{row_id} {seed}"] = (state, reasons.get(number, ""))
    return cells


def test_the_tiny_table_is_the_shipped_one_with_other_encoders(finished_study: Place) -> None:
    shipped, tiny = read_ablation_file(SHIPPED_FILE), read_ablation_file(finished_study.file)

    assert [row.id for row in tiny.rows] == [row.id for row in shipped.rows]
    assert {row.id for row in tiny.rows} >= set(PUBLISHED) & {"whisq", "official_baseline", "mlp_only"}


def test_features_come_from_an_encoder_of_each_family(finished_study: Place) -> None:
    stores = [json.loads(path.read_text())["meta"] for path in finished_study.features.glob("*/store.json")]

    families = sorted(Path(store["name"]).name for store in stores)
    assert families == ["clap", "clap", "modernbert", "qwen3", "wav2vec2", "whisper"]
    assert not any(store["untrained"] for store in stores)


def test_every_cell_of_the_table_is_done_and_its_predictions_are_stored(finished_study: Place) -> None:
    cells = lines(finished_study.out / "table_long.csv")

    assert len(cells) == 12 * 2 * len(METRICS + EXTRA)
    assert {cell["state"] for cell in cells} == {"done"}
    for stored in runs(finished_study).values():
        assert stored.scored["dev"].predicted.shape == (12, 2)
        assert np.isfinite(stored.scored["dev"].predicted).all()


def test_the_papers_numbers_stand_beside_ours_in_every_format(finished_study: Place) -> None:
    wide = {line["row"]: line for line in lines(finished_study.out / "table.csv")}
    texts = {name: (finished_study.out / f"table.{name}").read_text(encoding="utf-8") for name in ("md", "tex", "html")}

    for row_id in ("whisq", "no_ot", "official_baseline", "vanilla", "cross", "mlp_only", "w2v2_modernbert"):
        for metric in METRICS:
            printed = PUBLISHED[row_id].values[metric]
            assert wide[row_id][f"{metric}.quoted"] == printed
            assert float(wide[row_id][metric]) == float(wide[row_id][metric])
            for name, text in texts.items():
                assert printed.lstrip("-") in text, (name, row_id, metric)


def test_a_second_run_trains_nothing_and_leaves_every_byte(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    before, stamps = place.tables(), {path: path.stat().st_mtime_ns for path in place.out.iterdir()}

    again = run(place.folder, *place.ablate)

    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("# table2: dev split of corpus")
    assert place.tables() == before
    assert {path: path.stat().st_mtime_ns for path in place.out.iterdir()} == stamps
    assert set(planned(place).values()) == {("done", "")}


def test_tables_that_were_lost_are_written_again_without_training(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    before = place.tables()
    (place.out / "table.csv").unlink()

    again = run(place.folder, *place.ablate)

    assert (again.status, again.err) == (0, "")
    assert place.tables() == before


def test_a_changed_row_is_stale_and_only_its_cells_run(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    before, rows_before = runs(place), {line["row"]: line for line in lines(place.out / "table.csv")}
    changed(place, lambda content: row(content, "vanilla")["set"].update({"train.epochs": 2}))

    states = planned(place)
    assert {cell for cell, state in states.items() if state != ("done", "")} == {"vanilla 0", "vanilla 1"}
    assert states["vanilla 0"] == ("stale", "train.epochs: 3 -> 2")
    finished = run(place.folder, *place.ablate)

    assert finished.status == 0
    after, rows_after = runs(place), {line["row"]: line for line in lines(place.out / "table.csv")}
    rerun = {cell for cell in after if after[cell].run_id != before[cell].run_id}
    assert rerun == {("vanilla", 0), ("vanilla", 1)}
    assert {cell: after[cell].finished_at for cell in after.keys() - rerun} == {
        cell: before[cell].finished_at for cell in before.keys() - rerun
    }
    metrics = [name for name in rows_after["whisq"] if name.startswith(("omq.", "ta."))]
    differ = {row for row in rows_after if any(rows_after[row][name] != rows_before[row][name] for name in metrics)}
    assert differ == {"vanilla"}
    assert rows_after["no_ot"]["declared"] == "changed after 12 runs"  # a row that is compared is another one now


def test_a_row_that_goes_back_to_old_settings_finds_its_old_runs(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    before = place.tables()
    changed(place, lambda content: row(content, "mlp_only")["set"].update({"train.momentum": 0.5}))
    run(place.folder, *place.ablate)
    assert place.tables() != before
    changed(place, lambda content: row(content, "mlp_only")["set"].pop("train.momentum"))

    assert set(planned(place).values()) == {("done", "")}
    assert run(place.folder, *place.ablate).err == ""
    assert place.tables() == before


def _add_broken_rows(place: Place) -> None:
    def add(content: dict[str, Any]) -> None:
        absent = {"id": "absent", "label": "Absent weights", "set": {"backbone.audio": str(place.weights / "absent")}}
        absurd = {"id": "absurd", "label": "Absurd rate", "set": {"train.learning_rate": 1.0e30}}
        content["sections"].append({"title": "Broken", "rows": [absent, absurd]})
        row(content, "mlp_only")["set"]["train.epochs"] = 1

    changed(place, add)


def test_failed_rows_say_why_and_the_others_still_run(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    _add_broken_rows(place)
    weights = f"checkpoint '{place.weights}/absent': no such folder."

    states = planned(place)
    assert states["absent 1"][0] == "blocked"
    assert states["absent 1"][1].startswith(weights)
    assert states["absurd 0"] == ("new", "no run yet")
    finished = run(place.folder, *place.ablate)

    assert finished.status == 1
    failed = [line for line in finished.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in failed] == [
        "absent seed 0",
        "absent seed 1",
        "absurd seed 0",
        "absurd seed 1",
    ]
    assert failed[0].startswith(f"failed: absent seed 0: {weights}")
    assert failed[3] == "failed: absurd seed 1: the loss is not finite in epoch 1"
    wide = {line["row"]: line for line in lines(place.out / "table.csv")}
    assert [(wide[name]["seeds_done"], wide[name]["seeds_failed"]) for name in ("absent", "absurd", "mlp_only")] == [
        ("0", "2"),
        ("0", "2"),
        ("2", "0"),
    ]
    for name in ("table.md", "table.html", "table.tex"):
        assert "the loss is not finite in epoch 1" in (place.out / name).read_text(encoding="utf-8"), name


def test_a_failed_cell_is_tried_again_by_the_next_run(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    _add_broken_rows(place)
    asked = (*place.ablate, "--rows", "absurd")
    assert run(place.folder, *asked).status == 1

    assert planned(place, "--rows", "absurd") == {
        f"absurd {seed}": ("new", "failed before: the loss is not finite in epoch 1") for seed in (0, 1)
    }
    again = run(place.folder, *asked)

    assert again.status == 1
    assert again.err.count("failed: the loss is not finite") == 2


@pytest.mark.parametrize("option", ["--seeds", "--rows"])
def test_a_part_of_the_table_can_be_run_alone(finished_study: Place, tmp_path: Path, option: str) -> None:
    place = copied_to(tmp_path, finished_study)
    part = {"--seeds": ("--seeds", "0"), "--rows": ("--rows", "constant, system_lookup")}[option]

    states = planned(place, *part)

    assert len(states) == {"--seeds": 12, "--rows": 4}[option]
    assert set(states.values()) == {("done", "")}


def test_a_table_in_postgresql_is_the_one_in_sqlite(finished_study: Place, tmp_path: Path, postgresql_url: str) -> None:
    place = beginning_in(tmp_path, finished_study)
    rows = ("mlp_only", "constant", "system_lookup")

    finished = run(place.folder, *place.ablate, "--rows", ",".join(rows), "--storage", postgresql_url)

    assert finished.status == 0, finished.err
    ours, theirs = ([line for line in lines(each.out / "table_long.csv") if line["row"] in rows]
                    for each in (place, finished_study))  # fmt: skip
    assert ours == theirs
    again = run(place.folder, *place.ablate, "--rows", ",".join(rows), "--storage", postgresql_url)
    assert (again.status, again.err) == (0, "")


def test_evaluate_gives_the_numbers_of_the_table(finished_study: Place, tmp_path: Path) -> None:
    stored = runs(finished_study)["whisq", 0].scored["dev"]
    names = [line.split(",")[0] for line in (finished_study.corpus / "sets/dev_mos_list.txt").read_text().split()]
    answer = [f"{name},{omq!r},{ta!r}\n" for name, (omq, ta) in zip(names, stored.predicted.tolist(), strict=True)]
    (tmp_path / "answer.txt").write_text("".join(answer), encoding="utf-8")

    finished = run(tmp_path, "evaluate", "answer.txt", "--data", finished_study.corpus, "--json")

    assert finished.status == 0, finished.err
    assert json.loads(finished.out) == {name: stored.metrics[name] for name in METRICS}


def test_a_report_is_written_from_what_is_stored(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)

    finished = run(place.folder, "report", place.file, "--storage", place.storage, "--out", "report")

    assert finished.status == 0, finished.err
    page = (place.folder / "report/report.html").read_text(encoding="utf-8")
    assert "WhisQ w/ OT (Proposed)" in page
    assert "0.6109" in page, "the paper's number stands beside ours"
    assert (place.folder / "report/table_long.csv").read_bytes() == place.tables()["table_long.csv"]
