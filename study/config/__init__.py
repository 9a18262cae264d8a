"""The ablation file: read, checked in two rounds (keys and types, then meaning), returned as values.

`read_ablation_file` is the door; `Search` says what the search room varies.
"""

from study.config.document import parse_settings
from study.config.file import AblationFile, Row, Sweep, settings_yaml
from study.config.reader import SHIPPED_FILE, default_file, read_ablation_file
from study.config.schema import NAME, Compare
from study.config.search_space import Range, Search, difference, search_mistakes
from study.config.seeds import parse_seeds, seeds_text
from study.config.start import write_start

__all__ = [
    "NAME",
    "SHIPPED_FILE",
    "AblationFile",
    "Compare",
    "Range",
    "Row",
    "Search",
    "Sweep",
    "default_file",
    "difference",
    "parse_seeds",
    "parse_settings",
    "read_ablation_file",
    "search_mistakes",
    "seeds_text",
    "settings_yaml",
    "write_start",
]
