import os
from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.atomic import replacing


def test_the_new_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "made" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_killed_writer_left_behind_is_overwritten(tmp_path: Path):
    (tmp_path / ".file.txt.tmp").write_text("left behind by a kill")
    with replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path: Path):
    (tmp_path / "file").write_text("a file where a folder should be")

    def write():
        with replacing(tmp_path / "file" / "report.html") as temporary:
            temporary.write_text("new")

    with pytest.raises(CheckpointError, match=r"report\.html: cannot be written: .*Wanted a writable folder"):
        write()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_a_stranger_put_in_the_place_of_the_temporary_file_is_removed(kind: str, tmp_path: Path):
    """A run folder may come from a stranger: a link would overwrite the file it leads to, and a pipe would block."""
    precious, planted = tmp_path / "precious.txt", tmp_path / "run" / ".report.html.tmp"
    precious.write_text("precious")
    planted.parent.mkdir()
    if kind == "link":
        planted.symlink_to(precious)
    else:
        os.mkfifo(planted)
    with replacing(planted.with_name("report.html")) as temporary:
        temporary.write_text("a report")
    assert precious.read_text() == "precious"
    assert planted.with_name("report.html").read_text() == "a report"
    assert not planted.with_name("report.html").is_symlink()
