"""Files are whole or absent; what killed writers leave behind goes, what living writers are at stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whisq_core.errors import InputError
from whisq_core.files import FileDigests, sweep, write_atomically


class Sweeping(list[bytes]):
    """Parts of a file, with a sweep of its folder by another process between two of them."""

    folder: Path

    def __iter__(self) -> Iterator[bytes]:
        for part in super().__iter__():
            yield part
            program = (
                "import sys; from pathlib import Path; from whisq_core.files import sweep; sweep(Path(sys.argv[1]))"
            )
            subprocess.run([sys.executable, "-c", program, str(self.folder)], check=True)


def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "table.csv", [b"one,", memoryview(b"two")])

    assert (tmp_path / "new" / "table.csv").read_bytes() == b"one,two"
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "table.csv"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"old")

    with pytest.raises(TypeError):
        write_atomically(path, [b"new", "no bytes"])  # type: ignore[list-item]

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(InputError) as caught:
        write_atomically(tmp_path / "file" / "table.csv", [b"new"])

    assert str(caught.value) == (
        f"{tmp_path}/file/table.csv: cannot be written (File exists). Give another folder or free space."
    )


def test_the_file_of_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    parts = Sweeping([b"one,", b"two"])
    parts.folder = tmp_path

    write_atomically(tmp_path / "table.csv", parts)

    assert (tmp_path / "table.csv").read_bytes() == b"one,two"


def test_the_file_of_a_killed_writer_is_swept_at_once(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from whisq_core.files import write_atomically\n"
        "class Deadly(list):\n"
        "    def __iter__(self):\n"
        "        yield b'half'\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), Deadly())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "table.csv")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]

    sweep(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_the_file_of_another_machine_is_swept_when_it_is_old(tmp_path: Path) -> None:
    young, old = (tmp_path / f"table.elsewhere.whisq-{number:032x}.tmp" for number in (1, 2))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)

    sweep(tmp_path)

    assert list(tmp_path.iterdir()) == [young]


def test_a_users_own_files_are_never_swept(tmp_path: Path) -> None:
    (tmp_path / "folder.tmp").mkdir()
    (tmp_path / "thesis.tmp").write_bytes(b"years of work")
    os.utime(tmp_path / "thesis.tmp", (time.time() - 7200,) * 2)

    sweep(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.tmp", "thesis.tmp"]


def test_digests_are_remembered_until_a_file_changes_and_made_anew_where_they_cannot_be(tmp_path: Path) -> None:
    file, memory = tmp_path / "file", tmp_path / "memory" / "digests.json"
    file.write_bytes(b"one")
    digests = FileDigests(memory)
    first = digests.of(file)
    digests.save()

    assert FileDigests(memory).known(file) == first
    file.write_bytes(b"other")
    assert FileDigests(memory).known(file) is None
    assert FileDigests(memory).of(file) != first
    memory.write_bytes(b'{"truncated')
    assert FileDigests(memory).known(file) is None


def test_digests_are_done_without_where_they_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    digests = FileDigests(tmp_path / "file" / "digests.json")

    assert digests.of(tmp_path / "file")
    digests.save()
