"""Packages of other people with parts of their own, as pip leaves them behind: a module and a dist-info folder."""

import sys
from pathlib import Path

from whisq_core import plugins

METRICS = """
import numpy as np


def metric(higher_is_better):
    def declare(function):
        function.higher_is_better = higher_is_better
        return function

    return declare


@metric(True)
def lcc(predicted, truth):
    return np.corrcoef(predicted, truth)[0, 1]


@metric(False)
def mse(predicted, truth):
    return np.mean((predicted - truth) ** 2)
"""


def forget(*modules: str) -> None:
    """As in a new process, which looks for plug-ins once."""
    plugins.installed.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def install(site: Path, source: str, version: str = "1.0", **metrics: str) -> None:
    """The distribution `their-metrics` of one module, `metrics` being entry points: name -> object of the module.

    `site` is a folder from which the process imports.
    """
    folder = site / f"their_metrics-{version}.dist-info"
    folder.mkdir(parents=True)
    (site / "their_metrics.py").write_text(source, encoding="utf-8")
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-metrics\nVersion: {version}\n")
    lines = "".join(f"{name} = their_metrics:{attribute}\n" for name, attribute in metrics.items())
    (folder / "entry_points.txt").write_text(f"[whisq_study.metric]\n{lines}")
    forget("their_metrics")
