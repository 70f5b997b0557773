"""Checkpoint folders are whole or not there, nothing else counts as one, and only the newest are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError, ModelError
from vlm_r1.runtime.checkpoint import (
    checkpoint_path,
    checkpoint_step,
    latest_checkpoint,
    list_checkpoints,
    new_folder,
    prune_checkpoints,
    put_right,
    remove_folder,
)
from vlm_r1.runtime.manifest import find_damage, read_manifest


def save(folder: Path, step: int, text: str = "weights") -> Path:
    target = checkpoint_path(folder, step)
    with new_folder(target, step=step) as temporary:
        (temporary / "state").mkdir()
        (temporary / "state" / "file").write_text(text)
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_with_a_manifest(tmp_path) -> None:
    target = checkpoint_path(tmp_path, 7)
    with new_folder(target, step=7) as temporary:
        (temporary / "a").write_text("weights")
        assert not target.exists()
    assert names(tmp_path) == ["step-000007"]
    manifest = read_manifest(target)
    assert manifest is not None
    assert (manifest["step"], list(manifest["files"])) == (7, ["a"])
    assert find_damage(target) is None


def test_what_a_kill_left_is_no_checkpoint_and_is_overwritten(tmp_path) -> None:
    assert latest_checkpoint(tmp_path) is None
    save(tmp_path, 9)
    newest = save(tmp_path, 10)
    (tmp_path / ".step-000011.tmp").mkdir()
    (tmp_path / ".step-000011.tmp" / "half").write_text("")
    assert latest_checkpoint(tmp_path) == newest
    assert checkpoint_step(newest) == 10
    assert (save(tmp_path, 11) / "state" / "file").read_text() == "weights"
    assert not (tmp_path / "step-000011" / "half").exists()


def test_a_folder_is_replaced_as_a_whole(tmp_path) -> None:
    save(tmp_path, 1, "old")
    assert (save(tmp_path, 1, "new") / "state" / "file").read_text() == "new"
    assert names(tmp_path) == ["step-000001"]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("step-000006", True),
        ("step-1000000", True),
        ("step-000006-keep", False),
        ("step-000006.tar", False),
        ("step-6", False),
        ("step-0000006", False),
        ("step-٠٠٠٠٠٦", False),
        ("step-", False),
        ("step-latest", False),
        (".step-000006.tmp", False),
    ],
)
def test_only_folders_of_a_step_are_checkpoints(name, counts, tmp_path) -> None:
    (tmp_path / name).mkdir()
    assert list_checkpoints(tmp_path) == ([tmp_path / name] if counts else [])
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text("a file is none")
    assert list_checkpoints(tmp_path) == []


def test_they_are_in_the_order_of_their_numbers(tmp_path) -> None:
    for step in (1_000_000, 999_999, 12):
        save(tmp_path, step)
    assert [checkpoint_step(path) for path in list_checkpoints(tmp_path)] == [12, 999_999, 1_000_000]


def test_a_link_to_a_folder_is_a_checkpoint_and_is_pruned_without_its_target(tmp_path) -> None:
    elsewhere = save(tmp_path / "elsewhere", 2)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step-000002").symlink_to(elsewhere)
    save(folder, 4)
    assert [checkpoint_step(path) for path in list_checkpoints(folder)] == [2, 4]
    prune_checkpoints(folder, keep=1, newest=4)
    assert names(folder) == ["step-000004"]
    assert find_damage(elsewhere) is None
    assert (elsewhere / "state/file").exists()


def test_pruning_keeps_the_newest_and_every_foreign_name(tmp_path) -> None:
    for step in (2, 4, 6, 8):
        save(tmp_path, step)
    shutil.copytree(tmp_path / "step-000002", tmp_path / "step-000002-keep")
    (tmp_path / "step-000006.tar").write_text("")
    prune_checkpoints(tmp_path, keep=2, newest=8)
    assert names(tmp_path) == ["step-000002-keep", "step-000006", "step-000006.tar", "step-000008"]


def test_pruning_counts_no_damaged_checkpoint_and_none_of_a_later_step(tmp_path) -> None:
    for step in (2, 4, 6, 8, 10):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2, newest=8, damaged=[tmp_path / "step-000006", tmp_path / "step-000010"])
    assert names(tmp_path) == ["step-000004", "step-000008", "step-000010"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("inline_container.cc:672"), None]
)
def test_a_failed_save_leaves_nothing_and_says_what_is_needed_and_free(error, tmp_path) -> None:
    save(tmp_path, 1, "old")
    needed = 0 if error else 1 << 62

    def write() -> None:
        with new_folder(checkpoint_path(tmp_path, 1), needed_bytes=needed) as temporary:
            (temporary / "half").write_bytes(b"0" * 5000)
            raise error or AssertionError("it was begun without space")

    with pytest.raises(
        CheckpointError, match=r"cannot be written: .*It needs [\d.,]+ [kMG]B or more, and [\d.,]+ [kMG]B is free"
    ):
        write()
    assert names(tmp_path) == ["step-000001"]
    assert (tmp_path / "step-000001/state/file").read_text() == "old"


@pytest.mark.parametrize("error", [KeyError("a bug"), ModelError("ours"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_errors_that_are_not_of_writing_stay_what_they_are(error, tmp_path) -> None:
    def write() -> None:
        with new_folder(checkpoint_path(tmp_path, 1)) as temporary:
            (temporary / "half").write_text("")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert names(tmp_path) == []


def test_a_full_disk(tmp_path) -> None:
    """A real one, of 4 MB, where this may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        save(disk, 1)

        def write() -> None:
            with new_folder(checkpoint_path(disk, 2)) as temporary:
                (temporary / "weights").write_bytes(os.urandom(5_000_000))

        with pytest.raises(
            CheckpointError, match=r"No space left on device. It needs 4\.\d MB or more, and 4\.\d MB is free"
        ):
            write()
        assert names(disk) == ["step-000001"]
        assert find_damage(disk / "step-000001") is None
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_was_set_aside_by_a_killed_replacement_is_put_back(tmp_path) -> None:
    os.replace(save(tmp_path, 3, "half"), tmp_path / ".step-000003.tmp")
    os.replace(save(tmp_path / "earlier", 3, "old"), tmp_path / ".step-000003.old")  # killed before the new one's name
    (tmp_path / "earlier").rmdir()
    put_right(tmp_path)
    assert names(tmp_path) == ["step-000003"]
    assert (tmp_path / "step-000003/state/file").read_text() == "old"


def test_what_kills_leave_is_removed_and_nothing_else_is(tmp_path) -> None:
    save(tmp_path, 3)
    for name in (".step-000003.old", ".step-000001.gone", ".step-000004.tmp", ".model.tmp", ".snapshots", ".mine.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / ".step-000005.tmp").write_text("a file is not ours")
    put_right(tmp_path)
    assert names(tmp_path) == [".mine.tmp", ".snapshots", ".step-000005.tmp", "step-000003"]
    put_right(tmp_path / "missing")


def test_removing_takes_what_an_earlier_removal_left(tmp_path) -> None:
    (tmp_path / ".step-000003.gone").mkdir()
    remove_folder(save(tmp_path, 3))
    remove_folder(tmp_path / "step-000003")
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    def write() -> None:
        with new_folder(tmp_path / "file" / "step-000001"):
            pass

    with pytest.raises(CheckpointError, match="cannot be written"):
        write()
