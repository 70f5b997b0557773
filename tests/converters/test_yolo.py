"""YOLO's folders: names, splits, kinds of lines, EXIF, and what cannot be read."""

import pytest

from vlm_r1.converters.yolo import read_line
from vlm_r1.errors import DataError

NAMES = {0: "cat", 5: "traffic light"}


def lay(folder, picture_file, labels, wh=(640, 480), place="images/train", exif=1):
    """Write pictures with their label files (None: no such file)."""
    for name, text in labels.items():
        path = picture_file(folder / place / name, wh, exif)
        if text is not None:
            label = folder / place.replace("images", "labels") / f"{path.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text, encoding="utf-8")
    return folder


def describe(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder


YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  5: traffic light\n"


@pytest.fixture
def boats(tmp_path, picture_file):
    folder = describe(tmp_path / "boats", YAML)
    # on 640x480: x 0.5 · 640 ± 0.1 · 640 = 256 … 384, y 0.25 · 480 ± 0.1 · 480 = 72 … 168
    labels = {"a b.jpg": "5 0.5 0.25 0.2 0.2\n0 0.5 0.5 1 1\n", "猫 é.png": "0 0.5 0.5 1 1", "empty.jpg": "\n"}
    lay(folder, picture_file, {**labels, "nobody.jpg": None})
    lay(folder, picture_file, {"v.jpg": "0 0.5 0.5 1 1"}, place="images/val")
    return folder


def test_the_lines(convert, boats):
    done = convert("yolo", boats, split="train", negatives=(1, 1))
    assert (done.task, done.image_root) == ("ovd", boats)
    assert done.answers() == {
        "images/train/a b.jpg": [
            {"bbox_2d": [256, 72, 384, 168], "label": "traffic light"},
            {"bbox_2d": [0, 0, 640, 480], "label": "cat"},
        ],
        "images/train/empty.jpg": "None",
        "images/train/猫 é.png": [{"bbox_2d": [0, 0, 640, 480], "label": "cat"}],
    }
    assert done.rows[0]["size"] == [640, 480]
    assert set(done.rows[2]["targets"]) == {"cat", "traffic light"}
    assert done.dropped == {
        "image: of another split": 1,
        "image: without a label file, so what it shows is not known (--unlabelled empty: nothing)": 1,
    }
    assert done.tally.examples["image", "of another split"] == "val"


def test_the_same_without_data_yaml(convert, boats):
    """LabelImg and Label Studio write `classes.txt`; then the splits are the folders' names."""
    (boats / "data.yaml").unlink()
    (boats / "classes.txt").write_text("cat\nb\nc\nd\ne\ntraffic light\n")
    done = convert("yolo", boats, split="val")
    assert done.answers() == {"images/val/v.jpg": [{"bbox_2d": [0, 0, 640, 480], "label": "cat"}]}
    assert len(convert("yolo", boats, split="all").rows) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"unlabelled": "empty", "negatives": (1, 1)}, {"empty.jpg", "nobody.jpg"}, id="empty"),
        pytest.param({"unlabelled": "drop", "negatives": (1, 1)}, {"empty.jpg"}, id="drop"),
        pytest.param({}, set(), id="no question that they could answer"),
    ],
)
def test_pictures_without_objects(convert, boats, options, expected):
    done = convert("yolo", boats, split="train", **options)
    assert {id_.rpartition("/")[2] for id_, answer in done.answers().items() if answer == "None"} == expected


@pytest.mark.parametrize(
    ("text", "train"),
    [
        pytest.param("train: ../train/images\nval: ../valid/images\n", "train/images", id="Roboflow's ../"),
        pytest.param("train: C:\\Users\\me\\boats\\train\\images\n", "train/images", id="Windows"),
        pytest.param("path: ../datasets/boats\ntrain: train/images\n", "train/images", id="a path of another machine"),
        pytest.param("train: [train/images, more/images]\n", "train/images", id="a list"),
        pytest.param("train: train.txt\n", "train/images", id="a list of files"),
        pytest.param("train: ./\n", "train/images", id="the whole folder"),
    ],
)
def test_where_a_split_is(convert, tmp_path, picture_file, text, train):
    folder = describe(tmp_path / "boats", f"{text}names: [cat]\n")
    lay(folder, picture_file, {"a.jpg": "0 0.5 0.5 0.5 0.5"}, place=train)
    (folder / "train.txt").write_text("./train/images/a.jpg\n/home/me/boats/train/images/gone.jpg\n")
    assert convert("yolo", folder).answers() == {
        "train/images/a.jpg": [{"bbox_2d": [160, 120, 480, 360], "label": "cat"}]
    }


@pytest.mark.parametrize("exif", range(1, 9))
@pytest.mark.parametrize("orientation", ["upright", "stored"])
def test_exif(convert, tmp_path, picture_file, exif, orientation):
    """The left upper quarter of the upright picture, as Ultralytics sees it; or of the picture as it is stored."""
    folder = lay(
        describe(tmp_path / "boats", "train: images/train\nnames: [cat]"),
        picture_file,
        {"a.jpg": "0 0.25 0.25 0.5 0.5"},
        exif=exif,
    )
    w, h = (480, 640) if exif > 4 else (640, 480)
    right, low = orientation == "stored" and exif in (2, 3, 6, 7), orientation == "stored" and exif in (3, 4, 7, 8)
    x, y = (w / 2 if right else 0), (h / 2 if low else 0)
    done = convert("yolo", folder, orientation=orientation)
    assert done.answers() == {
        "images/train/a.jpg": [{"bbox_2d": [x, y, x + w / 2, y + h / 2], "label": "cat"}],
    }


@pytest.mark.parametrize(
    ("line", "box"),
    [
        pytest.param("5 0.5 0.5 0.2 0.4", (0.4, 0.3, 0.6, 0.7), id="box"),
        pytest.param("5.000000e+00 0.5 0.5 0.2 0.4", (0.4, 0.3, 0.6, 0.7), id="numpy's numbers"),
        pytest.param("5 0.5 0.5 0.2 0.4 0.93", (0.4, 0.3, 0.6, 0.7), id="with a confidence"),
        pytest.param("5 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5", (0.1, 0.1, 0.9, 0.9), id="a turned box"),
        pytest.param("5 0.1 0.2 0.3 0.2 0.3 0.6", (0.1, 0.2, 0.3, 0.6), id="polygon"),
        pytest.param("5 0.1 0.2 0.3 0.2 0.3 0.6 0.8", (0.1, 0.2, 0.3, 0.6), id="polygon with a confidence"),
        pytest.param("5 0.5 0.5 1.02 0.4", "not of fractions from 0 to 1 of its image", id="wider than the image"),
        pytest.param("5 320 240 64 48", "not of fractions from 0 to 1 of its image", id="pixels"),
        pytest.param("5 0.5 0.5 -0.2 0.4", "of negative width or height", id="negative"),
        pytest.param("5 0.5 0.5 0.2", "without the finite numbers of its shape", id="three numbers"),
        pytest.param("5 0.5 0.5 nan 0.4", "without the finite numbers of its shape", id="nan"),
        pytest.param("5 0.5 0.5 1e999 0.4", "without the finite numbers of its shape", id="infinite"),
    ],
)
def test_a_line(line, box):
    found = read_line(line.split(), NAMES)
    assert found.label == "traffic light"
    assert getattr(found.box, "reason", found.box) == (box if isinstance(box, str) else pytest.approx(box))


def test_key_points_follow_a_box_where_data_yaml_says_so(convert, tmp_path, picture_file):
    line = "0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.9 0.9 2"
    assert read_line(line.split(), NAMES, 6).box == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert read_line(line.split(), NAMES).box != pytest.approx((0.4, 0.3, 0.6, 0.7))
    folder = describe(tmp_path / "boats", "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\n")
    done = convert("yolo", lay(folder, picture_file, {"a.jpg": line}))
    assert done.answers() == {"images/train/a.jpg": [{"bbox_2d": [256, 144, 384, 336], "label": "cat"}]}
    assert not done.tally.notes


def test_what_is_left_out_is_counted(convert, boats):
    labels = boats / "labels" / "train"
    (labels / "empty.jpg.txt").write_text("0 0.5 0.5 1 1")
    (labels / "a b.txt").write_text("5 0.5 0.5 0.2\n5 0.5 0.5 0.2 0.2\n0 0.5 0.5 1 1")
    (labels / "empty.txt").write_text("9 0.5 0.5 1 1")
    (labels / "nobody.txt").write_bytes(b"\xff\xfe0")
    done = convert("yolo", boats, split="train")
    # one bad box of a traffic light: it is not asked there, and its other box goes too
    assert done.answers()["images/train/a b.jpg"] == [{"bbox_2d": [0, 0, 640, 480], "label": "cat"}]
    assert done.dropped == {
        "box: without the finite numbers of its shape": 1,
        "box: its category is not boxed completely in the image": 1,
        "image: of another split": 1,
        "image: a line of its label file has no known category": 1,
        "image: its label file cannot be read": 1,
        "label file: without a picture": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("names: 3\ntrain: images/train", "names is 3, wanted a list of names", id="number of names"),
        pytest.param("names: {a: b}\ntrain: images/train", "names is {'a': 'b'}, wanted", id="names without numbers"),
        pytest.param("names: [cat\ntrain", "not valid YAML", id="no YAML"),
        pytest.param("names: &a [*a]", "not valid YAML", id="a circle"),
        pytest.param("names: !!python/object/apply:os.system [ls]", "not valid YAML", id="code"),
        pytest.param("names: [cat]\ntrain: ../../elsewhere", "no pictures for train", id="elsewhere"),
        pytest.param("names: [cat]\ntrain: images/train\nkpt_shape: [0]", "kpt_shape is [0], wanted", id="key points"),
    ],
)
def test_descriptions_that_cannot_be_used(convert, boats, text, message):
    describe(boats, text)
    with pytest.raises(DataError) as error:
        convert("yolo", boats)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_split_has_to_be_chosen(convert, boats):
    with pytest.raises(DataError, match=r"splits train \(4 pictures\), val \(1 picture\). Choose one by --split"):
        convert("yolo", boats)
    with pytest.raises(DataError, match=r"no picture is in the split 'test' \(--split\)"):
        convert("yolo", boats, split="test")
    assert [row["split"] for row in convert("yolo", boats, split="all").rows] == ["train", "train", "val"]


def test_one_box_a_record_for_rec(convert, boats):
    done = convert("yolo", boats, split="train", task="rec")
    assert done.task == "rec"
    assert done.answers() == {
        "images/train/a b.jpg-traffic light": [256, 72, 384, 168],
        "images/train/a b.jpg-cat": [0, 0, 640, 480],
        "images/train/猫 é.png-cat": [0, 0, 640, 480],
    }
    assert done.questions()["images/train/a b.jpg-cat"] == "cat"


def test_no_link_leads_out_unseen(convert, boats, tmp_path, picture_file):
    outside = picture_file(tmp_path / "outside" / "x.jpg")
    (boats / "images" / "train" / "x.jpg").symlink_to(outside)
    (boats / "labels" / "train" / "x.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(AssertionError):  # `data check` refuses the file, as the note says
        convert("yolo", boats, split="train")


def test_supervision_reads_the_same_boxes(convert, boats):
    """An independent reader of the same folder, where it does not refuse it: consecutive numbers of names."""
    supervision = pytest.importorskip("supervision")
    describe(boats, "train: images/train\nnames: [cat, b, c, d, e, traffic light]\n")
    lines = ["5 0.5 0.25 0.2 0.2", "0 0.413 0.377 0.1234 0.0771", "0 0.1 0.2 0.3 0.2 0.3 0.6"]
    (boats / "labels" / "train" / "a b.txt").write_text("\n".join(lines))
    done = convert("yolo", boats)
    images, labels = (str(boats / kind / "train") for kind in ("images", "labels"))
    read = supervision.DetectionDataset.from_yolo(images, labels, str(boats / "data.yaml"))
    found = read.annotations[f"{images}/a b.jpg"]
    theirs = sorted((read.classes[i], box.tolist()) for i, box in zip(found.class_id, found.xyxy, strict=True))
    ours = sorted((item["label"], item["bbox_2d"]) for item in done.answers()["images/train/a b.jpg"])
    assert [label for label, _ in ours] == [label for label, _ in theirs] == ["cat", "cat", "traffic light"]
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=0.006)  # ours are rounded to a hundredth
