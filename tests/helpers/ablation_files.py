"""A small ablation file to change, and how tests read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from study.config import AblationFile, read_ablation_file
from whisq_core.errors import InputError

SMALL = """\
seeds: 0-9
sections:
  - title: Rows
    rows:
      - {id: whisq, label: WhisQ}
      - {id: no_ot, label: Without OT, set: {loss.ot_weight: 0}}
"""


def read(
    folder: Path, text: str, base_override: Path | None = None, settings: Mapping[str, Any] | None = None
) -> AblationFile:
    """Write `text` as ablations.yaml and read it."""
    path = folder / "ablations.yaml"
    path.write_text(text, encoding="utf-8")
    return read_ablation_file(path, base_override, settings)


def mistakes(folder: Path, text: str, base_override: Path | None = None) -> list[str]:
    """The mistakes that reading `text` reports, without the folder."""
    with pytest.raises(InputError) as caught:
        read(folder, text, base_override)
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def with_row(row: str) -> str:
    """The small file with one more row, in line 7."""
    return f"{SMALL}      - {row}\n"
