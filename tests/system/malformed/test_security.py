"""Names, terminals, files of others, bits that flip: what is written is inert, and nothing of others is touched."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.forked import Commands
from helpers.malformed import ABLATE, AUDIT, DOCTOR, ENCODE, EVALUATE, REPORT, TABLE, also_long, copy_of

LABELS = [
    "=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-2+3", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "\\input{/etc/passwd}", "$x_1^2$ & 50 % #1 {a} ~b \\", "[x](javascript:alert(1))", "a | b", "`a`", "\u202eevil",
]  # fmt: skip


@pytest.fixture(scope="module")
def named(commands: Commands, good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished table of odd labels, in a file of an odd name."""
    folder = copy_of(good, tmp_path_factory.mktemp("named"))
    rows = [
        {"id": f"r{index}", "label": label, "set": {"model.predictor": "constant"}}
        for index, label in enumerate(LABELS)
    ]
    content = TABLE | {"sections": [{"title": "<b>T</b> [y](http://x)", "note": "=1+1", "rows": rows}]}
    (folder / "a_b %$#&{}~^'\".yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = [word if word != "table.yaml" else "a_b %$#&{}~^'\".yaml" for word in ABLATE.split()]
    answer = commands.run(folder, *(word for word in words if word not in ("--out", "out")))
    assert answer.status == 0, answer
    (made,) = (folder / "results").iterdir()
    return made


def test_a_table_is_named_by_what_every_system_can_write(named: Path) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", named.name), named
    assert re.findall(r"\\label\{(.*?)\}", (named / "table.tex").read_text(encoding="utf-8"))
    for label in re.findall(r"\\label\{(.*?)\}", (named / "table.tex").read_text(encoding="utf-8")):
        assert re.fullmatch(r"[A-Za-z0-9_.:-]+", label), label


def test_no_field_of_a_csv_is_a_formula(named: Path) -> None:
    for name in ("table.csv", "table_long.csv"):
        with (named / name).open(encoding="utf-8", newline="") as file:
            for field in (field for line in csv.reader(file) for field in line):
                assert field[:1] not in ("=", "@", "+") and not re.match(r"-\d+\+", field), field  # noqa: PT018


def test_no_label_becomes_markup_or_code(named: Path) -> None:
    html, markdown, tex = ((named / f"table.{kind}").read_text(encoding="utf-8") for kind in ("html", "md", "tex"))

    assert not re.search(r"<(script|img|b)\b", html + markdown)
    assert "](javascript" not in markdown
    assert "](http" not in markdown
    assert "\\input{" not in tex
    assert "50 \\%" in tex or "50~\\%" in tex or "50\\,\\%" in tex


@pytest.mark.parametrize("encoding", also_long(["latin-1", "ascii", "cp1252"]))
@pytest.mark.parametrize("command", [ABLATE, REPORT, EVALUATE, AUDIT, "audit", DOCTOR], ids=lambda command: command[:8])
def test_a_terminal_that_is_not_utf_8_is_enough(
    commands: Commands, good: Path, tmp_path: Path, command: str, encoding: str
) -> None:
    answer = commands.run(copy_of(good, tmp_path), *command.split(), encoding=encoding)

    assert answer.status == 0, answer
    assert answer.out


def test_files_of_the_user_stay_where_temporary_files_are_swept(commands: Commands, good: Path, tmp_path: Path) -> None:
    copy_of(good, tmp_path)
    mine = [
        tmp_path / folder / name
        for folder in ("out", "features/cache", ".")
        for name in ("thesis.tmp", "a.whisq-x.tmp")
    ]
    for path in mine:
        path.write_text("mine")
    (tmp_path / "out/folder.tmp").mkdir()
    (tmp_path / "whisq.db").unlink()

    for command in (ABLATE, REPORT, ENCODE):
        assert commands.run(tmp_path, *command.split()).status == 0

    assert [path.read_text() for path in mine] == ["mine"] * len(mine)
    assert (tmp_path / "out/folder.tmp").is_dir()


def test_a_bit_that_flips_in_the_frames_is_found_named_and_mended(
    commands: Commands, good: Path, tmp_path: Path
) -> None:
    copy_of(good, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "features").glob("audio-*/*.safetensors")}
    for path, content in before.items():
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    (tmp_path / "whisq.db").unlink()

    trained = commands.run(tmp_path, *ABLATE.split())
    believed = commands.run(tmp_path, *ABLATE.split(), environment={"WHISQ_CHECK_FRAMES": "0"})
    looked_at = commands.run(tmp_path, *DOCTOR.split())
    mended = commands.run(tmp_path, *DOCTOR.split(), "--fix")

    assert trained.status == 1
    assert "do not match their checksum" in trained.err
    assert "Traceback" not in trained.err
    assert believed.status == 0
    assert looked_at.status == 1
    assert "do not match their checksum" in looked_at.out
    assert mended.status == 0, mended
    assert {path: path.read_bytes() for path in before} == before


def test_a_store_that_has_lost_its_description_gets_it_again(commands: Commands, good: Path, tmp_path: Path) -> None:
    copy_of(good, tmp_path)
    (description,) = (tmp_path / "features").glob("audio-*/store.json")
    before = description.read_bytes()
    description.unlink()
    (tmp_path / "whisq.db").unlink()

    answer = commands.run(tmp_path, *ABLATE.split())

    assert answer.status == 0, answer
    assert json.loads(description.read_bytes()) == json.loads(before)


def test_what_is_refused_leaves_nothing_behind(commands: Commands, good: Path, tmp_path: Path) -> None:
    copy_of(good, tmp_path)
    for path in tmp_path.glob("whisq.db*"):
        path.unlink()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    for command in ("ablate table.yaml", "optimize table.yaml --trials 1", "optimize table.yaml --study ../x"):
        where = "--data corpus --features features --storage sqlite:///whisq.db --out out"

        answer = commands.run(tmp_path, *command.split(), *where.split())

        assert answer.status == 2, answer
        assert list(tmp_path.glob("whisq.db*")) == []
