"""One odd row of another tool's file is read, or dropped and counted with an example; it never refuses the file."""

import copy
import unicodedata

import pytest

GOOD = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 160, "height": 120} for i in (1, 2)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 50, 60]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [50, 30, 40, 40]},
        {"id": 3, "image_id": 2, "category_id": 7, "bbox": [100, 60, 40, 40]},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
}
POLYGON = [[10, 20, 60, 20, 60, 80]]
BOX = [10, 20, 60, 80]
"""Of the first annotation: 10 + 50 and 20 + 60; the polygon reaches as far."""

NO_BOX = "box: without a box of four numbers, and without a polygon"
MADE = "box made from a polygon, since there was none"
UNREAD = "image without a size in the annotations, read from its file"


@pytest.fixture
def coco(tmp_path, picture_file, json_file):
    """`coco(("images", 0, {"width": None}))`: the good file with keys of rows changed, beside its pictures."""
    for i in (1, 2):
        picture_file(tmp_path / "images" / f"{i}.jpg", (160, 120))

    def write(*changes):
        value = copy.deepcopy(GOOD)
        for where, i, more in changes:
            value[where][i] |= more
            value[where][i] = {key: new for key, new in value[where][i].items() if new is not ...}
        return json_file(tmp_path / "ann.json", value)

    return write


@pytest.mark.parametrize(
    ("more", "box", "told"),
    [
        pytest.param({"bbox": ["10", "20", "50.0", "60"]}, BOX, {}, id="texts of numbers"),
        pytest.param({"bbox": [10.0, 20.0, 50.0, 60.0], "segmentation": [[1, 2]]}, BOX, {}, id="the box goes first"),
        pytest.param({"bbox": [], "segmentation": POLYGON}, BOX, {MADE: 1}, id="empty, with a polygon"),
        pytest.param({"bbox": ..., "segmentation": POLYGON}, BOX, {MADE: 1}, id="missing, with a polygon"),
        pytest.param({"bbox": [float("nan")] * 4, "segmentation": [[], *POLYGON]}, BOX, {MADE: 1}, id="NaN, two parts"),
        pytest.param({"bbox": None, "segmentation": [[10, 20, 60, 20, "60", "80"]]}, BOX, {MADE: 1}, id="of texts"),
        pytest.param({"bbox": None}, None, {NO_BOX: 1}, id="null"),
        pytest.param({"bbox": ...}, None, {NO_BOX: 1}, id="missing"),
        pytest.param({"bbox": []}, None, {NO_BOX: 1}, id="empty"),
        pytest.param({"bbox": [10, 20, 50]}, None, {NO_BOX: 1}, id="three numbers"),
        pytest.param({"bbox": [10, 20, 50, 60, 45]}, None, {NO_BOX: 1}, id="five numbers: a turned box"),
        pytest.param({"bbox": "10,20,50,60"}, None, {NO_BOX: 1}, id="a text"),
        pytest.param({"bbox": [10, 20, 50, float("inf")]}, None, {NO_BOX: 1}, id="infinity"),
        pytest.param({"bbox": [10**400, 20, 50, 60]}, None, {NO_BOX: 1}, id="no float is so large"),
        pytest.param({"bbox": [True, 20, 50, 60]}, None, {NO_BOX: 1}, id="a truth value"),
        pytest.param({"bbox": [], "segmentation": []}, None, {NO_BOX: 1}, id="no polygon"),
        pytest.param({"bbox": [], "segmentation": [[]]}, None, {NO_BOX: 1}, id="empty polygon"),
        pytest.param({"bbox": [], "segmentation": [[10, 20, 60, 80]]}, None, {NO_BOX: 1}, id="two corners"),
        pytest.param(
            {"bbox": [], "segmentation": {"counts": "a3", "size": [9, 9]}}, None, {NO_BOX: 1}, id="run lengths"
        ),
        pytest.param({"bbox": [60, 20, -50, 60]}, None, {"box: of negative width or height": 1}, id="negative width"),
        pytest.param({"bbox": [10, 20, 0, 60]}, None, {"box: thinner than 1 px": 1}, id="no width"),
        pytest.param({"bbox": [1e308, 20, 1e308, 60]}, None, {"box: outside its image": 1}, id="far away"),
    ],
)
def test_boxes(convert, coco, more, box, told):
    """Where a cat has no box, cats are not asked of image 1; that there is no dog stays known."""
    done = convert("coco", coco(("annotations", 0, more)), mode="all")
    answer = done.answers()["ann-1"]
    assert answer == ("None" if box is None else [{"bbox_2d": box, "label": "cat"}])
    assert done.questions() == {"ann-1": "dog" if box is None else "cat, dog", "ann-2": "cat, dog"}
    assert done.dropped | done.tally.notes == told
    assert all("1.jpg" in text or "annotations[0]" in text for text in done.tally.examples.values())


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        *(
            pytest.param({"iscrowd": v}, "crowd region", id=f"iscrowd {v!r}")
            for v in (1, True, 1.0, "1", "true", "True")
        ),
        *(pytest.param({"iscrowd": v}, None, id=f"iscrowd {v!r}") for v in (0, False, 0.0, "0", "false", "", None)),
        *(
            pytest.param({"iscrowd": v}, "its iscrowd or ignore is neither 0 nor 1", id=f"iscrowd {v!r}")
            for v in (2, "yes", [1], float("nan"))
        ),
        pytest.param({"is_crowd": True}, "crowd region", id="is_crowd"),
        pytest.param({"iscrowd": 0, "isgroupof": "1"}, "crowd region", id="isgroupof, of Open Images"),
        pytest.param({"iscrowd": 0, "IsGroupOf": 0}, None, id="IsGroupOf 0"),
        pytest.param({"ignore": 1}, "marked as to be ignored", id="ignore"),
        pytest.param({"ignore": "0"}, None, id="not ignore"),
    ],
)
def test_crowds(convert, coco, mark, reason):
    done = convert("coco", coco(("annotations", 1, mark)))
    assert done.questions()["ann-2"] == ("cat, dog" if reason is None else "dog")
    assert done.dropped == ({} if reason is None else {f"box: {reason}": 1})


@pytest.mark.parametrize(
    ("sides", "noted"),
    [
        *(pytest.param(sides, 0, id=repr(sides)) for sides in (("160", "120"), (160.0, 120.0), ("160.0", 120))),
        *(
            pytest.param(sides, 1, id=repr(sides))
            for sides in ((..., 120), (None, None), (0, 0), (-160, 120), ("a", 1))
        ),
    ],
)
def test_sizes(convert, coco, sides, noted):
    done = convert("coco", coco(("images", 0, dict(zip(("width", "height"), sides, strict=True)))))
    assert (done.rows[0]["size"], done.answers()["ann-1"][0]["bbox_2d"]) == ([160, 120], BOX)
    assert done.tally.notes == ({UNREAD: noted} if noted else {})


NAME = "caf\u00e9 1.jpg"


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        pytest.param("sub\\1.jpg", "sub/1.jpg", id="Windows"),
        pytest.param(unicodedata.normalize("NFD", NAME), NAME, id="decomposed in the file"),
        pytest.param(NAME, unicodedata.normalize("NFD", NAME), id="decomposed on the disk"),
        pytest.param(f"caf\u00e9\\{NAME}", unicodedata.normalize("NFD", f"caf\u00e9/{NAME}"), id="both"),
    ],
)
def test_names_of_files(convert, coco, tmp_path, picture_file, written, on_disk):
    picture_file(tmp_path / "images" / on_disk, (160, 120))
    done = convert("coco", coco(("images", 0, {"file_name": written})), images=tmp_path / "images")
    assert done.rows[0]["image"] == on_disk
    assert len(done.rows) == 2


@pytest.mark.parametrize(
    "folder", ["images\\", "images/", "C:\\Users\\me\\set\\", "/home/me/set/", "\\\\host\\share\\set\\", "other/set/"]
)
def test_folders_of_another_machine(convert, coco, tmp_path, folder):
    """The folders that the names start with are not here: they are cut off, which is said."""
    path = coco(*(("images", i, {"file_name": f"{folder}{i + 1}.jpg"}) for i in (0, 1)))
    done = convert("coco", path, images=tmp_path / "images")
    assert [row["image"] for row in done.rows] == ["1.jpg", "2.jpg"]
    assert list(done.tally.notes) == ["folders cut off the beginning of the images' names"]


def test_no_folder_becomes_another(convert, coco, tmp_path, picture_file):
    """cats/1.jpg is not the 1.jpg of dogs/, though that is the folder given."""
    picture_file(tmp_path / "dogs" / "1.jpg", (160, 120))
    path = coco(("images", 0, {"file_name": "cats/1.jpg"}), ("images", 1, {"file_name": "dogs/1.jpg"}))
    done = convert("coco", path, images=tmp_path / "dogs")
    assert {row["id"]: row["image"] for row in done.rows} == {"ann-2": "1.jpg"}
    assert done.tally.examples["image", "image not found"] == str(tmp_path / "dogs" / "cats/1.jpg")


@pytest.mark.parametrize(
    ("more", "dropped"),
    [
        pytest.param({"file_name": ...}, "image: without a file name", id="no name"),
        pytest.param({"file_name": 3}, "image: without a file name", id="a number"),
        pytest.param({"file_name": "gone.jpg"}, "image: image not found", id="missing file"),
        pytest.param({"file_name": "data:image/png;base64," + "A" * 100_000}, "image: image not found", id="data URI"),
    ],
)
def test_images(convert, coco, tmp_path, more, dropped):
    done = convert("coco", coco(("images", 0, more)), images=tmp_path / "images")
    assert set(done.answers()) == {"ann-2"}
    assert done.dropped == {dropped: 1}
    assert all(0 < len(text) < 400 for text in done.tally.examples.values())


@pytest.mark.parametrize(
    ("where", "dropped"),
    [
        ("images", "image: without an id"),
        ("annotations", "annotation: empty"),
        ("categories", "category: without an id"),
    ],
)
def test_rows_of_nothing(convert, coco, json_file, where, dropped):
    plain = convert("coco", coco()).text
    done = convert("coco", json_file(coco(), {**GOOD, where: [*GOOD[where], None]}))
    assert (done.text, done.dropped) == (plain, {dropped: 1})


def test_an_object_annotated_twice(convert, coco, json_file):
    """The same box and category: one is kept. Another box, or another category, is another object."""
    again = [{**GOOD["annotations"][0], "id": 9}, {**GOOD["annotations"][0], "id": 10, "category_id": 7}]
    done = convert("coco", json_file(coco(), {**GOOD, "annotations": [*GOOD["annotations"], *again]}))
    assert done.answers()["ann-1"] == [{"bbox_2d": BOX, "label": "cat"}, {"bbox_2d": BOX, "label": "dog"}]
    assert done.dropped == {"box: annotated twice, with the same category and box": 1}


@pytest.mark.parametrize(
    ("category", "asked"),
    [
        pytest.param({"id": 9, "name": "pets", "supercategory": "none"}, "cat, dog", id="a root without boxes"),
        pytest.param({"id": 8, "name": "pets", "supercategory": "none"}, "cat, dog, pets", id="a parent with boxes"),
    ],
)
def test_a_category_that_others_name_as_theirs(convert, coco, json_file, category, asked):
    path = coco(("categories", 0, {"supercategory": "pets"}), ("categories", 1, {"supercategory": "pets"}))
    boxes = [*GOOD["annotations"]] + [{**GOOD["annotations"][1], "id": 4, "category_id": 8}] * (category["id"] == 8)
    value = {**GOOD, "annotations": boxes, "categories": [{**c, "supercategory": "pets"} for c in GOOD["categories"]]}
    value["categories"].append(category)
    assert convert("coco", json_file(path, value), mode="all").questions()["ann-2"] == asked


def test_names_with_commas(convert, coco):
    done = convert("coco", coco(("categories", 0, {"name": "bowl, ceramic"})), mode="all")
    assert done.questions()["ann-1"] == '"bowl, ceramic", dog'
    assert done.rows[0]["targets"] == ["bowl, ceramic", "dog"]
    assert done.answers()["ann-1"][0]["label"] == "bowl, ceramic"
    assert done.tally.notes == {"question with a name in quotes, since it holds a comma": 2}
    assert list(done.tally.examples.values()) == ["bowl, ceramic"]


def test_rows_of_other_layouts(convert, tmp_path, picture_file, json_file):
    """ScreenSpot, PixMo-Count, ReasonSeg and OVDEval: a good row stays beside one that cannot be read."""
    picture_file(tmp_path / "1.jpg", (160, 120))
    click = {"img_filename": "1.jpg", "bbox": BOX, "instruction": "ok"}
    done = convert("screenspot", json_file(tmp_path / "screenspot_web.json", [{**click, "bbox": None}, click, 3]))
    assert (len(done.rows), done.dropped) == (1, {"instruction: cannot be read": 2})
    count = {"label": "cats", "count": 3.0, "image_url": "http://a/1.jpg"}
    bad = [{**count, "count": n} for n in (None, 1.5, -1, float("nan"))]
    done = convert("pixmo-count", json_file(tmp_path / "count.json", [{**count, "count": "2"}, *bad, count]))
    assert (list(done.answers().values()), done.dropped) == ([2, 3], {"row: cannot be read": 4})
    assert "[1].count: got None" in done.tally.examples["row", "cannot be read"]
    shape = {"label": "target", "points": [[10, 20], [60, 20], [60, 80]]}
    for name, shapes in (
        ("a", [shape]),
        ("b", [{**shape, "points": [["x", 1]]}]),
        ("c", [shape, {**shape, "points": []}]),
    ):
        picture_file(tmp_path / "val" / f"{name}.jpg", (160, 120))
        json_file(tmp_path / "val" / f"{name}.json", {"text": ["it"], "shapes": shapes})
    done = convert("reasonseg", tmp_path / "val")
    assert (list(done.answers()), done.dropped) == (
        ["a-0", "c-0"],
        {"file: cannot be read": 1, "region: empty, or wholly ignored": 1},
    )
    images = [{**row, "file_name": "1.jpg", "text": ["cat"], "neg_text": ["cow"]} for row in GOOD["images"]]
    value = {**GOOD, "images": [images[0], {**images[1], "neg_text": 3}], "annotations": GOOD["annotations"][:1]}
    done = convert("ovdeval", json_file(tmp_path / "color.json", value))
    assert (done.questions(), done.dropped) == (
        {"color-1": "cat, cow"},
        {"image: its lists of names cannot be read": 1},
    )
