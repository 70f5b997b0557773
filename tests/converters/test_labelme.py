"""labelme's JSON files: shapes, groups, paths of Windows, and pictures inside the files."""

import base64

import pytest

from vlm_r1.errors import ConfigError


def shape(points, kind="rectangle", label="cat", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def value(*shapes, path="a.jpg", wh=(640, 480), data=None):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": path,
        "imageData": data,
        "imageHeight": wh[1],
        "imageWidth": wh[0],
    }


BOX = shape([[10, 20], [110, 220]])
CAT = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]


@pytest.fixture
def folder(tmp_path, picture_file):
    picture_file(tmp_path / "lm" / "a.jpg")
    return tmp_path / "lm"


@pytest.mark.parametrize(
    ("one", "box"),
    [
        pytest.param(BOX, [10, 20, 110, 220], id="rectangle"),
        pytest.param(shape([[110, 20], [10, 220]]), [10, 20, 110, 220], id="drawn from the right"),
        pytest.param(shape([[10, 20], [110, 30], [50, 220]], "polygon"), [10, 20, 110, 220], id="polygon"),
        # radius √(30² + 40²) = 50 about (100, 100)
        pytest.param(shape([[100, 100], [130, 140]], "circle"), [50, 50, 150, 150], id="circle"),
        pytest.param(shape([[10, 20], [110, 220]], "mask", mask="iVBORw0KGgo="), [10, 20, 110, 220], id="mask"),
        pytest.param(
            shape([[50, 0], [100, 50], [50, 100], [0, 50]], "oriented_rectangle"), [0, 0, 100, 100], id="turned"
        ),
        pytest.param({"label": "cat", "points": [[10, 20], [110, 30], [50, 220]]}, [10, 20, 110, 220], id="of 2016"),
        pytest.param(shape([[1, 2]], "point"), "a shape without an area (point, line)", id="point"),
        pytest.param(shape([[1, 2], [3, 4], [5, 9]], "linestrip"), "a shape without an area (point, line)", id="line"),
        pytest.param(shape([[1, 2]]), "without the finite numbers of its shape", id="one corner"),
        pytest.param(shape([[1, None], [3, 4]]), "without the finite numbers of its shape", id="null"),
        pytest.param(shape("ab"), "without the finite numbers of its shape", id="a text"),
    ],
)
def test_shapes(convert, folder, json_file, one, box):
    json_file(folder / "a.json", value(one, shape([[0, 0], [9, 9]], label="dog")))
    done = convert("labelme", folder)
    found = [item["bbox_2d"] for item in done.answers()["a.jpg"] if item["label"] == "cat"]
    assert found == ([box] if isinstance(box, list) else [])
    assert done.dropped == ({} if isinstance(box, list) else {f"box: {box}": 1})


def test_parts_of_one_object(convert, folder, json_file):
    """Shapes of one label with one group_id are one object: the box around all of them."""
    parts = [shape([[10, 20], [50, 60]], group_id=1), shape([[90, 100], [110, 220]], group_id=1)]
    json_file(folder / "a.json", value(*parts, shape([[1, 2], [30, 40]], group_id=2), BOX | {"label": "dog"}))
    done = convert("labelme", folder)
    assert [item["bbox_2d"] for item in done.answers()["a.jpg"]] == [
        [10, 20, 110, 220],
        [1, 2, 30, 40],
        [10, 20, 110, 220],
    ]


@pytest.mark.parametrize(
    ("at", "path", "found"),
    [
        pytest.param("json/a.json", "..\\pictures\\b c.jpg", "pictures/b c.jpg", id="Windows, relative"),
        pytest.param("json/a.json", "C:\\me\\pictures\\b c.jpg", "pictures/b c.jpg", id="Windows, absolute"),
        pytest.param("pictures/b c.json", "old.jpg", "pictures/b c.jpg", id="renamed"),
        pytest.param("labelme/b c.json", "", "pictures/b c.jpg", id="no path, the only one of that name"),
    ],
)
def test_where_the_picture_is(convert, tmp_path, picture_file, json_file, at, path, found):
    picture_file(tmp_path / "lm" / "pictures" / "b c.jpg")
    json_file(tmp_path / "lm" / at, value(BOX, path=path))
    assert convert("labelme", tmp_path / "lm").answers() == {found: CAT}


def test_pictures_inside_the_files(convert, tmp_path, picture_file, json_file):
    data = picture_file(tmp_path / "x.png", (640, 480)).read_bytes()
    json_file(tmp_path / "lm" / "a.json", value(BOX, data=base64.b64encode(data).decode()))
    json_file(tmp_path / "lm" / "b.json", value(BOX, path="b.jpg", data="AAAA"))
    done = convert("labelme", tmp_path / "lm")
    ((name, answer),) = done.answers().items()
    assert (done.image_root, answer) == (tmp_path / "out", CAT)
    assert (tmp_path / "out" / name).read_bytes() == data
    assert done.dropped == {"image: image cannot be read": 1}
    with pytest.raises(ConfigError, match="--images has no effect"):
        convert("labelme", tmp_path / "lm", images=tmp_path)


def test_what_is_left_out(convert, folder, json_file, picture_file):
    json_file(folder / "a.json", value(BOX))
    json_file(folder / "gone.json", value(BOX, path="gone.jpg"))
    json_file(folder / "held.json", value(BOX, path="held.jpg", data="AAAA"))
    json_file(folder / "package.json", {"name": "x"})
    (folder / "bad.json").write_text("{")
    picture_file(folder / "unseen.jpg")
    (folder / "._a.json").write_bytes(b"\x00")  # macOS writes such files
    done = convert("labelme", folder)
    assert done.answers() == {"a.jpg": CAT}
    reasons = {reason.split(" (")[0].split(";")[0]: n for reason, n in done.dropped.items()}
    assert reasons == {
        "annotation file: cannot be read": 1,
        "annotation file: is no labelme annotation": 1,
        "image: image not found": 1,
        "image: image not found, though its JSON file holds it": 1,
        "image: without a label file, so what it shows is not known": 1,
    }


def test_no_label_leaves_the_picture_out(convert, folder, json_file, picture_file):
    picture_file(folder / "b.jpg")
    json_file(folder / "a.json", value(BOX, shape([[1, 2], [30, 40]], label="  ")))
    json_file(folder / "b.json", value(BOX, path="b.jpg"))
    done = convert("labelme", folder)
    assert list(done.answers()) == ["b.jpg"]
    assert done.dropped == {"image: it has a box of an unknown category, so what it shows is not known": 1}


def test_supervision_reads_the_same_boxes(convert, folder, json_file):
    supervision = pytest.importorskip("supervision")
    polygon = shape([[10.25, 20], [110, 30.5], [50, 220]], "polygon", "dog")
    json_file(folder / "a.json", value(shape([[110, 20], [10, 220]]), polygon))
    read = supervision.DetectionDataset.from_labelme(str(folder), str(folder))
    (found,) = read.annotations.values()
    theirs = {read.classes[i]: box.tolist() for i, box in zip(found.class_id, found.xyxy, strict=True)}
    assert {item["label"]: item["bbox_2d"] for item in convert("labelme", folder).answers()["a.jpg"]} == theirs
