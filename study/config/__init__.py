"""The ablation file: read, checked in two rounds (keys and types, then meaning), returned as values.

`read_ablation_file` is the door; `Search` and what translates it to parameters serve the search room.
"""

from study.config.file import AblationFile, Row, Section, settings_yaml
from study.config.reader import SHIPPED_FILE, default_file, read_ablation_file
from study.config.schema import Compare
from study.config.search_space import (
    PRIMARY_METRIC,
    Range,
    Search,
    difference,
    param_name,
    search_mistakes,
    suggest,
    to_params,
    to_settings,
)
from study.config.seeds import parse_seeds

__all__ = [
    "PRIMARY_METRIC",
    "SHIPPED_FILE",
    "AblationFile",
    "Compare",
    "Range",
    "Row",
    "Search",
    "Section",
    "default_file",
    "difference",
    "param_name",
    "parse_seeds",
    "read_ablation_file",
    "search_mistakes",
    "settings_yaml",
    "suggest",
    "to_params",
    "to_settings",
]
