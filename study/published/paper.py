"""The rows of `table2.csv`: one published line each."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from whisq_core.metrics import METRICS

NUM_SYSTEMS = 29  # in MusicEval's dev set, on which every row here was scored


@dataclass(frozen=True)
class PublishedRow:
    """One published line: `values` maps a metric's name to the string printed for it.

    `runs` is how many runs each number is the mean of; None where the source does not say.
    """

    id: str
    label: str
    source: str
    values: Mapping[str, str]
    runs: int | None = None


def _rows() -> dict[str, PublishedRow]:
    with Path(__file__).with_name("table2.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {
        line["id"]: PublishedRow(
            line["id"],
            line["label"],
            line["source"],
            {name: line[name] for name in METRICS},
            None if line["runs"] == "unknown" else int(line["runs"]),
        )
        for line in lines
    }


PUBLISHED: Mapping[str, PublishedRow] = _rows()
