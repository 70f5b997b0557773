"""COCO instances, in the layout of instances_val2017.json."""

import json

import pytest

from vlm_r1.errors import ConfigError, DataError

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "outdoor", "id": 10, "name": "traffic light"},
]


def image(id_, wh=(640, 480)):
    return {
        "license": 4,
        "file_name": f"{id_:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/val2017/{id_:012d}.jpg",
        "width": wh[0],
        "height": wh[1],
        "id": id_,
    }


def annotation(id_, image_id, category_id, bbox, iscrowd=0):
    segmentation = {"counts": [1, 2], "size": [4, 4]} if iscrowd else [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    return {
        "segmentation": segmentation,
        "area": 702.1,
        "iscrowd": iscrowd,
        "image_id": image_id,
        "bbox": bbox,
        "category_id": category_id,
        "id": id_,
    }


ANNOTATIONS = [
    annotation(1, 139, 17, [10.0, 20.0, 100.0, 200.0]),
    annotation(2, 139, 1, [236.98, 142.51, 24.7, 69.5]),
    annotation(3, 139, 1, [300, 0, 50, 60]),
    annotation(4, 285, 18, [0, 0, 640, 480]),
    annotation(900100000005, 285, 1, [0, 0, 100, 100], iscrowd=1),
    annotation(6, 285, 1, [5, 5, 50, 90]),
    annotation(7, 724, 10, [1, 2, 0.4, 30]),
]


@pytest.fixture
def coco(tmp_path, picture_file, json_file):
    """The folder coco/ with annotations/ and val2017/; the image 632 is missing, 724 has one useless box."""
    folder = tmp_path / "coco"
    for id_ in (139, 285, 724):
        picture_file(folder / "val2017" / f"{id_:012d}.jpg")
    images = [image(139), image(285), image(632), image(724)]
    value = {"info": {}, "licenses": [], "images": images, "annotations": ANNOTATIONS, "categories": CATEGORIES}
    return json_file(folder / "annotations" / "instances_val2017.json", value)


def test_the_lines(convert, coco):
    done = convert("coco", coco)
    assert done.task == "ovd"
    assert done.image_root == coco.parent.parent / "val2017"
    # 236.98 + 24.7 = 261.68 and 142.51 + 69.5 = 212.01
    assert done.rows[0] == {
        "id": "instances_val2017-139",
        "image": "000000000139.jpg",
        "conversations": [
            {"from": "human", "value": "<image>cat, person"},
            {
                "from": "gpt",
                "value": [
                    {"bbox_2d": [10, 20, 110, 220], "label": "cat"},
                    {"bbox_2d": [236.98, 142.51, 261.68, 212.01], "label": "person"},
                    {"bbox_2d": [300, 0, 350, 60], "label": "person"},
                ],
            },
        ],
        "size": [640, 480],
        "targets": ["cat", "person"],
    }
    assert done.questions() == {"instances_val2017-139": "cat, person", "instances_val2017-285": "dog"}
    assert done.tally.kept == {"record": 2, "box": 4, "record with the answer None": 0}
    assert done.dropped == {
        "box: crowd region": 1,
        "box: its category is not boxed completely in the image": 1,
        "box: thinner than 1 px": 1,
        "image: image not found": 1,
        "image: nothing to ask": 1,
    }


def test_modes(convert, coco):
    everything = convert("coco", coco, mode="all")
    # of 285 the crowd of persons is not boxed, of 724 the traffic light is not
    assert everything.questions() == {
        "instances_val2017-139": "person, cat, dog, traffic light",
        "instances_val2017-285": "cat, dog, traffic light",
        "instances_val2017-724": "person, cat, dog",
    }
    assert everything.answers()["instances_val2017-724"] == "None"
    single = convert("coco", coco, mode="one-box")
    assert single.questions() == {"instances_val2017-139": "cat", "instances_val2017-285": "dog"}
    assert single.dropped["box: one of several of its category in the image (mode one-box)"] == 2


def test_negatives_are_absent(convert, coco):
    done = convert("coco", coco, negatives=(2, 2))
    targets = {row["id"]: set(row["targets"]) for row in done.rows}
    assert targets == {
        "instances_val2017-139": {"cat", "person", "dog", "traffic light"},
        "instances_val2017-285": {"dog", "cat", "traffic light"},
        "instances_val2017-724": targets["instances_val2017-724"],
    }
    assert targets["instances_val2017-724"] < {"person", "cat", "dog"}
    assert done.text == convert("coco", coco, negatives=(2, 2)).text
    assert done.text != convert("coco", coco, negatives=(2, 2), seed=1).text


def test_the_filtered_policy(convert, tmp_path, picture_file, json_file):
    """11 persons are more than 10 and are not asked; the 10 cats are."""
    picture_file(tmp_path / "val2017" / f"{1:012d}.jpg")
    boxes = [annotation(i, 1, 1, [i, i, 20, 20]) for i in range(11)]
    boxes += [annotation(20 + i, 1, 17, [i, i, 20, 20]) for i in range(10)]
    value = {"images": [image(1)], "annotations": boxes, "categories": CATEGORIES}
    path = json_file(tmp_path / "annotations" / "instances_val2017.json", value)
    filtered = convert("coco", path, policy="coco_filtered")
    assert (filtered.rows[0]["targets"], filtered.tally.kept["box"]) == (["cat"], 10)
    for policy in ("coco_pos_2", "coco_pos_3"):
        with pytest.raises(DataError, match="no record is left"):
            convert("coco", path, policy=policy)


@pytest.mark.parametrize(
    ("stored_wh", "exif", "verify", "kept"),
    [
        pytest.param((640, 480), 1, True, [10, 20, 110, 220], id="as annotated"),
        # annotated 640×480 as stored, shown 480×640: (x, y) → (480 − y, x)
        pytest.param((640, 480), 6, True, [260, 10, 460, 110], id="stored lying down"),
        pytest.param((480, 640), 6, True, [10, 20, 110, 220], id="annotated upright"),
        pytest.param((480, 640), 1, True, "image is not of the size that the annotations say", id="another size"),
        pytest.param((640, 480), 6, False, [10, 20, 110, 220], id="the annotations are believed"),
    ],
)
def test_sizes_of_the_files(convert, tmp_path, picture_file, json_file, stored_wh, exif, verify, kept):
    for id_ in (1, 2):
        picture_file(
            tmp_path / "val2017" / f"{id_:012d}.jpg", stored_wh if id_ == 1 else (640, 480), exif * (id_ == 1) or 1
        )
    boxes = [annotation(1, 1, 17, [10, 20, 100, 200]), annotation(2, 2, 18, [0, 0, 9, 9])]
    value = {"images": [image(1), image(2)], "annotations": boxes, "categories": CATEGORIES}
    done = convert("coco", json_file(tmp_path / "annotations" / "instances_val2017.json", value), verify=verify)
    answer = done.answers().get("instances_val2017-1")
    assert (answer[0]["bbox_2d"] if answer else next(iter(done.dropped)).partition(": ")[2]) == kept


def test_unreadable_images_are_found_when_verified(convert, coco):
    (coco.parent.parent / "val2017" / f"{139:012d}.jpg").write_text("no image")
    assert convert("coco", coco, verify=True).dropped["image: image cannot be read"] == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(["images"], "x", "instances_val2017.json: images: got 'x', wanted a list", id="no list"),
        pytest.param(["categories", 2, "name"], " ", r"categories\[2\].name: got ' ', wanted a name", id="no category"),
    ],
)
def test_bad_files_are_named(convert, coco, path, value, message):
    tree = node = json.loads(coco.read_text())
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    coco.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        convert("coco", coco)


def test_images_elsewhere(convert, coco):
    folder = coco.parent.parent
    (folder / "val2017").rename(folder / "pictures")
    with pytest.raises(DataError, match=r"no 000000000139.jpg in .*val2017.*Name their folder by --images"):
        convert("coco", coco)
    assert len(convert("coco", coco, images=folder / "pictures").rows) == 2
    with pytest.raises(DataError, match="no such folder of images"):
        convert("coco", coco, images=folder / "nowhere")


def test_nothing_is_written_when_it_fails(convert, coco, tmp_path):
    out = tmp_path / "a.jsonl"
    out.write_text("the old file")
    with pytest.raises(DataError, match=r"no record is left. Dropped: 2 × image: more than 0 boxes"):
        convert("coco", coco, max_boxes=0, out=out)
    assert out.read_text() == "the old file"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.jsonl"]


def test_policy_and_limit(convert, coco):
    with pytest.raises(ConfigError, match="--policy coco_filtered sets the limits"):
        convert("coco", coco, policy="coco_filtered", max_boxes=3)


@pytest.fixture
def exports(tmp_path, picture_file, json_file):
    """Folders as Roboflow and as CVAT or COCO lay them out, each with a cat in two splits."""
    for split, inner, images in (
        ("train", "rf/train/_annotations.coco.json", "rf/train"),
        ("valid", "rf/valid/_annotations.coco.json", "rf/valid"),
        ("val", "cv/annotations/instances_val.json", "cv/images/val"),
        ("default", "one/annotations/instances_default.json", "one/images/default"),
    ):
        picture_file(tmp_path / images / f"{split}.jpg")
        value = {
            "images": [{"id": 1, "file_name": f"{split}.jpg", "width": 640, "height": 480}],
            "annotations": [annotation(1, 1, 17, [10, 20, 100, 200])],
            "categories": CATEGORIES,
        }
        json_file(tmp_path / inner, value)
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "split", "image"),
    [
        pytest.param("rf", "train", "train.jpg", id="Roboflow"),
        pytest.param("rf", "val", "valid.jpg", id="its valid is val"),
        pytest.param("cv", None, "val.jpg", id="the only file"),
        pytest.param("one", None, "default.jpg", id="CVAT's images/default"),
    ],
)
def test_a_folder_instead_of_a_file(convert, exports, folder, split, image):
    done = convert("coco", exports / folder, **({"split": split} if split else {}))
    assert [row["image"] for row in done.rows] == [image]


def test_which_file_of_a_folder(convert, exports):
    with pytest.raises(DataError, match=r"it has 2 files \(of train/_annotations.coco.json, valid/_anno.*by --split"):
        convert("coco", exports / "rf")
    with pytest.raises(DataError, match="0 files for --split test"):
        convert("coco", exports / "rf", split="test")
    with pytest.raises(ConfigError, match=r"--split train has no effect: .* is one file"):
        convert("coco", exports / "rf" / "train" / "_annotations.coco.json", split="train")


def test_one_box_a_record_for_rec(convert, coco):
    """The person stands twice in image 139, so it cannot be told from the name which one is meant."""
    done = convert("coco", coco, task="rec")
    assert done.task == "rec"
    assert done.answers() == {
        "instances_val2017-139-cat": [10, 20, 110, 220],
        "instances_val2017-285-dog": [0, 0, 640, 480],
    }
    assert done.dropped["box: one of several of its category in the image (task rec)"] == 2
    assert done.dropped["image: without a category of exactly one box"] == 1


@pytest.mark.parametrize("options", [{"mode": "all"}, {"mode": "one-box"}, {"negatives": (1, 3)}])
def test_options_without_effect_on_rec(convert, coco, options):
    with pytest.raises(ConfigError, match="--task rec asks for one thing that is there, so --mode and --negatives"):
        convert("coco", coco, task="rec", **options)
