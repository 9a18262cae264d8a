"""What must not change a prediction by a bit: the number of workers, and for OMQ everything on the TA side."""

from pathlib import Path

import numpy as np
import pytest
from helpers.command import run
from helpers.studies import Place, beginning_in

from study.store.database import Database

TA_SIDE_ROWS = ("no_ot", "vanilla", "cross", "mlp_only", "pooled_query")


def predictions(place: Place) -> dict[tuple[str, int], np.ndarray]:
    """The stored predictions (OMQ, TA) of each cell."""
    database = Database(place.storage)
    entries = database.cells("table2")
    runs = database.runs([entry.run_id for entry in entries.values() if entry.run_id])
    return {cell: runs[entry.run_id].scored["dev"].predicted for cell, entry in entries.items() if entry.run_id in runs}


@pytest.mark.parametrize("row", TA_SIDE_ROWS)
def test_omq_does_not_depend_on_attention_or_ot(finished_study: Place, row: str) -> None:
    found = predictions(finished_study)

    for seed in (0, 1):
        assert found[row, seed][:, 0].tobytes() == found["whisq", seed][:, 0].tobytes()
        assert (found[row, seed][:, 1] != found["whisq", seed][:, 1]).any(), "the rows are not the same model"


def test_the_table_says_that_omq_is_identical_across_those_rows(finished_study: Place) -> None:
    (line,) = [
        line
        for line in (finished_study.out / "table.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("- OMQ predictions are bit-identical to the reference's")
    ]
    assert line.count(",") >= len(TA_SIDE_ROWS)


def test_seeds_give_other_predictions(finished_study: Place) -> None:
    found = predictions(finished_study)

    assert (found["whisq", 0] != found["whisq", 1]).all()
    assert (found["aa", 100] != found["whisq", 0]).all()


def test_two_workers_predict_the_same_bits_as_one(finished_study: Place, tmp_path: Path) -> None:
    place = beginning_in(tmp_path, finished_study)
    rows = ("whisq", "official_baseline", "w2v2_modernbert")

    finished = run(place.folder, *place.ablate, "--rows", ",".join(rows), "--workers", 2)

    assert finished.status == 0, finished.err
    by_one, by_two = predictions(finished_study), predictions(place)
    assert set(by_two) == {(row, seed) for row in rows for seed in (0, 1)}
    assert {cell: by_two[cell].tobytes() for cell in by_two} == {cell: by_one[cell].tobytes() for cell in by_two}
