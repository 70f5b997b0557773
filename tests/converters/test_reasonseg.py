"""ReasonSeg: polygons beside their picture; ignored regions are painted over the target."""

import json

import pytest

from vlm_r1.errors import DataError


def shape(label, *points):
    return {
        "label": label,
        "labels": [label],
        "shape_type": "polygon",
        "image_name": "a.jpg",
        "points": points,
        "flags": {},
    }


def square(label, x1, y1, x2, y2):
    return shape(label, [x1, y1], [x2, y1], [x2, y2], [x1, y2])


@pytest.fixture
def reasonseg(tmp_path, picture_file, json_file):
    """`reasonseg(*shapes)`: a folder val/ with one picture of 200×100 and its shapes."""

    def write(*shapes, text=("what barks?", "the dog"), name="val"):
        picture_file(tmp_path / name / "a.jpg", (200, 100))
        json_file(tmp_path / name / "a.json", {"text": text, "is_sentence": True, "shapes": shapes})
        return tmp_path / name

    return write


# A polygon through the pixels 10 and 60 covers both, and so reaches from 10 to 61.
TARGET = square("target", 10, 20, 60, 50)

BOXES = [
    pytest.param([TARGET], [10, 20, 61, 51], id="one target"),
    pytest.param([TARGET, square("target", 100, 5, 150, 30)], [10, 5, 151, 51], id="two targets, one box"),
    pytest.param([square("target", 10.9, 20.2, 60.7, 50.5)], [10, 20, 61, 51], id="whole pixels"),
    pytest.param([TARGET, square("ignore", 120, 20, 140, 50)], [10, 20, 61, 51], id="ignored elsewhere"),
    pytest.param([TARGET, square("ignore", 50, 15, 60, 55)], [10, 20, 50, 51], id="ignored: the right edge"),
    pytest.param([square("IGNORED", 30, 30, 40, 40), TARGET], [10, 20, 61, 51], id="ignored: a hole, drawn first"),
    pytest.param([TARGET, square("ignore", 0, 0, 90, 90)], [10, 20, 61, 51], id="a larger ignored region lies below"),
    pytest.param([TARGET, square("flag", 0, 0, 199, 99)], [10, 20, 61, 51], id="flags mean nothing"),
    pytest.param([square("target", -10, -5, 60, 50)], [0, 0, 61, 51], id="over the edge"),
    pytest.param([shape("target", [10, 20], [60, 20], [60, 50])], [10, 20, 61, 51], id="a triangle"),
]


@pytest.mark.parametrize(("shapes", "box"), BOXES)
def test_the_box_round_the_target(convert, reasonseg, shapes, box):
    done = convert("reasonseg", reasonseg(*shapes))
    assert done.task == "rec"
    assert done.answers() == {"a-0": box, "a-1": box}


def test_the_line(convert, reasonseg):
    assert convert("reasonseg", reasonseg(TARGET)).rows[0] == {
        "id": "a-0",
        "image": "a.jpg",
        "conversations": [
            {"from": "human", "value": "<image>what barks?"},
            {"from": "gpt", "value": [10, 20, 61, 51]},
        ],
        "size": [200, 100],
        "is_sentence": True,
    }


def test_a_box_for_each_region(convert, reasonseg):
    hidden = square("target", 102, 7, 110, 10)
    folder = reasonseg(TARGET, square("target", 100, 5, 150, 30), hidden, square("ignore", 102, 7, 110, 10))
    done = convert("reasonseg", folder, boxes="each")
    assert done.task == "multi_rec"
    assert done.answers()["a-0"] == [[10, 20, 61, 51], [100, 5, 151, 31]]


def test_what_is_dropped(convert, reasonseg, picture_file, json_file):
    folder = reasonseg(TARGET, text=["the dog", " "])
    picture_file(folder / "b.jpg")
    json_file(folder / "b.json", {"text": ["x", "y"], "is_sentence": False, "shapes": [square("ignore", 1, 1, 9, 9)]})
    json_file(folder / "c.json", {"text": ["z"], "is_sentence": False, "shapes": [TARGET]})
    done = convert("reasonseg", folder)
    assert done.dropped == {"sentence: empty": 1, "sentence: no target region": 2, "sentence: image not found": 1}


def test_windows_texts(convert, reasonseg):
    folder = reasonseg(TARGET)
    (folder / "a.json").write_bytes(
        json.dumps({"text": ["the café’s dog"], "shapes": [TARGET]}, ensure_ascii=False).encode("cp1252")
    )
    assert convert("reasonseg", folder).questions() == {"a-0": "the café’s dog"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"shapes": []}, "a.json: text: missing, got the keys shapes; wanted a list", id="no text"),
        pytest.param({"text": ["x"], "shapes": [{}]}, r"a.json: shapes\[0\].label: missing", id="no label"),
        pytest.param(
            {"text": ["x"], "shapes": [shape("target", [1])]},
            r"a.json: shapes\[0\].points: got \[\[1\]\], wanted a list of",
            id="no points",
        ),
        pytest.param("{", "a.json: not valid JSON", id="no JSON"),
    ],
)
def test_bad_files_are_named(convert, reasonseg, value, message):
    folder = reasonseg(TARGET)
    (folder / "a.json").write_text(value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(DataError, match=message):
        convert("reasonseg", folder)


def test_another_folder(convert, tmp_path):
    with pytest.raises(DataError, match="wanted ReasonSeg's train, val or test folder"):
        convert("reasonseg", tmp_path)
