"""Pascal VOC's XML files: pixels counted from 1, flags, pictures of other machines, and XML that does harm."""

import pytest

from vlm_r1.converters.xml_files import read_xml, xml_children
from vlm_r1.errors import DataError


def voc_object(name="cat", corners=(11, 21, 110, 220), more=""):
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{edges}</bndbox></object>"


def voc(*objects, filename="a.jpg", wh=(640, 480), more=""):
    size = f"<size><width>{wh[0]}</width><height>{wh[1]}</height><depth>3</depth></size>" if wh else ""
    return f"<annotation>{more}<filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def lay(tmp_path, picture_file):
    """`lay({"a": voc(…)}, pictures={"a.jpg": exif})`: a folder in VOC's layout."""

    def write(texts, pictures=(("a.jpg", 1),), annotations="Annotations", images="JPEGImages"):
        folder = tmp_path / "voc"
        for name, exif in dict(pictures).items():
            picture_file(folder / images / name, (640, 480), exif)
        for name, text in texts.items():
            path = folder / annotations / f"{name}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    return write


CAT = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]
"""Pixels 11 to 110 are 100 pixels: from 10 to 110."""


def test_the_lines(convert, lay):
    folder = lay({"a": voc(voc_object(), voc_object("traffic  light", (1, 1, 640, 480)))})
    done = convert("voc", folder)
    assert (done.task, done.image_root) == ("ovd", folder)
    expected = [*CAT, {"bbox_2d": [0, 0, 640, 480], "label": "traffic light"}]
    assert done.answers() == {"JPEGImages/a.jpg": expected}
    assert not done.tally.notes
    corners = convert("voc", folder, first_pixel="0")
    assert corners.answers()["JPEGImages/a.jpg"][0]["bbox_2d"] == [11, 21, 110, 220]


@pytest.mark.parametrize(
    ("filename", "pictures", "found"),
    [
        pytest.param("a.jpg", ["a.jpg"], "a.jpg", id="as it says"),
        pytest.param("C:\\data\\other\\a.jpg", ["a.jpg"], "a.jpg", id="a path of Windows"),
        pytest.param("IMG_0001.JPG", ["a.jpg"], "a.jpg", id="renamed, with its XML file"),
        pytest.param("a", ["a.PNG"], "a.PNG", id="without an ending"),
        pytest.param("", ["a.jpg"], "a.jpg", id="no name"),
        pytest.param("e\u0301 1.jpg", ["\u00e9 1.jpg"], "\u00e9 1.jpg", id="an accent in two characters"),
    ],
)
def test_the_picture_of_a_file(convert, lay, filename, pictures, found):
    folder = lay({"a": voc(voc_object(), filename=filename)}, [(name, 1) for name in pictures])
    assert convert("voc", folder).answers() == {f"JPEGImages/{found}": CAT}


def test_two_pictures_of_one_name_are_not_guessed(convert, lay, picture_file):
    folder = lay({"x/a": voc(voc_object()), "b": voc(voc_object(), filename="b.jpg")}, [("b.jpg", 1)])
    for inner in ("one", "two"):
        picture_file(folder / inner / "a.jpg")
    done = convert("voc", folder)
    assert list(done.answers()) == ["JPEGImages/b.jpg"]
    assert done.dropped["image: several pictures have its name: name the folder by --images"] == 1


def test_flags(convert, lay):
    difficult, cut = "<difficult>1</difficult>", "<truncated>1</truncated><occluded>0</occluded>"
    text = voc(voc_object(), voc_object("dog", more=difficult), voc_object("dog", (1, 1, 50, 50), cut))
    folder = lay({"a": text})
    kept = convert("voc", folder)
    assert len(kept.answers()["JPEGImages/a.jpg"]) == 3
    assert set(kept.tally.notes) == {
        "box marked as difficult, kept",
        "box of an object that its image or another object cuts off",
    }
    dropped = convert("voc", folder, difficult="drop")
    assert dropped.answers() == {"JPEGImages/a.jpg": CAT}  # nor is the other dog asked: not all are boxed
    assert dropped.dropped == {
        "box: marked as difficult": 1,
        "box: its category is not boxed completely in the image": 1,
    }


POLYGON = "<x1>11</x1><y1>21</y1><x2>110</x2><y2>30</y2><x3>50</x3><y3>220</y3>"
TURNED = "<cx>100</cx><cy>100</cy><w>40</w><h>20</h><angle>1.5707963267948966</angle>"


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        pytest.param(f"<polygon>{POLYGON}</polygon>", [10, 20, 109, 219], id="points of pixels 11 to 110"),
        # a quarter turn about (100, 100): 40 x 20 becomes 20 x 40
        pytest.param(f"<robndbox>{TURNED}</robndbox>", [90, 80, 110, 120], id="a turned box"),
        pytest.param("", None, id="no shape"),
        pytest.param("<bndbox><xmin>1</xmin></bndbox>", None, id="one edge"),
        pytest.param("<polygon><x1>1</x1><y1>2</y1></polygon>", None, id="one point"),
    ],
)
def test_shapes(convert, lay, shape, box):
    folder = lay({"a": voc(voc_object("dog"), f"<object><name>cat</name>{shape}</object>")})
    done = convert("voc", folder)
    boxes = [item["bbox_2d"] for item in done.answers()["JPEGImages/a.jpg"] if item["label"] == "cat"]
    assert boxes == ([box] if box else [])
    assert done.dropped == ({} if box else {"box: without the finite numbers of its shape": 1})


def test_exif(convert, lay):
    """An annotation of 640x480 on a picture that EXIF turns to 480x640 was made on the picture as stored."""
    texts = {"a": voc(voc_object()), "b": voc(voc_object(), filename="b.jpg", wh=(480, 640))}
    done = convert("voc", lay(texts, [("a.jpg", 6), ("b.jpg", 6)]))
    # turned clockwise: x 480 − 220 … 480 − 20, y 10 … 110
    assert done.answers() == {
        "JPEGImages/a.jpg": [{"bbox_2d": [260, 10, 460, 110], "label": "cat"}],
        "JPEGImages/b.jpg": CAT,
    }


@pytest.mark.parametrize(
    ("wh", "n"), [((640, 480), 1), (None, 1), ((0, 0), 1), ((320, 240), 0)], ids=["right", "none", "zeros", "other"]
)
def test_sizes(convert, lay, wh, n):
    folder = lay(
        {"a": voc(voc_object(), wh=wh), "b": voc(voc_object(), filename="b.jpg")}, [("a.jpg", 1), ("b.jpg", 1)]
    )
    done = convert("voc", folder)
    assert len(done.rows) == 1 + n
    assert done.dropped == ({} if n else {"image: image is not of the size that the annotations say": 1})


def test_a_coordinate_of_zero_is_noted(convert, lay):
    done = convert("voc", lay({"a": voc(voc_object(corners=(0, 0, 110, 220)))}))
    assert [text for text in done.tally.notes if "--first-pixel 0" in text]


def test_pictures_without_a_file_and_files_without_a_picture(convert, lay):
    folder = lay({"a": voc(voc_object()), "gone": voc(filename="gone.jpg")}, [("a.jpg", 1), ("b.jpg", 1)])
    done = convert("voc", folder, negatives=(0, 1))
    assert list(done.answers()) == ["JPEGImages/a.jpg"]
    assert done.dropped == {
        "image: image not found": 1,
        "image: without a label file, so what it shows is not known (--unlabelled empty: nothing)": 1,
    }
    assert convert("voc", folder, mode="all", unlabelled="empty").answers()["JPEGImages/b.jpg"] == "None"


def test_splits_of_image_sets(convert, lay):
    folder = lay({name: voc(voc_object(), filename=f"{name}.jpg") for name in "ab"}, [("a.jpg", 1), ("b.jpg", 1)])
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\n")
    (sets / "val.txt").write_text("b\n")
    (sets / "cat_train.txt").write_text("a  1\nb -1\n")
    assert list(convert("voc", folder, split="val").answers()) == ["JPEGImages/b.jpg"]
    with pytest.raises(DataError, match=r"train \(1 picture\), val \(1 picture\)"):
        convert("voc", folder)


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    "<annotation><filename>&c;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(BOMB, "it declares the entity 'b'", id="entities of entities"),
        pytest.param(OUTSIDE, "it declares the entity 'b'", id="a file outside"),
        pytest.param("<a>" * 1000 + "</a>" * 1000, "nested more than 100 deep", id="a thousand elements"),
        pytest.param("<annotation><object>", "not valid XML", id="cut off"),
        pytest.param("", "not valid XML", id="empty"),
        pytest.param('<?xml version="1.0" encoding="no-such"?><a/>', "not valid XML", id="unknown encoding"),
        pytest.param(b"\xff\xfe", "not valid XML", id="bytes"),
    ],
)
def test_xml_that_is_not_read(convert, lay, text, message):
    folder = lay({"a": voc(voc_object()), "bad": text})
    with pytest.raises(DataError, match=message):
        read_xml(folder / "Annotations" / "bad.xml")
    done = convert("voc", folder)
    assert done.answers() == {"JPEGImages/a.jpg": CAT}
    assert done.dropped == {"annotation file: cannot be read": 1}


def test_xml_in_other_encodings_and_of_other_programs(convert, lay):
    latin = '<?xml version="1.0" encoding="ISO-8859-1"?>' + voc(voc_object("caf\xe9"))
    folder = lay({"a": latin.encode("latin-1"), "project": "<project/>"})
    done = convert("voc", folder)
    assert done.answers()["JPEGImages/a.jpg"][0]["label"] == "caf\xe9"
    assert done.dropped == {"annotation file: is no Pascal VOC annotation": 1}


def test_children_are_read_one_at_a_time(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(f"<a>{'<b><c>1</c></b>' * 20_000}</a>")
    found = xml_children(path)
    root, first = next(found)
    assert (root, first.findtext("c")) == ("a", "1")
    assert sum(1 for _ in found) == 19_999


def test_supervision_reads_the_same_boxes(convert, lay):
    supervision = pytest.importorskip("supervision")
    folder = lay({"a": voc(voc_object(), voc_object("dog", (1.5, 2.25, 99.75, 480)))})
    read = supervision.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    (found,) = read.annotations.values()
    theirs = {read.classes[i]: box.tolist() for i, box in zip(found.class_id, found.xyxy, strict=True)}
    assert {item["label"]: item["bbox_2d"] for item in convert("voc", folder).answers()["JPEGImages/a.jpg"]} == theirs
