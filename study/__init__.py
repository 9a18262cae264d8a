"""Search, ablate and judge WhisQ, and judge anybody's predictions: the Python API.

>>> import study
>>> stored = study.load("results/whisq.db")  # .tables .runs .settings .predictions .curves .verdicts as DataFrames
>>> table = stored.table("table2")  # a notebook shows it; .verdicts .metrics .text("table.tex") .write(folder)
>>> study.figures(table)["differences"]  # plotly
>>> study.judge(frame, to="baseline", metric="srcc")  # any DataFrame: row, seed, item, group, truth, prediction
>>> study.evaluate("answer.txt", "MusicEval-phase1").values  # 16 metrics of a predictions file
>>> study.Model.from_folder("table2/whisq/0").predict("clip.wav", "a slow waltz")  # a saved model

What a user can mend raises `study.InputError`. `import study` loads nothing: each name is imported when it is used.

Rooms, highest first; each package exports its doors: `cli` and `api`; `doctor`, `demo`; `ablation` and `search` (the
commands); `report` (figures, page), `engine` (plan, workers), `scoring` (anybody's predictions), `models` (saved ones);
`tables` (columns, formats), `dashboard`; `audit`, `results` (stored runs as values); `store` (the database), `config`
(the file); `stats`, `published`, `terminal`, `interrupts`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.api import *  # noqa: F403

    __version__: str

_HOMES = {
    "InputError": "whisq_core.errors",
    "Model": "study.models",
    **dict.fromkeys(["JudgedTable", "Scores", "judge", "read_files"], "study.scoring"),
    **dict.fromkeys(["Storage", "StudyTable", "evaluate", "figures", "load", "predict"], "study.api"),
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("whisq-study")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'study' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
