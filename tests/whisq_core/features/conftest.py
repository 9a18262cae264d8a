"""A store of three items."""

from pathlib import Path

import pytest
from helpers.stores import KEY, item, random_frames

from whisq_core.features import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    filled = FeatureStore(tmp_path, KEY)
    for number, name in enumerate(("one", "two", "three")):
        filled.write(item(name), random_frames(seed=number), valid=15)
    return filled
