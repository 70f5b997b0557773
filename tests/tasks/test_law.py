"""The law: every task scores its own gold answer full marks, in every box format, on every frame, by every template."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, check_gold, judge
from vlm_r1.tasks.templates import TEMPLATES, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record

size = st.integers(28, 4000)
frames = st.builds(ImageFrame, original_wh=st.tuples(size, size), input_wh=st.tuples(size, size))
formats = st.sampled_from(BoxFormat)
templates = st.sampled_from(sorted(TEMPLATES))
thoughts = st.one_of(st.none(), st.text(st.characters(exclude_characters="<>"), max_size=20))


def _judge_own_gold(record, frame, box_format, template):
    return _judge_own_gold_on(record, (frame,) * len(record.images), box_format, template)


def _judge_own_gold_on(record, frames_N, box_format, template):
    task = get_task(record.task)
    text = gold_completion(task, record, frames_N, box_format, TEMPLATES[template])
    rewards = {"accuracy": 1.0, "format": 1.0}
    return judge([Attempt(text, record, frames_N, task, TEMPLATES[template])], box_format, rewards)[0]


def _whole_pixel_boxes(frame):
    width, height = frame.original_wh
    corner = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    return corner.flatmap(
        lambda c: st.tuples(*map(st.just, c), st.integers(c[0] + 1, width), st.integers(c[1] + 1, height))
    )


@st.composite
def boxes_of_units(draw, frame, box_format, least):
    """A box in original pixels at least so many of the model's units wide and high."""
    least = least / 1000 if box_format is BoxFormat.NORM_1 else least  # fractions are written with three decimals
    wh_units = from_original((0, 0, *map(float, frame.original_wh)), frame, box_format)[2:]
    a1, b1 = (draw(st.floats(0, side - least)) for side in wh_units)
    units = (a1, b1, draw(st.floats(a1 + least, wh_units[0])), draw(st.floats(b1 + least, wh_units[1])))
    return to_original(units, frame, box_format)


@settings(deadline=None)
@given(st.data(), frames, templates, thoughts)
def test_rec_whole_pixels_in_original_pixels_are_exact(data, frame, template, thought):
    box = list(data.draw(_whole_pixel_boxes(frame)))
    record = Record("1", "rec", "<image>it", ("a.png",), box, thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, BoxFormat.ORIGINAL_PIXELS, template)
    assert score.parts == {"accuracy": 1.0, "format": 1.0}
    assert score.answer == box


@settings(deadline=None)
@given(st.data(), frames, formats, templates, thoughts)
def test_rec_rounding_costs_less_than_half(data, frame, box_format, template, thought):
    """A box at least 4 of the model's units wide and high keeps IoU ≥ (4 − 1)² / 4² = 0.5625."""
    box = list(data.draw(boxes_of_units(frame, box_format, 4)))
    record = Record("1", "rec", "<image>it", ("a.png",), box, thought, source="f.jsonl:7")
    check_gold(record, (frame,))
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.parts["accuracy"] >= 9 / 16 - 1e-6
    assert score.parts["format"] == 1.0
    assert score.metrics["accuracy_iou50"] == 1.0


@settings(deadline=None)
@given(st.data(), frames, templates, thoughts)
def test_ovd_whole_pixels_in_original_pixels_are_exact(data, frame, template, thought):
    box = _whole_pixel_boxes(frame)
    label = st.text(st.characters(exclude_characters="<>"), min_size=1, max_size=8).filter(str.strip)
    items = data.draw(st.lists(st.fixed_dictionaries({"bbox_2d": box.map(list), "label": label}), max_size=6))
    record = Record("1", "ovd", "<image>cat", ("a.png",), items or "None", thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, BoxFormat.ORIGINAL_PIXELS, template)
    assert score.parts == {"accuracy": pytest.approx(1.0), "format": 1.0}
    assert score.answer == items


@settings(deadline=None)
@given(st.data(), frames, formats, templates)
def test_ovd_rounding_keeps_a_box_of_four_units_a_match(data, frame, box_format, template):
    items = [{"bbox_2d": list(data.draw(boxes_of_units(frame, box_format, 4))), "label": "cat"}]
    record = Record("1", "ovd", "<image>cat", ("a.png",), items, source="f.jsonl:7")
    check_gold(record, (frame,))
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.parts["accuracy"] >= 2 / 10 - 1e-9  # IoU ≥ 0.5625 passes 0.50 and 0.55
    assert score.parts["format"] == 1.0
    assert (score.metrics["ap50"], score.metrics["precision_iou50"], score.metrics["recall_iou50"]) == (1.0, 1.0, 1.0)


@settings(deadline=None)
@given(st.data(), frames, templates, thoughts)
def test_multi_rec_whole_pixels_in_original_pixels_are_exact(data, frame, template, thought):
    boxes = data.draw(st.lists(_whole_pixel_boxes(frame).map(list), max_size=6))
    record = Record("1", "multi_rec", "<image>them", ("a.png",), boxes or "None", thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, BoxFormat.ORIGINAL_PIXELS, template)
    assert score.parts == {"accuracy": 1.0, "format": 1.0}
    assert set(score.metrics.values()) == {1.0}
    assert score.answer == boxes


@settings(deadline=None)
@given(st.data(), frames, formats, templates)
def test_multi_rec_rounding_keeps_boxes_of_four_units_matches(data, frame, box_format, template):
    boxes = data.draw(st.lists(boxes_of_units(frame, box_format, 4).map(list), max_size=4))
    record = Record("1", "multi_rec", "<image>them", ("a.png",), boxes, source="f.jsonl:7")
    check_gold(record, (frame,))
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.reward == 2.0
    assert set(score.metrics.values()) == {1.0}


@settings(deadline=None)
@given(st.data(), frames, formats, templates, thoughts)
def test_gui_click_hits_a_box_of_a_little_more_than_one_unit(data, frame, box_format, template, thought):
    box = list(data.draw(boxes_of_units(frame, box_format, 1.01)))
    record = Record("1", "gui_click", "<image>it", ("a.png",), box, thought, source="f.jsonl:7")
    check_gold(record, (frame,))
    assert _judge_own_gold(record, frame, box_format, template).reward == 2.0


@settings(deadline=None)
@given(st.data(), frames, formats, templates)
def test_gui_click_hits_a_triangle_of_eight_units(data, frame, box_format, template):
    """Half of a box, cut from corner to corner; the long side of a square one is 8/4 · sin 45° = 1.4 units away."""
    x1, y1, x2, y2 = data.draw(boxes_of_units(frame, box_format, 8))
    corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    corners.pop(data.draw(st.integers(0, 3)))
    record = Record("1", "gui_click", "<image><image>it", ("a.png", "b.png"), corners, source="f.jsonl:7")
    assert _judge_own_gold(record, frame, box_format, template).reward == 2.0


TWO_IMAGES = {
    "testing_placed:FIND_TWICE": lambda first, second: [first, second],
    "testing_placed:SECOND_REC": lambda first, second: second,
    "testing_placed:SECOND_MULTI_REC": lambda first, second: [second],
    "testing_placed:LAST_OVD": lambda first, second: [{"bbox_2d": second, "label": "cat"}],
}


@pytest.mark.parametrize("task", TWO_IMAGES)
@settings(deadline=None)
@given(st.data(), st.tuples(frames, frames), formats, templates)
def test_boxes_of_four_units_keep_the_frames_of_two_images(task, data, both, box_format, template):
    boxes = [list(data.draw(boxes_of_units(frame, box_format, 4))) for frame in both]
    record = Record("1", task, "<image><image>it", ("a.png", "b.png"), TWO_IMAGES[task](*boxes), source="f.jsonl:7")
    check_gold(record, both)
    score = _judge_own_gold_on(record, both, box_format, template)
    assert score.parts["accuracy"] >= (2 / 10 - 1e-9 if task.endswith("OVD") else 9 / 16 - 1e-6)  # as above
    assert score.parts["format"] == 1.0


line = st.text(st.characters(exclude_characters="<>"), min_size=1, max_size=40).map(lambda text: f"x{text}")
PLAIN = {
    "counting": st.one_of(st.integers(-(10**15), 10**15), st.just("7")),
    "vqa": st.one_of(line, st.integers(), st.booleans()),
    "choice": st.sampled_from(["A", "b", "(C)", "D.", "B. a dog", "I"]),
    "yes_no": st.sampled_from([True, False, "yes", "No."]),
    "math": st.one_of(st.integers(), st.sampled_from(["\\frac{1}{2}", "12\\pi", "$x^2+1$", "(1, 2]", "5 cm"])),
    "gui_defect": st.one_of(st.just("No Defect"), line),
    "classification": line,
    "document": st.one_of(line, st.lists(line, min_size=1, max_size=3), st.floats(allow_nan=False)),
}


@pytest.mark.parametrize("task", PLAIN)
@settings(deadline=None)
@given(st.data(), st.integers(0, 3), frames, formats, templates, thoughts)
def test_plain_tasks_with_any_number_of_images(task, data, n_images, frame, box_format, template, thought):
    answer, images = data.draw(PLAIN[task]), ("a.png",) * n_images
    record = Record("1", task, "<image>" * n_images + "What?", images, answer, thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.reward == 2.0
    assert set(score.metrics.values()) == {1.0}


def test_every_task_is_held_to_the_law():
    assert {*PLAIN, "rec", "multi_rec", "ovd", "gui_click"} == set(TASKS)


@pytest.mark.parametrize("box_format", BoxFormat)
def test_a_thought_with_tags_loses_the_format_only(box_format):
    """What `vlm-r1 data check` is for: such a record would teach a form that is then not rewarded."""
    frame = ImageFrame((1000, 1000), (1000, 1000))
    record = Record("1", "rec", "<image>it", ("a.png",), [10, 20, 110, 220], "so <answer>", source="f.jsonl:7")
    assert _judge_own_gold(record, frame, box_format, "r1").parts == {"accuracy": 1.0, "format": 0.0}
