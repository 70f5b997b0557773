"""Pictures that stand in a row as text: kept as files, or refused in one short line without the text."""

import base64
import io
import json

import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.data.embedded import store_embedded
from vlm_r1.data.images import load_image
from vlm_r1.data.records import RecordFile, iter_records
from vlm_r1.data.rows import Problem
from vlm_r1.errors import DataError
from vlm_r1.types import Record


def encoded(kind, size=(8, 6)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


PNG, JPEG = encoded("PNG"), encoded("JPEG", (40, 30))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param(f"data:image/png;base64,{PNG}", (8, 6), id="PNG"),
        pytest.param(f"data:image/jpeg;base64,{JPEG}", (40, 30), id="JPEG"),
        pytest.param(f"DATA:image/PNG;charset=utf-8;base64,{PNG}", (8, 6), id="with a parameter"),
        pytest.param(f"data:;base64,{PNG}", (8, 6), id="no kind"),
        pytest.param(f"data:image/png;base64,{PNG[:40]}\n{PNG[40:]}", (8, 6), id="wrapped"),
        pytest.param(f"data:image/png;base64,{PNG.rstrip('=')}", (8, 6), id="without padding"),
        pytest.param(JPEG, (40, 30), id="bare base64"),
        pytest.param(encoded("TIFF"), (8, 6), id="bare base64 of TIFF"),
    ],
)
def test_kept_as_a_file(tmp_path, text, size):
    path = store_embedded(text, tmp_path)
    assert path is not None
    assert load_image(path).size == size
    assert store_embedded(text, tmp_path) == path


@pytest.mark.parametrize("name", ["a.png", "/9j/a.jpg", "s3://b/a.png", "data/images/a.png", "data:1.png"])
def test_paths_are_paths(tmp_path, name):
    assert store_embedded(name, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("data:image/png;base64,@@@@" + "A" * 5_000_000, "that is not valid base64", id="broken"),
        pytest.param("data:image/png;base64,", "that holds nothing", id="empty"),
        pytest.param("data:image/svg+xml;utf8,<svg/>" + "x" * 90_000, "wanted data:image/png;base64", id="not base64"),
        pytest.param("data:video/mp4;base64,AAAA", "a data URI (video/mp4, 26 characters)", id="a video"),
        pytest.param("x" * 5000, "a text of 5000 characters; wanted a path", id="too long for a path"),
    ],
)
def test_broken_ones_are_one_short_line(tmp_path, text, message):
    with pytest.raises(DataError) as raised:
        store_embedded(text, tmp_path)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 150


def test_rows_with_embedded_pictures(tmp_path):
    uri = f"data:image/png;base64,{PNG}"
    rows = [
        {"problem": "?", "answer": "red", "image": uri},
        {"problem": "?", "answer": "red", "images": [{"bytes": PNG, "path": None}]},
        {"problem": "?", "answer": "red", "image": "data:image/png;base64," + "A" * 4000},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = DataSource(path=str(path), task="vqa")
    *good, bad = iter_records(source, cache=tmp_path / "cache")
    assert all(isinstance(record, Record) for record in good)
    assert len({record.images for record in good}) == 1  # one picture, kept once
    assert good[0].images[0].startswith(str(tmp_path / "cache/images"))
    assert isinstance(bad, Problem)
    assert "not an image of a known format" in bad.message
    assert len(str(bad)) < 300
    assert RecordFile(source, cache=tmp_path / "cache")[0].images == good[0].images


def test_openai_messages_with_embedded_pictures(tmp_path):
    image_url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content = [image_url, {"type": "text", "text": "What colour is it?"}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "red"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    record = RecordFile(DataSource(path=str(tmp_path / "a.jsonl"), task="vqa"), cache=tmp_path / "cache")[0]
    assert record.problem == "<image>What colour is it?"
    assert load_image(record.images[0]).size == (8, 6)
