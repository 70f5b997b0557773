"""Only regular files are opened: whatever else stands there is an error at once, not a wait."""

import os
import socket

import pytest

from vlm_r1.config import load_config
from vlm_r1.data import load_image
from vlm_r1.data.jsonl import find_rows
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.files import open_regular, read_bytes, read_text, regular_only


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_pipes_are_refused_without_waiting(pipe):
    with pytest.raises(OSError, match="it is a named pipe, wanted a regular file"):
        read_bytes(pipe)
    with pytest.raises(DataError, match="it is a named pipe"):
        load_image(pipe)
    with pytest.raises(DataError, match="it is a named pipe"):
        find_rows(str(pipe))
    with pytest.raises(ConfigError, match="it is a named pipe"):
        load_config(pipe)


def test_a_link_to_a_pipe_is_a_pipe(pipe, tmp_path):
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(OSError, match="it is a named pipe"):
        read_bytes(tmp_path / "link")


def test_sockets_devices_folders_and_files_of_the_kernel(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="it is a socket"):
            read_bytes(tmp_path / "s")
    with pytest.raises(OSError, match="it is a device"):
        read_bytes("/dev/zero")
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    with pytest.raises(OSError, match="no path of this system"):
        regular_only("a\0b", os.O_RDONLY)
    for name in ("a\0b", "a\ud83d"):
        for read in (open_regular, read_bytes, read_text):
            with pytest.raises(OSError, match="no path of this system") as caught:
                read(name)
            assert (caught.value.strerror, caught.value.filename) == ("no path of this system", name)
    if os.path.ismount("/proc"):
        with pytest.raises(OSError, match="made by the kernel"):
            read_bytes("/proc/self/status")


def test_regular_files_are_read_also_by_links(tmp_path):
    (tmp_path / "a").write_text("é\r\n", encoding="utf-8", newline="")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert (read_text(tmp_path / "link"), read_bytes(tmp_path / "a")) == ("é\n", "é\r\n".encode())
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")
