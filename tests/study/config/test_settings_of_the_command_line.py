"""`--set NAME=VALUE`: read as a file is, within the same limits."""

from pathlib import Path

import pytest
from helpers.ablation_files import SMALL, read

from study.config import parse_settings
from whisq_core.errors import InputError, shown


def test_settings_of_the_command_line_go_over_those_of_a_base_file(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("train: {epochs: 5, momentum: 0.5}")

    file = read(tmp_path, SMALL, tmp_path / "best.yaml", parse_settings(["train.epochs=7", "model.residual=true"]))

    assert (file.base.train.epochs, file.base.train.momentum, file.base.model.residual) == (7, 0.5, True)
    assert file.override == {"train.epochs": 7, "train.momentum": 0.5, "model.residual": True}


_LEVELS = [f"&a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]" for i in range(9)]
_ALIASES = f"[{', '.join(_LEVELS)}]"


@pytest.mark.parametrize(
    ("item", "mistake"),
    [
        ("train.epochs", "--set train.epochs: write NAME=VALUE, such as --set train.epochs=50."),
        ("train.epochs=[", "--set train.epochs=[: write NAME=VALUE, such as --set train.epochs=50."),
        ("train.epoch=5", "--set train.epoch: unknown setting 'train.epoch'. Did you mean 'train.epochs'?"),
        ("seed=5", "--set seed: seeds are not a setting of base. List them under 'seeds'."),
        ("train=5", "--set train: 'train' is a section, found 5. Write 'train: {NAME: VALUE}'."),
        (
            "train.epochs=2020-13-45",
            "--set train.epochs: setting 'train.epochs': Input should be a valid integer, found '2020-13-45'.",
        ),
        ("train.epochs=!!int x", "--set train.epochs: 'x' cannot be read as int. Correct the value."),
        ("train.epochs=!!float x", "--set train.epochs: 'x' cannot be read as float. Correct the value."),
        (
            "train.epochs=!!binary zzz",
            "--set train.epochs: tag 'tag:yaml.org,2002:binary' is not read here. Write the value without a tag.",
        ),
        (
            f"train.epochs={'9' * 5000}",
            f"--set train.epochs: {shown('9' * 5000)} cannot be read as int. Correct the value.",
        ),
        (f"train.epochs={'[' * 5000}", "--set train.epochs: the value is nested too deeply. Write it flatter."),
        (
            f"train.epochs={_ALIASES}",
            "--set train.epochs: more than 100,000 values, with every alias written out. Shorten the value.",
        ),
        ("train={epochs: 1, epochs: 2}", "--set train: key 'epochs' is duplicated, first in line 1. Remove one."),
    ],
)
def test_a_wrong_setting_of_the_command_line_is_named(tmp_path: Path, item: str, mistake: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, SMALL, settings=parse_settings([item]))

    assert caught.value.mistakes == (mistake,)


def test_every_wrong_setting_of_the_command_line_is_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_settings(["train.epochs=!!int x", "model.heads=8", "train", f"seed={'[' * 5000}"])

    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "--set train.epochs",
        "--set train",
        "--set seed",
    ]


def test_an_empty_setting_of_the_command_line_is_null() -> None:
    assert parse_settings(["data.folds=", "model.heads=8", "model.heads=4"]) == {"data.folds": None, "model.heads": 4}
