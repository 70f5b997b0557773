"""Create ML's JSON: centres in pixels, and Roboflow's folders."""

import pytest

from vlm_r1.errors import DataError


def row(name, *objects, key="image"):
    annotations = [
        {"label": label, "coordinates": dict(zip(("x", "y", "width", "height"), numbers, strict=True))}
        for label, numbers in objects
    ]
    return {key: name, "annotations": annotations}


@pytest.fixture
def folder(tmp_path, picture_file, json_file):
    for split in ("train", "valid"):
        for name in ("a b.jpg", "c.jpg"):
            picture_file(tmp_path / "boats" / split / name)
        rows = [row("a b.jpg", ("cat", [60, 120, 100, 200])), row("c.jpg")]
        json_file(tmp_path / "boats" / split / "_annotations.createml.json", rows)
    return tmp_path / "boats"


CAT = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]
"""60 ± 50 and 120 ± 100."""


def test_the_lines(convert, folder):
    done = convert("createml", folder, split="val", mode="all")
    assert done.answers() == {"valid/a b.jpg": CAT, "valid/c.jpg": "None"}
    one = convert("createml", folder / "train" / "_annotations.createml.json")
    assert one.answers() == {"a b.jpg": CAT}
    with pytest.raises(DataError, match=r"splits train \(2 pictures\), val \(2 pictures\)"):
        convert("createml", folder)


@pytest.mark.parametrize(
    ("exif", "orientation", "box"),
    [
        (1, "upright", [10, 20, 110, 220]),
        (6, "upright", [10, 20, 110, 220]),
        (6, "stored", [260, 10, 460, 110]),  # turned clockwise: x 480 − 220 … 480 − 20, y 10 … 110
    ],
)
def test_exif(convert, tmp_path, picture_file, json_file, exif, orientation, box):
    picture_file(tmp_path / "a.jpg", exif=exif)
    path = json_file(tmp_path / "boats.json", [row("a.jpg", ("cat", [60, 120, 100, 200]), key="imagefilename")])
    ((_, answer),) = convert("createml", path, orientation=orientation).answers().items()
    assert answer == [{"bbox_2d": box, "label": "cat"}]


def test_odd_rows(convert, folder, json_file):
    rows = [
        row("a b.jpg", ("cat", [60, 120, 100, 200]), ("dog", [1, 2, -3, 4]), ("dog", [9, 9, None, 4])),
        row("c.jpg", ("", [60, 120, 100, 200])),
        row("gone.jpg"),
        {"annotations": []},
        7,
    ]
    path = json_file(folder / "train" / "_annotations.createml.json", rows)
    done = convert("createml", path)
    assert done.answers() == {"a b.jpg": CAT}
    assert done.dropped == {
        "box: of negative width or height": 1,
        "box: without the finite numbers of its shape": 1,
        "image: it has a box of an unknown category, so what it shows is not known": 1,
        "image: image not found": 1,
        "image: without a file name": 2,
    }
    with pytest.raises(DataError, match="wanted a list of images"):
        convert("createml", json_file(folder / "b.json", {}))


def test_supervision_reads_the_same_boxes(convert, folder, json_file):
    supervision = pytest.importorskip("supervision")
    rows = [row("a b.jpg", ("cat", [60.5, 120.25, 100, 200.5]), ("dog", [320, 240, 640, 480])), row("c.jpg")]
    path = json_file(folder / "train" / "_annotations.createml.json", rows)
    read = supervision.DetectionDataset.from_createml(str(path.parent), str(path))
    found = read.annotations[str(path.parent / "a b.jpg")]
    theirs = {read.classes[i]: box.tolist() for i, box in zip(found.class_id, found.xyxy, strict=True)}
    ((_, answer),) = convert("createml", path).answers().items()
    assert {item["label"]: item["bbox_2d"] for item in answer} == theirs
