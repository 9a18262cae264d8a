"""A table of controls, which take no time, made by the commands in a folder of its own and without `--out`."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from helpers.command import Finished, run

FILE = {
    "name": "table",
    "base": {"train": {"epochs": 3, "learning_rate": 0.01}},
    "seeds": "0-1",
    "compare": {"to": "lookup", "rows": ["mean"], "metric": "ta.utterance.mse"},
    "sections": [
        {
            "title": "Controls",
            "rows": [
                {"id": "lookup", "label": "Per-system mean", "set": {"model.predictor": "system_lookup"}},
                {"id": "mean", "label": "Train mean", "set": {"model.predictor": "constant"}},
                {"id": "changing", "label": "Changing", "set": {"model.predictor": "constant"}},
            ],
        }
    ],
}


class Study:
    """The table, its file to be changed, and the commands in its folder."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.folder, self.corpus, self.results = folder, corpus, folder / "results"
        self.storage = f"sqlite:///{self.results}/whisq.db"
        self.content: dict[str, Any] = json.loads(json.dumps(FILE))

    def ablate(self, *options: object) -> Finished:
        self._write()
        return run(self.folder, "ablate", "table.yaml", "--data", self.corpus, "--workers", 1, *options)

    def report(self, *options: object) -> Finished:
        self._write()
        return run(self.folder, "report", "table.yaml", *options)

    def _write(self) -> None:
        (self.folder / "table.yaml").write_text(yaml.safe_dump(self.content, sort_keys=False), encoding="utf-8")

    def table(self, name: str = "table") -> dict[str, dict[str, str]]:
        """The lines of a table's CSV by row."""
        with (self.results / name / "table.csv").open(encoding="utf-8") as file:
            return {line["row"]: line for line in csv.DictReader(file)}

    def seeds(self, name: str = "table") -> dict[str, str]:
        """How many of its declared seeds each row has."""
        return {key: f"{line['seeds_done']} of {line['seeds']}" for key, line in self.table(name).items()}

    def folders(self) -> list[str]:
        """The folders of tables."""
        return sorted(path.parent.name for path in self.results.glob("*/table.csv"))

    def files(self, name: str = "table") -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.results / name).iterdir()}

    def copied_to(self, folder: Path) -> "Study":
        """The same table in another folder, to be changed."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Study(folder, self.corpus)


def finished_table(folder: Path, corpus: Path) -> Study:
    """The table, with every cell done."""
    study = Study(folder, corpus)
    assert study.ablate().status == 0
    return study
