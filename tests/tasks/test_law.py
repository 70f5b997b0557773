"""The law: every task scores its own gold answer full marks, in every box format, on every frame, by every template."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, check_gold, judge
from vlm_r1.tasks.templates import TEMPLATES, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record

size = st.integers(28, 4000)
frames = st.builds(ImageFrame, original_wh=st.tuples(size, size), input_wh=st.tuples(size, size))
formats = st.sampled_from(BoxFormat)
templates = st.sampled_from(sorted(TEMPLATES))
thoughts = st.one_of(st.none(), st.text(st.characters(exclude_characters="<>"), max_size=20))


def _judge_own_gold(record, frame, box_format, template):
    task = get_task(record.task)
    text = gold_completion(task, record, (frame,), box_format, TEMPLATES[template])
    rewards = {"accuracy": 1.0, "format": 1.0}
    return judge([Attempt(text, record, (frame,), task, TEMPLATES[template])], box_format, rewards)[0]


@settings(deadline=None)
@given(st.data(), frames, templates, thoughts)
def test_rec_whole_pixels_in_original_pixels_are_exact(data, frame, template, thought):
    width, height = frame.original_wh
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = [x1, y1, data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))]
    record = Record("1", "rec", "<image>it", ("a.png",), box, thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, BoxFormat.ORIGINAL_PIXELS, template)
    assert score.parts == {"accuracy": 1.0, "format": 1.0}
    assert score.answer == box


@settings(deadline=None)
@given(st.data(), frames, formats, templates, thoughts)
def test_rec_rounding_costs_less_than_half(data, frame, box_format, template, thought):
    """A box at least 4 of the model's units wide and high keeps IoU ≥ (4 − 1)² / 4² = 0.5625."""
    wh_units = from_original((0, 0, *map(float, frame.original_wh)), frame, box_format)[2:]
    a1, b1 = (data.draw(st.floats(0, side - 4)) for side in wh_units)
    units = (a1, b1, data.draw(st.floats(a1 + 4, wh_units[0])), data.draw(st.floats(b1 + 4, wh_units[1])))
    box = list(to_original(units, frame, box_format))
    record = Record("1", "rec", "<image>it", ("a.png",), box, thought, source="f.jsonl:7")
    check_gold(record, (frame,))
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.parts["accuracy"] >= 9 / 16 - 1e-6
    assert score.parts["format"] == 1.0
    assert score.metrics["accuracy_iou50"] == 1.0


@settings(deadline=None)
@given(st.data(), frames, templates, thoughts)
def test_ovd_whole_pixels_in_original_pixels_are_exact(data, frame, template, thought):
    width, height = frame.original_wh
    corner = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    box = corner.flatmap(
        lambda c: st.tuples(*map(st.just, c), st.integers(c[0] + 1, width), st.integers(c[1] + 1, height))
    )
    label = st.text(st.characters(exclude_characters="<>"), min_size=1, max_size=8).filter(str.strip)
    items = data.draw(st.lists(st.fixed_dictionaries({"bbox_2d": box.map(list), "label": label}), max_size=6))
    record = Record("1", "ovd", "<image>cat", ("a.png",), items or "None", thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, BoxFormat.ORIGINAL_PIXELS, template)
    assert score.parts == {"accuracy": pytest.approx(1.0), "format": 1.0}
    assert score.answer == items


@settings(deadline=None)
@given(st.data(), frames, formats, templates)
def test_ovd_rounding_keeps_a_box_of_four_units_a_match(data, frame, box_format, template):
    wh_units = from_original((0, 0, *map(float, frame.original_wh)), frame, box_format)[2:]
    a1, b1 = (data.draw(st.floats(0, side - 4)) for side in wh_units)
    units = (a1, b1, data.draw(st.floats(a1 + 4, wh_units[0])), data.draw(st.floats(b1 + 4, wh_units[1])))
    items = [{"bbox_2d": list(to_original(units, frame, box_format)), "label": "cat"}]
    record = Record("1", "ovd", "<image>cat", ("a.png",), items, source="f.jsonl:7")
    check_gold(record, (frame,))
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.parts["accuracy"] >= 2 / 10 - 1e-9  # IoU ≥ 0.5625 passes 0.50 and 0.55
    assert score.parts["format"] == 1.0
    assert (score.metrics["ap50"], score.metrics["precision_iou50"], score.metrics["recall_iou50"]) == (1.0, 1.0, 1.0)


@settings(deadline=None)
@given(
    st.one_of(st.integers(), st.sampled_from(["\\frac{1}{2}", "12\\pi", "$x^2+1$", "(1, 2]", "5 cm"])),
    formats,
    templates,
)
def test_math(answer, box_format, template):
    frame = ImageFrame((640, 480), (640, 480))
    record = Record("1", "math", "<image>What?", ("a.png",), answer, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.reward == 2.0
    assert (score.metrics, score.answer) == ({"accuracy": 1.0}, str(answer))


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15), frames, formats, templates, thoughts)
def test_counting(number, frame, box_format, template, thought):
    record = Record("1", "counting", "<image>How many?", ("a.png",), number, thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.reward == 2.0
    assert (score.metrics, score.answer) == ({"accuracy": 1.0}, number)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="<>"), min_size=1, max_size=40), frames, formats, templates, thoughts)
def test_vqa(answer, frame, box_format, template, thought):
    record = Record("1", "vqa", "<image>What?", ("a.png",), f"x{answer}", thought, source="f.jsonl:7")
    score = _judge_own_gold(record, frame, box_format, template)
    assert score.reward == 2.0
    assert score.metrics == {"accuracy": 1.0}


@pytest.mark.parametrize("box_format", BoxFormat)
def test_a_thought_with_tags_loses_the_format_only(box_format):
    """What `vlm-r1 data check` is for: such a record would teach a form that is then not rewarded."""
    frame = ImageFrame((1000, 1000), (1000, 1000))
    record = Record("1", "rec", "<image>it", ("a.png",), [10, 20, 110, 220], "so <answer>", source="f.jsonl:7")
    assert _judge_own_gold(record, frame, box_format, "r1").parts == {"accuracy": 1.0, "format": 0.0}
