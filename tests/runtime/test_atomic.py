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


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    """A folder from a stranger may hold one that leads to a file of the user."""
    precious, path = tmp_path / "precious", tmp_path / "run/report.html"
    precious.write_text("mine")
    path.parent.mkdir()
    (path.parent / ".report.html.tmp").symlink_to(precious)
    path.symlink_to(precious)
    with replacing(path) as temporary:
        temporary.write_text("page")
    assert (precious.read_text(), path.read_text()) == ("mine", "page")
    assert not path.is_symlink()
