"""What the original's evaluation scripts read, by hand; they were run on none of these texts here, only read."""

from __future__ import annotations

import time

import pytest

from vlm_r1.official.evaluation import NOTHING, box_of_baseline, box_of_r1, objects_of

BOX = (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("text", "r1", "baseline"),
    [
        pytest.param('<think>a</think><answer>{"bbox_2d": [1, 2, 3, 4]}</answer>', BOX, BOX, id="as asked"),
        pytest.param('<answer>```json\n[\n{"bbox_2d": [1, 2,\n3, 4]}]\n```</answer>', BOX, BOX, id="several lines"),
        pytest.param("<answer>[1, 2, 3, 4]</answer>", NOTHING, BOX, id="no braces"),
        pytest.param('{"bbox_2d": [1, 2, 3, 4]}', NOTHING, BOX, id="no tags"),
        pytest.param('<answer>{"bbox_2d": [1, 2, 3, 4]}', NOTHING, BOX, id="tag not closed"),
        pytest.param("<answer>{[1, 2, 3, 4.5]}</answer>", NOTHING, (1.0, 2.0, 3.0, 4.5), id="decimals"),
        pytest.param("<answer>{[-1, 2, 3, 4]}</answer>", NOTHING, (-1.0, 2.0, 3.0, 4.0), id="negative"),
        pytest.param("<answer>{[ 1, 2, 3, 4 ]}</answer>", NOTHING, BOX, id="spaces inside"),
        pytest.param("<answer>{[1 , 2, 3, 4]}</answer>", NOTHING, BOX, id="space before a comma"),
        pytest.param("<answer>{[1., 2, 3, 4]}</answer>", NOTHING, NOTHING, id="a dot without digits"),
        pytest.param("<answer>{[.5, 2, 3, 4]}</answer>", NOTHING, (0.5, 2.0, 3.0, 4.0), id="no digit before the dot"),
        pytest.param("<answer>{[1, 2, 3]}</answer>", NOTHING, NOTHING, id="three numbers"),
        pytest.param("<answer>{[1, 2, 3, 4, 5]}</answer>", NOTHING, NOTHING, id="five numbers"),
        pytest.param("<answer>{[9, 9, 9, 9], [1, 2, 3, 4]}</answer>", BOX, (9.0,) * 4, id="two boxes"),
        pytest.param("<answer>[9, 9, 9, 9] {[1, 2, 3, 4]} [8, 8, 8, 8]</answer>", BOX, (9.0,) * 4, id="round braces"),
        pytest.param("<answer>{a} [1, 2, 3, 4] {b}</answer>", BOX, BOX, id="between two braces"),
        pytest.param("<answer>}[1, 2, 3, 4]{</answer>", NOTHING, BOX, id="braces the wrong way"),
        pytest.param("<answer>{[1, 2, 3, 4]}</answer><answer>{[9, 9, 9, 9]}</answer>", BOX, BOX, id="two answers"),
        pytest.param(
            "<think>[9, 9, 9, 9]</think><answer>{[1, 2, 3, 4]}</answer>", BOX, (9.0,) * 4, id="in the thought"
        ),
        pytest.param("", NOTHING, NOTHING, id="nothing"),
    ],
)
def test_one_box(text, r1, baseline):
    assert (box_of_r1(text), box_of_baseline(text)) == (r1, baseline)


@pytest.mark.parametrize("read", [box_of_r1, box_of_baseline])
@pytest.mark.parametrize("piece", ["[1, 2, 3, ", "{", "}", "1", " ", "[", "{[1, 2, 3, 4]", "<answer>", "[" + " " * 99])
def test_time_is_linear(read, piece):
    """One search for braces around a box takes minutes on some of these."""
    start = time.process_time()
    read("<answer>" + piece * (200_000 // len(piece)) + "</answer>")
    assert time.process_time() - start < 2


CAT = '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(f"<answer>```json\n[{CAT}]\n```</answer>", [("cat", BOX)], id="as asked"),
        pytest.param(f"<answer>[{CAT}]</answer>", [], id="no fence"),
        pytest.param(f"```json\n[{CAT}]\n```", [], id="no tags"),
        pytest.param(f"<answer>```json\n[{CAT}, 3, null, {{}}]\n```</answer>", [("cat", BOX)], id="broken items"),
        pytest.param(f"<answer>```json\n[{CAT}, ]\n```</answer>", [], id="broken JSON"),
        pytest.param(f"<answer>```json\n[]\n``` ```json\n[{CAT}]\n```</answer>", [("cat", BOX)], id="the last fence"),
        pytest.param(f"<answer>```json\n[{CAT}]\n```</answer><answer>None</answer>", [], id="the last answer"),
        pytest.param("<answer>None</answer>", [], id="None"),
    ],
)
def test_objects(text, found):
    assert list(objects_of(text)) == found
