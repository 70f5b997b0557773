"""Label Studio's exports: percent, rotation, whose annotation counts, and where its pictures are."""

import pytest

from vlm_r1.errors import DataError


def region(value=None, kind="rectanglelabels", labels=("cat",), id_="r1", wh=(640, 480), **more):
    value = {"x": 10, "y": 20, "width": 50, "height": 25, "rotation": 0} if value is None else value
    return {
        "id": id_,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": wh[0],
        "original_height": wh[1],
        "image_rotation": 0,
        "value": {**value, **({kind: list(labels)} if labels else {})},
        **more,
    }


def task(*regions, image="/data/upload/1/1a2b3c4d-a.jpg", **more):
    annotation = {"id": 1, "was_cancelled": False, "ground_truth": False, "result": list(regions)}
    return {"id": 7, "data": {"image": image}, "annotations": [annotation], "predictions": [], **more}


CAT = [{"bbox_2d": [64, 96, 384, 216], "label": "cat"}]
"""On 640x480: x 10 % = 64, y 20 % = 96, width 50 % = 320, height 25 % = 120."""


@pytest.fixture
def lay(tmp_path, picture_file, json_file):
    def write(*tasks, pictures=("1a2b3c4d-a.jpg",)):
        for name in pictures:
            picture_file(tmp_path / "ls" / "images" / name)
        return json_file(tmp_path / "ls" / "project-1.json", list(tasks))

    return write


def test_the_lines(convert, lay):
    path = lay(task(region()))
    done = convert("label-studio", path)
    assert (done.answers(), done.task) == ({"1a2b3c4d-a.jpg": CAT}, "ovd")
    assert convert("label-studio", path.parent).answers() == done.answers()


@pytest.mark.parametrize(
    ("image", "picture", "found"),
    [
        pytest.param("/data/upload/3/1a2b3c4d-a.jpg", "a.jpg", "a.jpg", id="uploaded, its own name"),
        pytest.param("/data/local-files/?d=set/b%20c.jpg", "set/b c.jpg", "set/b c.jpg", id="local files"),
        pytest.param("/data/local-files/?d=set%5Cb.jpg", "b.jpg", "b.jpg", id="local files of Windows"),
        pytest.param("s3://bucket/x/a.jpg", "a.jpg", "a.jpg", id="a bucket, fetched"),
        pytest.param("https://example.org/a%20b.jpg?token=1", "a b.jpg", "a b.jpg", id="a URL, fetched"),
    ],
)
def test_where_the_picture_is(convert, lay, image, picture, found):
    done = convert("label-studio", lay(task(region(), image=image), pictures=[picture]))
    ((name, answer),) = done.answers().items()
    assert name.endswith(found)
    assert answer == CAT


def test_a_url_is_kept(convert, lay):
    url = "https://example.org/z.jpg"
    done = convert("label-studio", lay(task(region(), image=url), task(image="https://example.org/y.jpg")))
    assert done.answers() == {url: CAT}
    assert done.dropped == {"image: image at a URL without a size in the annotations": 1}


def test_two_uploads_of_one_name_are_not_mixed(convert, lay):
    tasks = [task(region(), image=f"/data/upload/1/{n}a2b3c4d-a.jpg") for n in (1, 2)]
    done = convert("label-studio", lay(*tasks, task(region(), image="b.jpg"), pictures=["a.jpg", "b.jpg"]))
    assert done.answers() == {"b.jpg": CAT}
    assert sum(done.dropped.values()) == 2


BRUSH = region({"format": "rle", "rle": [1, 2]}, "brushlabels")


@pytest.mark.parametrize(
    ("one", "box"),
    [
        # 64 x 48 px at (320, 240), turned by 90° about this corner: x 320 − 48 … 320, y 240 … 240 + 64
        pytest.param(
            region({"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90}), [272, 240, 320, 304], id="turned"
        ),
        pytest.param(
            region({"points": [[10, 20], [60, 30], [30, 45]]}, "polygonlabels"), [64, 96, 384, 216], id="polygon"
        ),
        pytest.param(
            region({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}, "ellipselabels"),
            [256, 144, 384, 336],
            id="ellipse",
        ),
        pytest.param(BRUSH, "a brush stroke or a key point, not a box", id="brush"),
        pytest.param(
            region({"x": 1, "y": 2, "width": 0.3}, "keypointlabels"),
            "a brush stroke or a key point, not a box",
            id="point",
        ),
        pytest.param(
            region({"x": 1, "y": None, "width": 3, "height": 3}), "without the finite numbers of its shape", id="null"
        ),
        pytest.param(region({"x": 1, "y": 1, "width": -3, "height": 3}), "of negative width or height", id="negative"),
    ],
)
def test_regions(convert, lay, one, box):
    done = convert("label-studio", lay(task(one, region(labels=["dog"], id_="r2"))))
    ((_, answer),) = done.answers().items()
    assert [item["bbox_2d"] for item in answer if item["label"] == "cat"] == ([box] if isinstance(box, list) else [])
    assert done.dropped == ({} if isinstance(box, list) else {f"box: {box}": 1})


def test_shape_and_label_in_two_results(convert, lay):
    shape = region(kind="rectangle", labels=None)
    label = region(kind="labels", labels=["cat"])
    done = convert("label-studio", lay(task(shape, label, region({"choices": ["day"]}, "choices", None, "r9"))))
    assert done.answers() == {"1a2b3c4d-a.jpg": CAT}
    assert done.dropped == {"answer: of the whole picture, not of a region": 1}


def annotation(*regions, **more):
    return {"result": list(regions), **more}


OTHER = region(labels=["dog"])


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param([annotation(OTHER, was_cancelled=True), annotation(region())], "cat", id="one was skipped"),
        pytest.param([annotation(OTHER), annotation(region(), ground_truth=True)], "cat", id="one is the truth"),
        pytest.param([annotation(OTHER), annotation(region())], "annotated several times", id="two"),
        pytest.param([annotation(region(), was_cancelled=True)], "not annotated", id="skipped"),
        pytest.param([], "not annotated", id="none"),
    ],
)
def test_whose_annotation_counts(convert, lay, annotations, expected):
    own = task(annotations=annotations, predictions=[annotation(OTHER)])
    other = task(region(), image="b.jpg")
    done = convert("label-studio", lay(own, other, pictures=["1a2b3c4d-a.jpg", "b.jpg"]))
    labels = {id_: answer[0]["label"] for id_, answer in done.answers().items()}
    if expected == "cat":
        assert labels == {"1a2b3c4d-a.jpg": "cat", "b.jpg": "cat"}
    else:
        assert labels == {"b.jpg": "cat"}
        assert any(expected in reason for reason in done.dropped)
    assert done.dropped["prediction: of a model, not of an annotator"] == 1


def test_other_exports(convert, lay):
    """JSON-MIN has the regions under the name of their tag, and exports of before 2021 call annotations completions."""
    plain = {**region()["value"], "original_width": 640, "original_height": 480}
    short = {"image": "/data/upload/1/1a2b3c4d-a.jpg", "id": 7, "label": [plain], "annotation_id": 3}
    empty = {"image": "b.jpg", "id": 8, "annotation_id": 4}
    old = {"id": 1, "data": {"image": "c.jpg"}, "completions": [annotation(region())]}
    done = convert("label-studio", lay(short, empty, old, pictures=["1a2b3c4d-a.jpg", "b.jpg", "c.jpg"]), mode="all")
    assert done.answers() == {"1a2b3c4d-a.jpg": CAT, "b.jpg": "None", "c.jpg": CAT}


def test_files_of_others(convert, tmp_path, json_file):
    with pytest.raises(DataError, match="wanted a list of tasks: export JSON or JSON-MIN"):
        convert("label-studio", json_file(tmp_path / "a.json", {"images": []}))
    with pytest.raises(DataError, match="no pictures with labels were found"):
        convert("label-studio", json_file(tmp_path / "a.json", [3, {}, {"data": {"text": "x"}}]))


@pytest.mark.parametrize("image", ["", "http://[", " ", 3, None])
def test_no_picture(convert, lay, image):
    done = convert("label-studio", lay(task(region(), image=image), task(region(), image="b.jpg"), pictures=["b.jpg"]))
    assert done.answers() == {"b.jpg": CAT}
    assert sum(done.dropped.values()) == 1
