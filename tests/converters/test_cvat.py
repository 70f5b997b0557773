"""CVAT for images 1.1: boxes, turned boxes, polygons, masks, subsets; tracks of videos are left out."""

import pytest

from vlm_r1.errors import DataError

BOX = '<box label="cat" occluded="0" source="manual" xtl="10" ytl="20" xbr="110" ybr="220" z_order="0"></box>'
CAT = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]
META = (
    "<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task>"
    "<dumped>2026-01-01</dumped></meta>"
)


NO_NUMBERS = "without the finite numbers of its shape"


def image(*shapes, name="a.jpg", wh=(640, 480), more=""):
    return f'<image id="0" name="{name}" width="{wh[0]}" height="{wh[1]}" {more}>{"".join(shapes)}</image>'


@pytest.fixture
def lay(tmp_path, picture_file):
    def write(*children, pictures=("images/a.jpg",)):
        for name in pictures:
            picture_file(tmp_path / "cvat" / name)
        path = tmp_path / "cvat" / "annotations.xml"
        path.write_text(f"<?xml version='1.0' encoding='utf-8'?><annotations>{META}{''.join(children)}</annotations>")
        return path

    return write


def test_the_lines(convert, lay):
    path = lay(image(BOX), image(name="b c.jpg"), pictures=("images/a.jpg", "images/b c.jpg"))
    done = convert("cvat", path, negatives=(1, 1))
    assert done.answers() == {"a.jpg": CAT, "b c.jpg": "None"}
    assert done.rows[0]["targets"] in (["cat", "dog"], ["dog", "cat"])
    assert done.image_root == path.parent / "images"
    assert convert("cvat", path.parent).answers() == {"a.jpg": CAT}  # the folder, and nothing to ask of the other


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        # 40 x 20 about its centre (100, 100), a quarter turn: 20 x 40
        pytest.param(
            '<box label="cat" xtl="80" ytl="90" xbr="120" ybr="110" rotation="90.0"/>', [90, 80, 110, 120], id="90°"
        ),
        # by 30° clockwise: half width 20 cos 30° + 10 sin 30° = 22.32, half height 20 sin 30° + 10 cos 30° = 18.66
        pytest.param(
            '<box label="cat" xtl="80" ytl="90" xbr="120" ybr="110" rotation="30"/>',
            [77.68, 81.34, 122.32, 118.66],
            id="30°",
        ),
        pytest.param('<polygon label="cat" points="10.5,20;110,30;50,220"/>', [10.5, 20, 110, 220], id="polygon"),
        pytest.param('<ellipse label="cat" cx="100" cy="100" rx="40" ry="20"/>', [60, 80, 140, 120], id="ellipse"),
        pytest.param(
            '<ellipse label="cat" cx="100" cy="100" rx="40" ry="20" rotation="270"/>', [80, 60, 120, 140], id="on end"
        ),
        pytest.param(
            '<mask label="cat" rle="1, 2" left="10" top="20" width="100" height="200"/>', [10, 20, 110, 220], id="mask"
        ),
        pytest.param('<points label="cat" points="1,2"/>', "a shape without an area (points, polyline)", id="point"),
        pytest.param(
            '<polyline label="cat" points="1,2;3,4;5,6"/>', "a shape without an area (points, polyline)", id="line"
        ),
        pytest.param('<cuboid label="cat" xtl1="1"/>', "a shape that is not read (cuboid, skeleton)", id="cuboid"),
        pytest.param('<box label="cat" xtl="9" ytl="9" xbr="5" ybr="50"/>', "of negative width or height", id="order"),
        pytest.param('<box label="cat" xtl="9" ytl="9" xbr="inf" ybr="50"/>', NO_NUMBERS, id="inf"),
        pytest.param('<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9" rotation="x"/>', NO_NUMBERS, id="no angle"),
        pytest.param('<polygon label="cat" points="1,2;3"/>', NO_NUMBERS, id="half a point"),
    ],
)
def test_shapes(convert, lay, shape, box):
    done = convert("cvat", lay(image(shape, '<box label="dog" xtl="0" ytl="0" xbr="9" ybr="9"/>')))
    found = [item["bbox_2d"] for item in done.answers()["a.jpg"] if item["label"] == "cat"]
    assert found == ([box] if isinstance(box, list) else [])
    assert done.dropped == ({} if isinstance(box, list) else {f"box: {box}": 1})


def test_subsets_are_splits(convert, lay):
    rows = [image(BOX, more='subset="Train"'), image(BOX, name="b.jpg", more='subset="Validation"')]
    path = lay(*rows, pictures=("images/Train/a.jpg", "images/b.jpg"))
    assert convert("cvat", path, split="val").answers() == {"b.jpg": CAT}
    assert convert("cvat", path, split="train").answers() == {"Train/a.jpg": CAT}


def test_tracks_are_counted(convert, lay):
    track = f'<track id="0" label="cat">{BOX}</track>'
    done = convert("cvat", lay(image(BOX), track, track))
    assert done.answers() == {"a.jpg": CAT}
    assert sum(n for reason, n in done.dropped.items() if reason.startswith("track: of a video")) == 2
    with pytest.raises(DataError, match="holds 2 tracks of a video and no images"):
        convert("cvat", lay(track, track))


def test_flags_and_sizes(convert, lay):
    rows = [image(BOX.replace('occluded="0"', 'occluded="1"')), image(BOX, name="b.jpg", wh=(64, 48))]
    done = convert("cvat", lay(*rows, pictures=("images/a.jpg", "images/b.jpg")))
    assert done.answers() == {"a.jpg": CAT}
    assert done.dropped == {"image: image is not of the size that the annotations say": 1}
    assert list(done.tally.notes) == ["box of an object that is partly covered"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("<annotation/>", "wanted another folder or format|no pictures with labels", id="VOC's, empty"),
        pytest.param("<annotation><object/></annotation>", "the root element is <annotation>", id="VOC's"),
        pytest.param("<annotations/>", "no pictures with labels were found", id="empty"),
    ],
)
def test_files_of_others(convert, tmp_path, text, message):
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        convert("cvat", tmp_path)
