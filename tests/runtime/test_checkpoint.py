"""Checkpoint folders are whole or not there, and only the newest are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.checkpoint import (
    begin_folder,
    checkpoint_path,
    checkpoint_step,
    commit_folder,
    latest_checkpoint,
    prune_checkpoints,
)


def save(folder: Path, step: int, text: str = "weights") -> Path:
    target = checkpoint_path(folder, step)
    temporary = begin_folder(target)
    (temporary / "state").mkdir()
    (temporary / "state" / "file").write_text(text)
    commit_folder(temporary, target)
    return target


def test_latest_ignores_what_a_kill_left(tmp_path) -> None:
    assert latest_checkpoint(tmp_path) is None
    save(tmp_path, 9)
    newest = save(tmp_path, 10)
    unfinished = begin_folder(checkpoint_path(tmp_path, 11))
    (unfinished / "half").write_text("")
    assert latest_checkpoint(tmp_path) == newest
    assert checkpoint_step(newest) == 10
    assert (save(tmp_path, 11) / "state" / "file").read_text() == "weights"
    assert not (tmp_path / "step-000011" / "half").exists()


def test_a_folder_is_replaced_as_a_whole(tmp_path) -> None:
    save(tmp_path, 1, "old")
    assert (save(tmp_path, 1, "new") / "state" / "file").read_text() == "new"


def test_pruning_keeps_the_newest(tmp_path) -> None:
    for step in (2, 4, 6, 8):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000008"]


def test_a_place_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        begin_folder(tmp_path / "file" / "step-000001")
