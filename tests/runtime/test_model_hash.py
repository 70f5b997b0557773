"""Hashes of models notice what changed in their files, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vlm_r1.runtime.model_hash import hash_model


@pytest.fixture
def model(tiny_checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def test_a_bit_anywhere_in_a_small_model_counts(model, tiny_checkpoint) -> None:
    before = hash_model(str(model), None)
    assert before == hash_model(str(tiny_checkpoint), None)
    for file in sorted(model.iterdir()):
        size = file.stat().st_size
        for place in (0, size // 2, size - 1):
            flip(file, place)
            assert hash_model(str(model), None) != before, (file.name, place)
            flip(file, place)
    assert hash_model(str(model), None) == before


def test_a_file_more_or_less_counts_unless_no_loader_reads_it(model) -> None:
    before = hash_model(str(model), None)
    for name in ("README.md", "manifest.json", "run/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("{}")
    assert hash_model(str(model), None) == before
    (model / "chat_template.json").write_text("{}")
    assert hash_model(str(model), None) != before


def test_a_large_file_is_sampled(model) -> None:
    large = model / "model-00002.safetensors"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    before = hash_model(str(model), None)
    for place in (0, (4 << 20) + 100, (100 << 20) + 5, (200 << 20) - 1):
        flip(large, place)
        assert hash_model(str(model), None) != before, place
        flip(large, place)
    os.truncate(large, (200 << 20) + 1)
    assert hash_model(str(model), None) != before


def test_a_model_of_the_hub_is_its_commit() -> None:
    class Config:
        _commit_hash = "abc"

    assert hash_model("owner/name", Config()) == "abc"
    assert hash_model("owner/name", object()) == ""
