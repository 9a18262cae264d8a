"""The good study that every malformed input spoils a copy of."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.forked import Answer, Commands
from helpers.malformed import Change, copy_of, trouble, write_good
from helpers.studies import built_once, shared_folder

Attempt = Callable[..., Answer]


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shared_folder(tmp_path_factory, "good-study")
    with built_once(folder) as first:
        if first:
            write_good(folder / "study")
    return folder / "study"


@pytest.fixture
def attempt(commands: Commands, good: Path, tmp_path: Path) -> Attempt:
    """Spoils a copy of the good study, runs a command in it, and sees that it is refused as promised."""

    def attempt(change: Change, command: str | list[str], expected: str = "", **how: object) -> Answer:
        change(copy_of(good, tmp_path))
        answer = commands.run(tmp_path, *(command.split() if isinstance(command, str) else command), **how)  # type: ignore[arg-type]
        assert not trouble(answer, expected), (trouble(answer, expected), answer)
        assert not (tmp_path / "marker").exists(), "code of the input was run"
        return answer

    return attempt
