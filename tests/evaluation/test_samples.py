"""Samples are read line by line, and a damaged one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_r1.errors import DataError
from vlm_r1.evaluation.samples import read_samples

LINE = {
    "record_id": "7",
    "source": "a.jsonl:7",
    "task": "rec",
    "problem": "<image>the dog",
    "images": ["/a.png"],
    "image_sizes": [[64, 48]],
    "input_sizes": [[56, 56]],
    "box_format": "norm_1000",
    "template": "r1",
    "gold": [1, 2, 3, 4],
    "text": "…",
    "answer": [1.0, 2.0, 3.0, 4.0],
    "reason": None,
    "reward": 1.0,
    "parts": {"accuracy": 1.0, "format": None},
    "metrics": {"iou": 1.0},
    "tokens": 9,
    "stop_reason": "stop",
    "columns": {"platform": "web"},
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_a_line_becomes_a_sample_with_its_record(tmp_path: Path) -> None:
    (sample,) = read_samples(write(tmp_path / "a.jsonl", LINE))
    assert (sample.record_id, sample.image_sizes, sample.metrics, sample.draw) == ("7", ((64, 48),), {"iou": 1.0}, 0)
    record = sample.record()
    assert (record.answer, record.task, record.columns) == ([1, 2, 3, 4], "rec", {"platform": "web"})
    assert sample.image_key == ("/a.png",)


def test_samples_without_images_are_each_their_own(tmp_path: Path) -> None:
    (sample,) = read_samples(write(tmp_path / "a.jsonl", {**LINE, "images": [], "image_sizes": [], "input_sizes": []}))
    assert sample.image_key == ("7",)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("text", None, "a text"),
        ("metrics", {"iou": "high"}, "a number for each name"),
        ("parts", [1], "a number for each name"),
        ("tokens", "9", "the number of tokens"),
        ("images", "/a.png", "a list of paths"),
        ("image_sizes", [[1]], r"\[width, height\]"),
        ("record_id", 7, "a text"),
    ],
)
def test_wrong_lines_are_named(key, value, wanted, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINE, {**LINE, key: value})
    with pytest.raises(DataError, match=rf'a\.jsonl:2: "{key}" is .*wanted .*{wanted}'):
        list(read_samples(path))


@pytest.mark.parametrize("line", ["{", "[1]", "7"])
def test_lines_that_are_no_objects(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: "):
        list(read_samples(write(tmp_path / "a.jsonl", LINE, line)))


def test_a_missing_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_samples(tmp_path / "none.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_samples(tmp_path / "b.jsonl"))


def test_a_name_that_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_samples(tmp_path / "a\0b.jsonl"))
