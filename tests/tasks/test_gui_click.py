"""A point in a region of a screenshot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import in_polygon
from vlm_r1.tasks import get_task
from vlm_r1.tasks.gui_click import GuiClick, points_inside
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

SENTENCE = "<image>Please provide the coordinates of the point to click for this instruction: "
FORM = ' Output the point in JSON format: {"point_2d": [x, y]}.'
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(320, 960)),)
BOX = ((10.0, 20.0), (110.0, 20.0), (110.0, 220.0), (10.0, 220.0))
TRIANGLE = ((0.0, 0.0), (8.0, 0.0), (0.0, 8.0))
ARM, BACK, END = 20.0, 80.0, 100.0  # of a U: its centroid lies in the gap between the arms
U = ((0.0, 0.0), (ARM, 0.0), (ARM, BACK), (BACK, BACK), (BACK, 0.0), (END, 0.0), (END, END), (0.0, END))
FIRST_CLICK = GuiClick(image=0)


def _record(answer=None, problem="<image>open it", images=("a.png",)):
    return Record("1", "gui_click", problem, images, answer, source="f.jsonl:7")


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        pytest.param("<image>open the menu", SENTENCE + "open the menu." + FORM, id="instruction"),
        pytest.param("Click {OK}. <image>", SENTENCE + "Click {OK}." + FORM, id="braces_and_full_stop"),
        pytest.param("<image>start PowerPoint", SENTENCE + "start PowerPoint." + FORM, id="point_within_a_word"),
        pytest.param("<image>Give the Point of OK", "<image>Give the Point of OK", id="speaks_of_a_point"),
        pytest.param("<image>OK, as coordinates", "<image>OK, as coordinates", id="speaks_of_coordinates"),
    ],
)
def test_question(problem, question):
    assert GuiClick().question(_record(problem=problem)) == question


@pytest.mark.parametrize(
    ("answer", "region"),
    [
        pytest.param([10, 20, 110, 220], BOX, id="box"),
        pytest.param({"bbox_2d": [10, 20, 110, 220]}, BOX, id="box_object"),
        pytest.param("[10, 20, 110, 220]", BOX, id="box_text"),
        pytest.param([[0, 0], [8, 0], [0, 8]], TRIANGLE, id="polygon"),
        pytest.param("[[0, 0], [8.0, 0], [0, 8]]", TRIANGLE, id="polygon_text"),
        pytest.param([[0, 0], [8, 8], [8, 0], [0, 8]], ((0.0, 0.0), (8.0, 8.0), (8.0, 0.0), (0.0, 8.0)), id="bow_tie"),
    ],
)
def test_gold(answer, region):
    assert GuiClick().gold(_record(answer)) == region


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("the OK button", "no_box", id="text"),
        pytest.param([60, 120], "wrong_arity", id="point"),
        pytest.param([[0, 0], [8, 8]], "item_without_box", id="two_corners"),
        pytest.param([[0, 0], [8, 0], [0, 8, 1]], "wrong_arity", id="corner_of_three"),
        pytest.param([[0, 0], [8, 0], ["0", 8]], "wrong_arity", id="corner_of_text"),
        pytest.param([[0, 0], [8, 0], [0, 1e7]], "number_out_of_range", id="far_away"),
        pytest.param([10, 20, 10, 220], "no_area", id="line"),
        pytest.param([10, 20, 10.001, 220], "no_area", id="thinner_than_any_pixel"),
        pytest.param([[0, 0], [4, 4], [8, 8]], "no_area", id="flat_polygon"),
        pytest.param([[0, 0], [8, 0], [4, 4], [8, 0]], "no_area", id="there_and_back"),
        pytest.param([[5, 5], [5, 5], [5, 5]], "no_area", id="one_corner_three_times"),
        pytest.param(None, "no_box", id="none"),
    ],
)
def test_unusable_gold(answer, reason):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: the gold answer .* is no region \({reason}\); wanted a box"):
        GuiClick().gold(_record(answer))


def test_a_gold_box_is_not_turned_round():
    with pytest.raises(DataError, match=r"^f\.jsonl:7: the gold box \(110, 220, 10, 20\) has no area: its corners"):
        GuiClick().gold(_record([110, 220, 10, 20]))


@pytest.mark.parametrize(
    ("task", "n_images", "wanted"),
    [
        pytest.param(GuiClick(), 0, 1, id="last_of_none"),
        pytest.param(FIRST_CLICK, 0, 1, id="first_of_none"),
        pytest.param(GuiClick(image=2), 2, 3, id="third_of_two"),
    ],
)
def test_the_image_must_be_there(task, n_images, wanted):
    with pytest.raises(DataError, match=rf"{n_images} images; wanted at least {wanted}$"):
        task.gold(_record([1, 2, 3, 4], images=("a.png",) * n_images))


@pytest.mark.parametrize(
    ("task", "points"),
    [
        pytest.param(GuiClick(), [[2.0, 4.0], [40.0, 60.0]], id="the_last_image"),
        pytest.param(FIRST_CLICK, [[1.0, 2.0], [20.0, 30.0]], id="the_first_image"),
    ],
)
def test_the_point_lies_on_one_of_several_images(task, points):
    frames = (ImageFrame((100, 100), (100, 100)), ImageFrame((200, 200), (100, 100)))
    record = _record([1, 1, 3, 5], images=("a.png", "b.png"))
    texts = ["(1, 2)", "[20, 30]"]
    attempts = [Attempt(text, record, frames, task, TEMPLATES["direct"]) for text in texts]
    assert [score.answer for score in judge(attempts, BoxFormat.INPUT_PIXELS, {"accuracy": 1.0})] == points


def test_an_instance_is_a_plug_in():
    assert get_task("vlm_r1.tasks.gui_click:GuiClick") == GuiClick(image=-1)
    assert get_task("gui_click") == GuiClick()


@pytest.mark.parametrize(
    ("box_format", "text"),
    [
        pytest.param(BoxFormat.ORIGINAL_PIXELS, '{"point_2d": [60, 120]}', id="original_pixels"),
        pytest.param(BoxFormat.INPUT_PIXELS, '{"point_2d": [30, 240]}', id="input_pixels"),
        pytest.param(BoxFormat.NORM_1000, '{"point_2d": [94, 250]}', id="norm_1000"),  # 60 / 640 = 0.09375
        pytest.param(BoxFormat.NORM_1000_YX, '{"point_2d": [250, 94]}', id="norm_1000_y_first"),
    ],
)
def test_writes_the_centre_of_a_box_in_the_models_coordinates(box_format, text):
    assert GuiClick().gold_text(BOX, FRAMES, box_format) == text


@pytest.mark.parametrize(
    ("region", "point"),
    [
        pytest.param(BOX, (60.0, 120.0), id="box"),
        pytest.param(((0.0, 0.0), (90.0, 0.0), (90.0, 2.0), (0.0, 2.0)), (45.0, 1.0), id="flat_box"),
        pytest.param(((0.0, 0.0), (2.0, 0.0), (2.0, 90.0), (0.0, 90.0)), (1.0, 45.0), id="narrow_box"),
        pytest.param(U, None, id="u"),
    ],
)
def test_the_point_has_room_on_all_sides(region, point):
    frames = (ImageFrame((1000, 1000), (1_000_000, 1_000_000)),)  # rounds to thousandths of a pixel
    task = GuiClick()
    record = Record("1", "gui_click", "?", ("a.png",), None)
    parsed = task.parse(task.gold_text(region, frames, BoxFormat.INPUT_PIXELS), record)
    x, y = task.to_pixels(parsed.value, frames, BoxFormat.INPUT_PIXELS)
    if point is not None:
        assert (x, y) == point
    room = min(20.0, *(max(side) - min(side) for side in zip(*region, strict=True))) / 2
    for dx, dy in [(room, 0), (-room, 0), (0, room), (0, -room)]:
        assert in_polygon((x + 0.99 * dx, y + 0.99 * dy), region)


corner = st.tuples(st.integers(0, 1000).map(float), st.integers(0, 1000).map(float))


@settings(deadline=None)
@given(st.lists(corner, min_size=3, max_size=8).map(tuple))
def test_points_inside_any_polygon_are_inside(region):
    for narrow, wide, (x, y) in points_inside(region):
        assert 0 < narrow <= wide
        assert all(in_polygon((x + dx, y), region) for dx in (-0.99 * narrow, 0.0, 0.99 * narrow))
        assert all(in_polygon((x, y + dy), region) for dy in (-0.99 * narrow, 0.99 * narrow))


def test_a_region_between_two_units_cannot_be_hit():
    """A control of the law: it is not true of everything."""
    record, task = _record([10.2, 10.2, 10.4, 10.4]), GuiClick()
    text = task.gold_text(task.gold(record), FRAMES, BoxFormat.ORIGINAL_PIXELS)
    attempt = Attempt(text, record, FRAMES, task, TEMPLATES["direct"])
    assert judge([attempt], BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0})[0].metrics == {"accuracy": 0.0}
