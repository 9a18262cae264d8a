"""The command line: parse, call one door, print. Heavy imports live inside the commands: --help is quick.

`app` holds the application; `studies`, `results` and `upkeep` one group of commands each, in the order of `--help`.
"""

from study.cli import results, studies, upkeep
from study.cli.app import app, main

__all__ = ["app", "main", "results", "studies", "upkeep"]
