"""Gold boxes in other units and on images that lie on their side, compared with painted pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vlm_r1.data.coordinates import Units, to_corners, to_pixels, upright_box, upright_point
from vlm_r1.data.images import image_orientation, load_image
from vlm_r1.errors import DataError


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_painted_box_is_found_where_the_converted_box_says(tmp_path, orientation):
    stored = Image.new("RGB", (40, 24), "white")
    stored.paste("red", (4, 2, 15, 9))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(tmp_path / "a.png", exif=exif)

    red = np.asarray(load_image(tmp_path / "a.png"))[:, :, 1] == 0
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    painted = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)  # edges: a pixel ends where the next begins

    assert image_orientation(tmp_path / "a.png") == orientation
    assert upright_box((4, 2, 15, 9), stored.size, orientation) == painted


def test_by_hand():
    # 100x50, to be turned clockwise (6): what is 10 from the left lies 10 from the top, what is 5 from the top lies
    # 5 from the right of the new width 50
    assert upright_point((10, 5), (100, 50), 6) == (50 - 5, 10)
    # upside down (3): 10 from the left is 10 from the right
    assert upright_point((10, 5), (100, 50), 3) == (100 - 10, 50 - 5)


INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


@given(
    st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(sorted(INVERSE)),
)
def test_turning_back_gives_the_box_and_keeps_its_area(corners, orientation):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    turned = upright_box((x1, y1, x2, y2), (100, 200), orientation)
    upright_wh = (200, 100) if orientation >= 5 else (100, 200)
    assert (turned[2] - turned[0]) * (turned[3] - turned[1]) == (x2 - x1) * (y2 - y1)
    assert upright_box(turned, upright_wh, INVERSE[orientation]) == (x1, y1, x2, y2)


WH = (640, 480)  # 0.1 of it: 64 and 48


@pytest.mark.parametrize(
    ("answer", "unit", "expected"),
    [
        pytest.param([100, 200, 300, 400], "norm_1000", [64, 96, 192, 192], id="box"),
        pytest.param([0.1, 0.2, 0.3, 0.4], "norm_1", [64, 96, 192, 192], id="box, 0 to 1"),
        pytest.param([1, 2, 3, 4], "pixels", [1, 2, 3, 4], id="box in pixels"),
        pytest.param([500, 500], "norm_1000", [320, 240], id="point"),
        pytest.param([[0, 0, 1, 1], [0, 0, 0.5, 0.5]], "norm_1", [[0, 0, 640, 480], [0, 0, 320, 240]], id="boxes"),
        pytest.param([], "norm_1", [], id="no boxes"),
        pytest.param(
            [{"bbox_2d": [0, 0, 1, 1], "label": "7 up"}],
            "norm_1",
            [{"bbox_2d": [0, 0, 640, 480], "label": "7 up"}],
            id="labelled",
        ),
        pytest.param({"bbox": [0, 0, 1, 1]}, "norm_1", {"bbox": [0, 0, 640, 480]}, id="one object"),
        pytest.param({"point_2d": [1, 1]}, "norm_1", {"point_2d": [640, 480]}, id="object with a point"),
        pytest.param("[0, 0, 1000, 500]", "norm_1000", [0, 0, 640, 240], id="JSON text"),
        pytest.param(
            '```json\n[{"bbox_2d": [0, 0, 1, 1]}]\n```', "norm_1", [{"bbox_2d": [0, 0, 640, 480]}], id="fenced"
        ),
        pytest.param("None", "norm_1", "None", id="None"),
        pytest.param([300, 400, 100, 200], "norm_1000", [64, 96, 192, 192], id="swapped corners are put in order"),
    ],
)
def test_to_pixels(answer, unit, expected):
    assert to_pixels(answer, Units(WH, unit)) == expected


def test_scaled_on_the_stored_image_then_turned():
    # stored 640x480, turned clockwise to 480x640: [64, 96, 192, 192] → x: 480 − 192 … 480 − 96, y: 64 … 192
    assert to_pixels([100, 200, 300, 400], Units(WH, "norm_1000", 6)) == [288, 64, 384, 192]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(3, id="a count"),
        pytest.param(True, id="a boolean"),
        pytest.param(None, id="null"),
        pytest.param([1, 2, 3], id="three numbers"),
        pytest.param([1, 2, 3, True], id="a boolean among the numbers"),
        pytest.param([1, 2, 3, float("inf")], id="infinite"),
        pytest.param([[1, 2, 3, 4], 5], id="a number beside a box"),
        pytest.param([{"label": "cat"}], id="an object without box"),
        pytest.param({"bbox_2d": [1, 2]}, id="two numbers as a box"),
        pytest.param("the box (1, 2), (3, 4)", id="a text with numbers"),
        pytest.param("[" * 100_000 + "1", id="nested too deep"),
    ],
)
def test_numbers_that_may_be_no_box_are_refused(answer):
    with pytest.raises(DataError, match="holds something else than boxes") as raised:
        to_pixels(answer, Units(WH, "norm_1000"))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("box", "numbers", "expected"),
    [
        pytest.param("xyxy", [10, 20, 110, 220], (10, 20, 110, 220), id="two corners"),
        pytest.param("xywh", [10, 20, 100, 200], (10, 20, 110, 220), id="10 + 100, 20 + 200"),
        pytest.param("cxcywh", [60, 120, 100, 200], (10, 20, 110, 220), id="60 ± 50, 120 ± 100"),
        pytest.param("cxcywh", [0.5, 0.5, 1, 1], (0, 0, 1, 1), id="the whole image"),
        pytest.param("xywh", [10, 20, 0, 0], (10, 20, 10, 20), id="no area"),
    ],
)
def test_four_numbers_become_corners(box, numbers, expected):
    assert to_corners(numbers, box) == expected


def test_boxes_of_other_numbers_are_converted_wherever_they_stand():
    """On 640x480: x 0.1 · 640 = 64, y 0.2 · 480 = 96, width 0.3 · 640 = 192, height 0.4 · 480 = 192."""
    units = Units(WH, "norm_1", box="xywh")
    corners = [64, 96, pytest.approx(256), pytest.approx(288)]
    assert to_pixels([0.1, 0.2, 0.3, 0.4], units) == corners
    assert to_pixels([{"bbox": [0.1, 0.2, 0.3, 0.4], "label": "cat"}], units) == [{"bbox": corners, "label": "cat"}]
    assert to_pixels([0.1, 0.2], units) == [64, 96]  # a point has no width
    with pytest.raises(DataError, match=r"box \(10, 20, -3, 4\) has a negative width or height; wanted xywh"):
        to_pixels([[10, 20, -3, 4]], Units(WH, "pixels", box="xywh"))
