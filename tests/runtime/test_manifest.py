"""A manifest notices every kind of damage to the files that it names."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.manifest import (
    EDITED,
    FILE,
    check_manifest,
    find_damage,
    hash_file,
    is_copy_of,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "state").mkdir(parents=True)
    (made / "weights").write_bytes(bytes(range(256)) * 40)
    (made / "state" / 'ü "x".json').write_text("{}")
    (made / "empty").write_text("")
    write_manifest(made, {"step": 3})
    return made


def test_a_whole_folder(folder) -> None:
    assert find_damage(folder) is None
    check_manifest(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest["step"] == 3
    assert set(manifest["files"]) == {"weights", 'state/ü "x".json', "empty"}
    assert manifest["files"]["weights"]["size_bytes"] == 10240


def test_the_hash_is_that_of_the_hashes_of_chunks(tmp_path) -> None:
    content = os.urandom((1 << 24) + 5)
    (tmp_path / "file").write_bytes(content)
    first, second = (
        hashlib.blake2b(part, digest_size=32).digest() for part in (content[: 1 << 24], content[1 << 24 :])
    )
    assert hash_file(tmp_path / "file") == hashlib.blake2b(first + second, digest_size=32).hexdigest()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "one bit": (flip, "weights has other bytes than were written"),
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "weights has 10,239 bytes, but was written with 10240",
    ),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "weights has 10,241 bytes"),
    "missing": (lambda path: path.unlink(), "weights is missing"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "weights is not a file"),
    "a pipe, which is not waited for": (pipe, "weights is not a file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind, folder) -> None:
    damage, message = DAMAGE[kind]
    damage(folder / "weights")
    found = find_damage(folder)
    assert found is not None
    assert message in found
    with pytest.raises(CheckpointError, match=f"{message.split(' ')[0]}.*delete its manifest.json to use it"):
        check_manifest(folder)


def test_a_file_more_is_no_damage_and_texts_may_be_edited(folder) -> None:
    (folder / "README.md").write_text("mine")
    assert find_damage(folder) is None
    write_manifest(folder, {}, EDITED)
    (folder / "README.md").write_text("edited")
    assert find_damage(folder) is None
    write_manifest(folder, {})
    (folder / "README.md").write_text("in a checkpoint nobody edits")
    assert find_damage(folder) is not None


def test_without_a_manifest_nothing_is_known(folder) -> None:
    flip(folder / "weights")
    (folder / FILE).unlink()
    assert find_damage(folder) is None
    assert read_manifest(folder) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"weights": 3}}',
        "\0" * 50,
        "[" * 100_000,
        '{"files": {"a\\u0000": {}}}',
    ],
    ids=[
        "empty",
        "torn",
        "a list",
        "no files",
        "files a list",
        "an entry that is a number",
        "NULs",
        "deep",
        "a NUL name",
    ],
)
def test_a_damaged_manifest_is_damage(text, folder) -> None:
    (folder / FILE).write_text(text)
    found = find_damage(folder)
    assert found is not None
    assert "manifest.json" in found or "cannot be read" in found


def test_a_pipe_in_the_place_of_a_manifest_is_damage_at_once(folder) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    assert find_damage(folder) == (
        f"manifest.json: cannot be read: [Errno 22] it is a named pipe, wanted a regular file: "
        f"'{folder / 'manifest.json'}'"
    )


def test_a_copy_is_recognised_by_its_hashes(folder, tmp_path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "weights").write_bytes((folder / "weights").read_bytes())
    write_manifest(copy, {})
    assert is_copy_of(copy, folder)
    assert not is_copy_of(folder, copy)
    flip(copy / "weights")
    assert not is_copy_of(copy, folder)
    write_manifest(copy, {})
    assert not is_copy_of(copy, folder)
    assert not is_copy_of(tmp_path, folder), "it has no manifest"
    (copy / FILE).write_text(json.dumps({"files": {}}))
    assert not is_copy_of(copy, folder)
