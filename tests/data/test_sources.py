"""Several files as one list of records."""

import json

import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.data.records import CHECKED_LINES
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


def plain(path, ids):
    lines = [json.dumps({"id": own, "problem": "?", "answer": own}) for own in ids]
    path.write_text("\n".join(lines), encoding="utf-8")
    return DataSource(path=str(path), task="vqa")


def test_one_sequence_of_several_files(tmp_path):
    files = [plain(tmp_path / f"{i}.jsonl", ids) for i, ids in enumerate(["abc", "d", "ef"])]
    records = load_sources(files)
    assert [record.id for record in records] == list("abcdef")
    assert [records[i].id for i in (0, 2, 3, 4, -1)] == list("acdef")
    assert [record.id for record in records[1:5:2]] == list("bd")
    assert ([len(part) for part in records.files], len(records)) == ([3, 1, 2], 6)
    assert list(records[:2]) == [records[0], records[1]]
    for index in (6, -7):
        with pytest.raises(IndexError):
            records[index]


def test_no_files():
    assert list(load_sources([])) == []


def test_a_long_file_is_sampled(tmp_path):
    lines = ['{"problem": "?", "answer": 1}'] * (2 * CHECKED_LINES)
    lines[1] = "{"  # every second line is looked at, from the first: this one is not
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    records = load_sources([DataSource(path=str(path), task="math")])
    with pytest.raises(DataError, match=r"a\.jsonl:2: not valid JSON"):
        records[1]
    lines[-1] = "{"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.jsonl:{len(lines)}: not valid JSON"):
        load_sources([DataSource(path=str(path), task="math")])


def test_no_records_left(tmp_path):
    source = plain(tmp_path / "a.jsonl", "ab").model_copy(update={"split_range": (0.0, 1e-9)})
    with pytest.raises(DataError, match=r"a\.jsonl: split_range .* leaves none of its 2 records"):
        load_sources([source])
