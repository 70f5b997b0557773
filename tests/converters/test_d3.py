"""D-cube, as the toolkit's four pickles (with numpy arrays in them) and as its COCO files."""

import os
import pickle

import numpy as np
import pytest

from vlm_r1.errors import DataError

SENTENCES = {1: "a dog without a leash", 2: "a dog on a leash", 3: "a person in blue", 4: "a hat that is not blue"}


def annotation(id_, image_id, sent_ids, bbox, group_id=0):
    """As pycocotools leaves it: lists of one run-length code and arrays of one row."""
    return {
        "id": id_,
        "sent_id": sent_ids,
        "segmentation": [{"size": [480, 640], "counts": b"abc\xff"}],
        "area": np.array([100], dtype=np.uint32),
        "iscrowd": 0,
        "image_id": image_id,
        "bbox": np.array([bbox], dtype=np.float64),
        "group_id": group_id,
    }


def pickles(folder, images):
    """Groups: 0 has sentences 1 and 2, group 1 has 3 and 4; sentence 3 is also annotated on image 0, of group 0."""
    annotations = {
        10: annotation(10, 0, [1], [10.0, 20.0, 100.0, 200.0]),
        11: annotation(11, 0, [1, 3], [200.0, 20.0, 50.0, 60.0]),
    }
    tables = {
        "sentences": {
            id_: {"id": id_, "anno_id": [], "group_id": [], "is_negative": "not" in text, "raw_sent": text}
            for id_, text in SENTENCES.items()
        },
        "annotations": annotations,
        "images": images,
        "groups": {
            0: {"id": 0, "pos_sent_id": [1, 2], "inner_sent_id": [1, 2], "outer_sent_id": [3], "img_id": [0]},
            1: {"id": 1, "pos_sent_id": [3], "inner_sent_id": [3, 4], "outer_sent_id": [], "img_id": [1]},
        },
    }
    folder.mkdir(parents=True)
    for name, table in tables.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table, protocol=4))
    return folder


def image(id_, anno_id, group_id):
    return {
        "id": id_,
        "file_name": f"scene/{id_}.jpg",
        "height": 480,
        "width": 640,
        "anno_id": anno_id,
        "group_id": group_id,
    }


@pytest.fixture
def d3(tmp_path, picture_file):
    for id_ in (0, 1):
        picture_file(tmp_path / "d3_images" / "scene" / f"{id_}.jpg")
    return pickles(tmp_path / "d3_pkl", {0: image(0, [10, 11], 0), 1: image(1, [], 1)})


def test_pickles(convert, d3):
    done = convert("d3", d3, negatives=(2, 2))
    rows = {row["id"]: row for row in done.rows}
    # image 0: sentence 3 is of another group: not asked, but there, so no negative; 2 (own group) goes before 4
    assert set(rows["d3-0"]["targets"]) == {SENTENCES[1], SENTENCES[2], SENTENCES[4]}
    assert done.answers()["d3-0"] == [
        {"bbox_2d": [10, 20, 110, 220], "label": "a dog without a leash"},
        {"bbox_2d": [200, 20, 250, 80], "label": "a dog without a leash"},
    ]
    # image 1 shows nothing at all: its own group's sentences are the negatives
    assert set(rows["d3-1"]["targets"]) == {SENTENCES[3], SENTENCES[4]}
    assert done.answers()["d3-1"] == "None"
    assert (rows["d3-0"]["image"], rows["d3-0"]["size"]) == ("scene/0.jpg", [640, 480])
    assert done.dropped == {}


def test_the_paper_adds_one_to_three(convert, d3):
    done = convert("d3", d3)
    assert 2 <= len(done.rows[0]["targets"]) <= 3  # one is there, two are absent
    assert done.text == convert("d3", d3).text
    assert SENTENCES[2] in done.rows[0]["targets"]  # the own group's absent description is always first


def test_json(convert, tmp_path, picture_file, json_file):
    picture_file(tmp_path / "d3_images" / "0.jpg")
    value = {
        "images": [{"id": 0, "file_name": "0.jpg", "height": 480, "width": 640}],
        "categories": [{"id": id_, "name": text} for id_, text in SENTENCES.items()],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [10, 20, 100, 200], "area": 9, "iscrowd": 0}
        ],
    }
    path = json_file(tmp_path / "d3_json" / "d3_full_annotations.json", value)
    done = convert("d3", path, negatives=(3, 3))
    assert sorted(done.rows[0]["targets"]) == sorted(SENTENCES.values())
    assert [n for note, n in done.tally.notes.items() if "not verified" in note] == [1]
    assert not any("not verified" in note for note in convert("d3", path, negatives=(0, 0)).tally.notes)


class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("groups", [], r"groups.pkl: got \[\], wanted a dictionary by id", id="no dictionary"),
        pytest.param("images", {0: {"id": 0}}, r"images.pkl: \[0\].group_id: missing, got the keys id", id="no group"),
        pytest.param("sentences", {1: {"raw_sent": 3}}, r"sentences.pkl: \[1\].raw_sent: got 3", id="no sentence"),
        pytest.param("annotations", {}, r"annotations.pkl: \[10\]: got None, wanted an object", id="no annotation"),
        pytest.param(
            "annotations", Runs("true"), "annotations.pkl: names posix.system, which is not read", id="program"
        ),
    ],
)
def test_bad_files_are_named(convert, d3, name, value, message):
    (d3 / f"{name}.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=message):
        convert("d3", d3)


def edited(folder, **changes):
    """The pickles again, with rows of tables changed: `edited(d3, images={0: {"anno_id": []}})`."""
    for name, rows in changes.items():
        path = folder / f"{name}.pkl"
        table = pickle.loads(path.read_bytes())
        for id_, more in rows.items():
            table[id_] = table.get(id_, {}) | more
        path.write_bytes(pickle.dumps(table))
    return folder


def as_texts(table):
    """A table whose ids, and those that its rows refer to, are texts."""
    keys = ("anno_id", "sent_id", "inner_sent_id", "group_id", "image_id")
    return {
        str(id_): {
            key: (list(map(str, value)) if isinstance(value, list) else str(value)) if key in keys else value
            for key, value in row.items()
        }
        for id_, row in table.items()
    }


@pytest.mark.parametrize("name", ["sentences", "annotations", "images", "groups"])
def test_ids_as_texts_are_the_same(convert, d3, name):
    plain = convert("d3", d3).text
    path = d3 / f"{name}.pkl"
    path.write_bytes(pickle.dumps(as_texts(pickle.loads(path.read_bytes()))))
    assert convert("d3", d3).text == plain


def test_a_box_of_an_unknown_sentence_leaves_its_image_out(convert, d3):
    done = convert("d3", edited(d3, annotations={11: {"sent_id": [1, 77]}}))
    assert [row["id"] for row in done.rows] == ["d3-1"]
    assert done.dropped == {"image: it has a box of an unknown sentence, so what it shows is not known": 1}


def test_a_box_of_another_image_leaves_its_image_out(convert, d3):
    done = convert("d3", edited(d3, annotations={11: {"image_id": 7}}))
    assert [row["id"] for row in done.rows] == ["d3-1"]
    assert done.dropped == {"image: it lists a box that says it is in another image": 1}


def test_a_box_that_its_image_does_not_list_is_there(convert, d3):
    """Image 0 lists annotation 10 alone, but 11 says that it is in image 0: description 1 has both boxes."""
    plain = convert("d3", d3)
    done = convert("d3", edited(d3, images={0: {"anno_id": [10]}}))
    assert (done.text, list(done.tally.notes.values())) == (plain.text, [1])


def test_a_broken_box_makes_its_descriptions_unknown(convert, d3):
    """Of image 0 descriptions 1 and 3 have a box that cannot be read: neither is asked, nor a negative."""
    done = convert("d3", edited(d3, annotations={11: {"bbox": []}}), negatives=(3, 3))
    assert set(done.rows[0]["targets"]) == {SENTENCES[2], SENTENCES[4]}
    assert done.answers()["d3-0"] == "None"
    assert done.dropped["box: without a box of four numbers, and without a polygon"] == 1


def test_an_id_as_number_and_as_text(convert, d3):
    with pytest.raises(DataError, match=r"annotations.pkl: the id 10 stands there twice"):
        convert("d3", edited(d3, annotations={"10": annotation(10, 0, [1], [1, 2, 3, 4])}))


@pytest.mark.parametrize(
    ("name", "id_", "new", "dropped"),
    [
        pytest.param("images", 1, image(1, [98], 1), {"image: cannot be read": 1}, id="a box that is not there"),
        pytest.param("images", 1, image(1, [], 7), {"image: cannot be read": 1}, id="an unknown group"),
        pytest.param("images", 1, image(1, [], 1) | {"file_name": None}, {"image: cannot be read": 1}, id="no file"),
        pytest.param("images", 1, None, {"image: cannot be read": 1}, id="null"),
        pytest.param("sentences", 4, {"raw_sent": None}, {"sentence: cannot be read": 1}, id="a sentence of no text"),
    ],
)
def test_one_odd_row_is_counted(convert, d3, name, id_, new, dropped):
    path = d3 / f"{name}.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {id_: new}))
    done = convert("d3", d3)
    assert done.dropped == dropped
    assert [row["id"] for row in done.rows] == ["d3-0", "d3-1"][: 1 + (name == "sentences")]
