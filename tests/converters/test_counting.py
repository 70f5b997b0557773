"""CountBench and PixMo-Count: Parquet with embedded pictures or addresses."""

import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlm_r1.errors import ConfigError, DataError


def encoded(kind="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, kind)
    return buffer.getvalue()


COUNTBENCH = [
    {"image_url": "http://a/1.jpg", "text": "Three cats", "number": 3, "image": {"bytes": encoded(), "path": None}},
    {"image_url": "http://a/2.jpg", "text": "Two dogs", "number": 2, "image": None},
    {
        "image_url": "http://a/3.png",
        "text": "Ten\nbooks",
        "number": 10,
        "image": {"bytes": encoded("PNG"), "path": None},
    },
    {"image_url": "http://a/4.png", "text": "Six", "number": 6, "image": {"bytes": b"no picture", "path": None}},
]
QUESTIONS = [{"question": f"How many {what} are there in the image?"} for what in ("cats", "dogs", "books", "things")]


@pytest.fixture
def countbench(tmp_path, json_file):
    json_file(tmp_path / "questions.json", QUESTIONS)
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(COUNTBENCH), path)
    return path


def stored(place: int, suffix: str) -> str:
    """Where the picture of a row is laid: named by its content, so that no other conversion replaces it."""
    name = hashlib.blake2b(COUNTBENCH[place]["image"]["bytes"], digest_size=16).hexdigest()
    return f"countbench_images/{name[:2]}/{name}{suffix}"


def test_countbench(convert, countbench, tmp_path):
    done = convert("countbench", countbench, questions=str(tmp_path / "questions.json"))
    assert (done.task, done.image_root) == ("counting", tmp_path / "out")
    assert done.rows == [
        {
            "id": f"train-00000-of-00001-{i}",
            "image": image,
            "conversations": [
                {"from": "human", "value": f"<image>How many {what} are there in the image?"},
                {"from": "gpt", "value": number},
            ],
            "caption": caption,
        }
        for i, image, what, number, caption in (
            (0, stored(0, ".jpg"), "cats", 3, "Three cats"),
            (2, stored(2, ".png"), "books", 10, "Ten books"),
        )
    ]
    assert (tmp_path / "out" / stored(0, ".jpg")).read_bytes() == COUNTBENCH[0]["image"]["bytes"]
    assert done.dropped == {
        "row: no image: its address was dead when the file was made": 1,
        "row: image cannot be read": 1,
    }


def test_questions_may_be_a_column(convert, tmp_path, json_file):
    rows = [{"image_url": "https://a/1.jpg", "text": "Three cats", "number": 3, "question": "How many cats?"}]
    done = convert("countbench", json_file(tmp_path / "CountBench.json", rows))
    assert done.questions() == {"CountBench-0": "How many cats?"}
    assert done.rows[0]["image"] == "https://a/1.jpg"
    assert done.tally.notes == {"image kept as a URL": 1}


def test_the_caption_is_no_question(convert, countbench, tmp_path, json_file):
    with pytest.raises(DataError, match=r"captions name the number\. Give CountBenchQA's questions by --questions"):
        convert("countbench", countbench)
    short = json_file(tmp_path / "short.json", QUESTIONS[:2])
    with pytest.raises(
        DataError, match=r"short\.json: got 2 questions, wanted a list of one question for each of the 4"
    ):
        convert("countbench", countbench, questions=str(short))


def test_images_option_beside_embedded_images(convert, countbench, tmp_path):
    with pytest.raises(ConfigError, match="--images has no effect"):
        convert("countbench", countbench, questions=str(tmp_path / "questions.json"), images=tmp_path)


PIXMO = [
    {
        "image_url": "https://b/x/one.jpg?size=2",
        "image_sha256": "abc1",
        "count": 2,
        "points": {"x": [1.234, 10], "y": [5.5, 20]},
        "label": "people",
    },
    {"image_url": "https://b/two.jpg", "image_sha256": "abc2", "count": 4, "points": None, "label": "cups"},
    {"image_url": "https://b/three.jpg", "image_sha256": "abc3", "count": 5, "points": None, "label": "cups"},
]


@pytest.fixture
def pixmo(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(PIXMO), path)
    return path


def test_pixmo_count_by_address(convert, pixmo):
    done = convert("pixmo-count", pixmo)
    assert done.rows[0] == {
        "id": "train-0",
        "image": "https://b/x/one.jpg?size=2",
        "conversations": [
            {"from": "human", "value": "<image>How many people are there in the image?"},
            {"from": "gpt", "value": 2},
        ],
        "points": [[1.23, 5.5], [10, 20]],
    }
    assert "points" not in done.rows[1]
    assert done.tally.notes == {"image kept as a URL": 3}


def test_pixmo_count_with_files(convert, pixmo, tmp_path, picture_file):
    picture_file(tmp_path / "images" / "abc1.png")  # downloaded under its hash
    picture_file(tmp_path / "images" / "two.jpg")  # under its own name
    done = convert("pixmo-count", pixmo, images=tmp_path / "images")
    assert {row["id"]: row["image"] for row in done.rows} == {"train-0": "abc1.png", "train-1": "two.jpg"}
    assert done.dropped == {"row: image not found": 1}


def test_json_lines_and_embedded_images(convert, tmp_path):
    """A copy of PixMo-Count with its pictures in it has points as a list of pairs."""
    path = tmp_path / "a.parquet"
    row = {"label": "cats\u2028and dogs", "count": 1, "points": [{"x": 3.0, "y": 4.0}]}
    pq.write_table(pa.Table.from_pylist([{**row, "image": {"bytes": encoded(), "path": None}}]), path)
    assert convert("pixmo-count", path).rows[0]["points"] == [[3, 4]]
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({**row, "image_url": "http://a"}, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert convert("pixmo-count", lines).questions() == {"a-0": "How many cats and dogs are there in the image?"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("a.parquet", b"PAR1", "a.parquet: cannot read the Parquet file", id="Parquet"),
        pytest.param("a.jsonl", b"{", "a.jsonl:1: not valid JSON", id="JSON Lines"),
        pytest.param("a.json", b"{}", "a.json: got {}, wanted a list of objects", id="no list"),
        pytest.param("a.json", b'[{"label": "x"}]', r"a.json: \[0\].count: missing, got the keys label", id="no count"),
    ],
)
def test_bad_files_are_named(convert, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        convert("pixmo-count", tmp_path / name)
