"""Results of a study that never ran: Table II's file over invented predictions, to show in tables and figures.

Everything in it is simulated and its corpus says so.
"""

import csv
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import study
from study.config import AblationFile, Row, read_ablation_file
from study.judgement import Judgement
from study.results import TableResults
from study.store.records import StoredCorpus
from study.tables import table_frame
from study.tables.formats import wide_csv
from whisq_core.metrics import EXTRA, METRICS, evaluate

TABLE_II = Path(study.__file__).with_name("config") / "ablations.yaml"
SKILL = {"no_ot": 0.5, "mlp_only": 0.35, "w2v2_modernbert": 0.05, "table1_literal": 0.61, "cross": 0.58}


def synthetic_results(
    num_seeds: int = 3, num_systems: int = 6, num_clips: int = 48, *, simulated: bool = True, num_epochs: int = 5
) -> TableResults:
    """All rows of Table II, every cell done: rows differ in how much of the truth their predictions hold."""
    file = table_two(num_seeds)
    generator = np.random.default_rng(7)
    systems = np.array([f"S{1 + index % num_systems:03d}" for index in range(num_clips)])
    of_system = generator.normal(3, 0.6, size=(num_systems, 2))
    truth = of_system[np.arange(num_clips) % num_systems] + generator.normal(0, 0.5, size=(num_clips, 2))
    truth = np.clip(np.round(truth * 5) / 5, 1, 5)
    errors = generator.normal(0, 0.6, size=(num_clips, 2))
    predictions = {row.id: _predictions(row, truth, errors, systems) for row in file.rows}
    clips = pd.DataFrame(
        {
            "utterance": [f"audiomos2025-track1-{name}_P{index:03d}" for index, name in enumerate(systems)],
            "system": systems,
            "prompt": "a slow waltz",
            "omq": truth[:, 0],
            "ta": truth[:, 1],
            "split": "dev",
        }
    )
    train = clips.assign(split="train", utterance=clips["utterance"] + "_train")
    return TableResults(
        file=file,
        corpus=StoredCorpus("0123456789abcdef" * 2, "synthetic", simulated, pd.concat([train, clips]), None),
        split="dev",
        cells=_cells(file, predictions, truth, systems),
        predictions=predictions,
        seeds_done={row.id: row.seeds for row in file.rows},
        truth=truth,
        systems=tuple(systems),
        prompts=None,
        ratings=None,
        utterances=tuple(clips["utterance"]),
        system_truth=None,
        curves={
            (row.id, seed): _curve(generator, num_epochs)
            for row in file.rows
            if row.spec.uses_features
            for seed in row.seeds
        },
        manifest={
            "made_at": "2025-01-01T00:00:00+00:00",
            "git_commit": "0" * 40,
            "python": "3.11.2",
            "processor": "none: this study never ran",
            "packages": {"torch": "2.13.0", "ctranslate2": None},
        },
    )


def table_two(num_seeds: int) -> AblationFile:
    """Table II's file with so many seeds."""
    content = yaml.safe_load(TABLE_II.read_text(encoding="utf-8"))
    content["seeds"] = list(range(num_seeds))
    rows = [row for section in content["sections"] for row in section["rows"]]
    next(row for row in rows if row["id"] == "aa")["seeds"] = list(range(100, 100 + num_seeds))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ablations.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return replace(read_ablation_file(path), path=TABLE_II)


def with_cell(results: TableResults, row: str, position: int, state: str, reason: str) -> TableResults:
    """The same results with one cell that has failed or is missing, and so has no numbers."""
    cells = results.cells.copy()
    here = (cells["row"] == row) & (cells["position"] == position)
    cells.loc[here, ["state", "reason"]] = state, reason
    cells.loc[here, list(METRICS + EXTRA)] = np.nan
    for name in ("num_trainable", "num_total", "macs", "audio_dim"):
        cells[name] = cells[name].astype(object).mask(here, None)
    seeds = results.seeds_done[row]
    kept = [index for index, seed in enumerate(seeds) if not (here & (cells["seed"] == seed)).any()]
    predictions, seeds_done = dict(results.predictions), dict(results.seeds_done)
    del predictions[row], seeds_done[row]
    if kept:
        predictions[row] = results.predictions[row][kept]
        seeds_done[row] = tuple(seeds[index] for index in kept)
    gone = {(row, seed) for seed in set(seeds) - set(seeds_done.get(row, ()))}
    curves = {key: curve for key, curve in results.curves.items() if key not in gone}
    return replace(results, cells=cells, predictions=predictions, seeds_done=seeds_done, curves=curves)


def untrained(results: TableResults, row: str) -> TableResults:
    """The same results with one row whose encoder had no pretrained weights."""
    cells = results.cells.copy()
    cells.loc[cells["row"] == row, "untrained"] = True
    return replace(results, cells=cells)


def _predictions(row: Row, truth: np.ndarray, errors: np.ndarray, systems: np.ndarray) -> np.ndarray:
    """[seeds, clips, 2]; OMQ is the same in every row of one backbone, as in real tables."""
    if row.spec.model.predictor == "constant":
        return np.tile(truth.mean(axis=0), (len(row.seeds), len(truth), 1))
    if row.spec.model.predictor == "system_lookup":
        means = pd.DataFrame(truth).groupby(systems).transform("mean").to_numpy() + 0.05 * errors
        return np.tile(means, (len(row.seeds), 1, 1))
    own = np.random.default_rng(list(row.id.encode()))
    skill = SKILL.get(row.id, 0.6)
    of_seeds = []
    for seed in row.seeds:
        noise = np.random.default_rng(seed).normal(0, 0.05, size=(len(truth), 2))
        noise[:, 1] += own.normal(0, 0.08, size=len(truth))
        part = np.array([0.05 if row.id == "w2v2_modernbert" else 0.7, skill])
        of_seeds.append(3 + part * (truth - 3) + (1 - part) * errors + noise)
    return np.stack(of_seeds)


def _cells(
    file: AblationFile, predictions: dict[str, np.ndarray], truth: np.ndarray, systems: np.ndarray
) -> pd.DataFrame:
    lines = []
    for row in file.rows:
        learns = row.spec.uses_features
        for position, seed in enumerate(row.seeds):
            lines.append(
                {
                    "row": row.id,
                    "seed": seed,
                    "position": position,
                    "state": "done",
                    "reason": "",
                    "run_id": f"{row.id}-{seed}",
                    "seconds": 1.5,
                    "num_trainable": 3_052_802 if learns else 0,
                    "num_total": 619_693_314 if learns else 0,
                    "macs": 1_234_567_890 if learns else 0,
                    "untrained": False,
                    "audio_dim": 512 if learns else None,
                    **evaluate(predictions[row.id][position], truth, list(systems)),
                }
            )
    return pd.DataFrame(lines)


def _curve(generator: np.random.Generator, num_epochs: int) -> list[dict[str, float]]:
    epochs = np.arange(1, num_epochs + 1)
    fall = np.exp(-epochs / 30) * (1 + 0.05 * generator.normal(size=num_epochs))
    return [
        {
            "epoch": int(epoch),
            "loss": float(0.4 * part + 0.02),
            "huber_omq": float(0.5 * part),
            "huber_ta": float(0.3 * part),
            "ot": float(0.02 * part),
            "ot_gradient_share": float(0.05 + 0.02 * part),
            "gradient_norm_omq": float(part),
            "gradient_norm_ta": float(2 * part),
            "seconds": 0.1,
        }
        for epoch, part in zip(epochs, fall, strict=True)
    ]


def lines_of(text: str) -> list[dict[str, str]]:
    """The lines of a CSV by column."""
    return list(csv.DictReader(io.StringIO(text)))


def wide(results: TableResults, judgement: Judgement | None = None) -> dict[str, dict[str, str]]:
    """The lines of table.csv by row."""
    return {line["row"]: line for line in lines_of(wide_csv(table_frame(results, judgement)))}
