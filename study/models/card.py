"""The card of a saved model: README.md as the Hugging Face hub reads it, from the table's stored results."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study.models.folders import saved_cells
from study.results import TableResults
from study.stats import summarise
from study.tables import marks, number, row_marks, sentences
from whisq_core.files import write_atomically
from whisq_core.metrics import METRICS, title

CARD = "README.md"
_HUB_NAMES = {"mse": "mse", "lcc": "pearsonr", "srcc": "spearmanr", "ktau": "kendalltau"}
_MUSICEVAL_LICENCE = "cc-by-nc-4.0"


def finish_models(results: TableResults, out: Path) -> None:
    """Write the card of every saved model of a table: what it was trained on, 16 metrics, licence of the data, limits.

    Parameters
    ----------
    results
        The table; a card shows the row's mean over seeds beside the model's own numbers.
    out
        The table's folder; models lie in its `models`.
    """
    for row, seed, folder in saved_cells(results, out):
        write_atomically(folder / CARD, [card(results, row, seed).encode()])


def card(results: TableResults, row_id: str, seed: int) -> str:
    """The card as Markdown, its head as YAML with a `model-index`."""
    row = results.file.row(row_id)
    cells = results.cells[(results.cells["row"] == row_id) & (results.cells["state"] == "done")]
    own = cells[cells["seed"] == seed].iloc[0]
    warnings = [mark for mark in marks(results) if mark.symbol in row_marks(results)[row_id]]
    name = f"{results.file.name}, {row.label}, seed {seed}"
    parts = [
        f"---\n{_head(results, name, own)}---",
        f"# {name}",
        *(f"**{mark.symbol} {mark.text}**" for mark in warnings),
        "Predicts the mean opinion scores OMQ (overall musical quality) and TA (agreement with its prompt) of a "
        "generated piece of music: the trainable part of WhisQ, for two frozen encoders that are not in this folder.",
        _use(row.spec.backbone.audio, row.spec.backbone.text),
        "## What it was trained on\n\n" + "\n".join(f"- {text}" for text in _origin(results, row_id, own)),
        "## How good it is\n\n" + "\n".join(_metrics(results, cells, own)),
        "## Limits\n\n" + "\n".join(f"- {text}" for text in _limits(results)),
        f"## Data and licence\n\n{_licence(results)[1]}",
    ]
    return "\n\n".join(parts) + "\n"


def _head(results: TableResults, name: str, own: Any) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    evaluated = [
        EvalResult(
            task_type="audio-regression",
            task_name="MOS prediction of text-to-music",
            dataset_type=results.corpus.name,
            dataset_name=results.corpus.name + (" (simulated)" if results.corpus.simulated else ""),
            dataset_split=results.split,
            metric_type=_HUB_NAMES[metric.rpartition(".")[2]],
            metric_name=title(metric),
            metric_value=round(float(own[metric]), 6),
        )
        for metric in METRICS
        if not math.isnan(own[metric])
    ]
    tags = ["music", "mos", "whisq", *(["simulated-data"] if results.corpus.simulated else [])]
    tags += ["untrained-encoder"] if own["untrained"] else []
    data = ModelCardData(
        model_name=name,
        library_name="whisq-study",
        license=_licence(results)[0],
        tags=tags,
        eval_results=evaluated,
        ignore_metadata_errors=False,
    )
    return str(data.to_yaml()) + "\n"


def _use(audio: str, text: str) -> str:
    return (
        f"## Use\n\n```\nwhisq-study predict FOLDER clip.wav --prompt 'a slow waltz'\n```\n\n"
        f"```python\nimport study\n\nstudy.Model.from_folder(FOLDER).predict('clip.wav', 'a slow waltz')\n```\n\n"
        f"The encoders are found by name: {audio} (audio), {text} (text). Where they lie elsewhere, `--audio` and "
        "`--text` name them; other weights than those of the training are refused."
    )


def _origin(results: TableResults, row_id: str, own: Any) -> Iterator[str]:
    row = results.file.row(row_id)
    yield from sentences(results, "")[:3]
    different = results.file.difference_from_base(row)
    yield f"This row: {'; '.join(different)} (base -> row)." if different else "This row has the settings of base."
    yield f"Run {own['run_id']}; `config.json` has every setting."


def _metrics(results: TableResults, cells: Any, own: Any) -> Iterator[str]:
    seeds = ", ".join(map(str, cells["seed"]))
    yield f"On the {results.split} split of {results.corpus.name}; the interval is over seeds ({seeds})."
    yield ""
    yield "| metric | this model | mean of seeds | 95 % over seeds |"
    yield "| --- | ---: | ---: | ---: |"
    for metric in METRICS:
        mean = summarise(cells[metric].to_numpy(float))
        interval = f"[{number(mean.low)}, {number(mean.high)}]" if not math.isnan(mean.low) else "–"
        yield f"| {title(metric)} | {number(float(own[metric]))} | {number(mean.mean)} | {interval} |"
    yield ""
    yield "MSE is lower for better models, the correlations are higher. U: over clips. S: over systems."


def _limits(results: TableResults) -> Iterator[str]:
    systems = len(set(results.systems))
    yield f"One training set, these raters, {systems} systems: on other music and other listeners it was not measured."
    yield "Scores are on the scale of its labels (1 to 5) and are not clipped to it."
    yield "OMQ uses the audio alone. TA is about prompts of the kind it was trained on; long prompts are cut."
    yield "It predicts means over raters, not what one listener says, and is no reason to decide about a person's work."


def _licence(results: TableResults) -> tuple[str, str]:
    """The hub's identifier and what the card says."""
    name = results.corpus.name
    if results.corpus.simulated:
        return "unknown", f"Corpus '{name}' was generated by a program; no licence of other people's data applies."
    if "musiceval" in name.lower():
        return _MUSICEVAL_LICENCE, (
            "MusicEval (BAAI/MusicEval, AudioMOS Challenge 2025, Track 1) is CC BY-NC 4.0: cite it, no commercial use."
        )
    return "unknown", (
        f"Nothing is known here about the licence of corpus '{name}'. Write it into this card and into `license:` "
        "above before you give the model to anyone."
    )
