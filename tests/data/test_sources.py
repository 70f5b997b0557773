"""Several files as one list of records."""

import json

import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.errors import DataError


def write(path, image, answer):
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": answer}]
    path.write_text(json.dumps({"id": 1, "image": image, "conversations": turns}) + "\n", encoding="utf-8")
    return str(path)


def test_each_file_has_its_folder_task_and_reward(tmp_path):
    for name in ("photos", "screens"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    boxes, words = write(tmp_path / "b.jsonl", "1.png", [1, 2, 3, 4]), write(tmp_path / "a.jsonl", "1.png", "yes")
    records = load_sources(
        [
            DataSource(path=boxes, image_root=str(tmp_path / "photos"), task="rec"),
            DataSource(path=words, image_root=str(tmp_path / "screens"), task="vqa", reward="exact_match"),
        ]
    )
    assert [(r.source, r.task, r.reward, r.images) for r in records] == [
        (f"{boxes}:1", "rec", None, (str(tmp_path / "photos/1.png"),)),
        (f"{words}:1", "vqa", "exact_match", (str(tmp_path / "screens/1.png"),)),
    ]


def test_errors_of_all_files_together(tmp_path):
    bad = write(tmp_path / "a.jsonl", "gone.png", "yes")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    missing = tmp_path / "missing.jsonl"
    with pytest.raises(DataError) as raised:
        load_sources([DataSource(path=str(path)) for path in (bad, empty, missing)])
    assert [text.split(": ")[0] for text in str(raised.value).splitlines()] == [f"{bad}:1", str(empty), str(missing)]
