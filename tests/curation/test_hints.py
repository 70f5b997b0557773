"""Hints are given where the data say them, and nowhere else."""

import json
from collections.abc import Callable

import pytest
from PIL import Image

from vlm_r1.config import DataSource
from vlm_r1.curation.data_check import DataCheck, check_data
from vlm_r1.curation.hints import WrittenBox, orientation_hint
from vlm_r1.tasks.templates import get_template

TURNED, UPRIGHT = (6, 640, 480), (1, 640, 480)
"""EXIF orientation, and width and height as stored: the first is 480 x 640 upright."""

LEFT, LOW = [500, 100, 600, 400], [100, 500, 400, 600]
"""A box that fits 640 x 480 alone, and one that fits 480 x 640 alone."""

BOTH = [100, 100, 300, 300]


@pytest.fixture
def check(tmp_path) -> Callable[..., DataCheck]:
    """`check([(TURNED, answer), …], task="rec")`: what is found in rows that show pictures of that kind."""
    for orientation, width, height in (TURNED, UPRIGHT):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (width, height)).save(tmp_path / f"{orientation}.jpg", exif=exif)

    def found(rows, **settings) -> DataCheck:
        lines = [{"image": f"{kind[0]}.jpg", "problem": f"no {n}", "answer": a} for n, (kind, a) in enumerate(rows)]
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        source = DataSource(path=str(path), **{"task": "rec", **settings})
        return check_data(source, get_template("r1"), images=True)

    return found


def ovd(*labels: str, box=BOTH) -> list[dict]:
    return [{"bbox_2d": [box[0] + i, *box[1:]], "label": label} for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("task", "answers", "hint"),
    [
        pytest.param(
            "rec",
            [ovd("cat", "dog")] * 3,
            "task rec reads nothing in 3 of 3 gold answers; as boxes with labels 3 of them can be read: --task ovd",
            id="labels",
        ),
        pytest.param(
            "rec",
            [ovd("cat", "dog"), ovd("cat"), "None"],
            "task rec reads nothing in 2 of 3 gold answers; as boxes with labels 3 of them can be read: --task ovd",
            id="labels, one box, and none",
        ),
        pytest.param("vqa", [ovd("cat", "dog")], "as boxes with labels 1 of them can be read", id="labels for vqa"),
        pytest.param(
            "rec", [[BOTH, LEFT]] * 2, "as lists of boxes 2 of them can be read: --task multi_rec", id="lists"
        ),
        pytest.param("ovd", [BOTH] * 2, "--task multi_rec", id="boxes without labels"),
        pytest.param("counting", [BOTH], "--task multi_rec", id="boxes for counting"),
        pytest.param("ovd", [ovd("cat", "dog")], None, id="healthy: ovd"),
        pytest.param("rec", [BOTH] * 3, None, id="healthy: rec"),
        pytest.param("rec", [{"bbox_2d": BOTH, "label": "cat"}], None, id="healthy: rec with a label"),
        pytest.param("multi_rec", [ovd("cat", "dog")], None, id="healthy: multi_rec with labels"),
        pytest.param("vqa", ["yes", "no"], None, id="healthy: vqa"),
        pytest.param("rec", [ovd("cat", "dog"), *[BOTH] * 10], None, id="one row of many"),
        pytest.param("rec", ["next to the door"] * 3, None, id="no boxes at all"),
        pytest.param("rec", ["None"] * 3, None, id="none, which three tasks read"),
        pytest.param("rec", [[{"bbox_2d": BOTH}, {"bbox_2d": LEFT, "label": "a"}]], "lists of boxes", id="some labels"),
    ],
)
def test_another_task(check, task, answers, hint):
    found = check([(UPRIGHT, answer) for answer in answers], task=task)
    assert len(found.hints) == (hint is not None)
    assert (hint or "") in "".join(found.hints)
    assert found.is_ready == (not found.problems)


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        pytest.param([(TURNED, LEFT), (TURNED, BOTH)], 1, id="one"),
        pytest.param([(TURNED, LEFT)] * 3 + [(UPRIGHT, LEFT)] * 3, 3, id="beside pictures that are not turned"),
        pytest.param([(TURNED, LEFT)] * 20 + [(TURNED, [0, 0, 900, 900])], 20, id="one of 21 fits neither way"),
        pytest.param([(TURNED, LEFT)] * 9 + [(TURNED, [0, 0, 900, 900])], None, id="one of 10 fits neither way"),
        pytest.param([(TURNED, LOW), (TURNED, BOTH)], None, id="healthy: they fit upright"),
        pytest.param([(TURNED, BOTH)] * 30, None, id="healthy: they fit both ways"),
        pytest.param([(TURNED, LEFT)] * 20 + [(TURNED, LOW)], None, id="some fit upright alone"),
        pytest.param([(UPRIGHT, LOW)] * 30, None, id="outside pictures that are not turned"),
        pytest.param([(TURNED, LEFT), (UPRIGHT, LOW)], None, id="outside of both kinds"),
    ],
)
def test_the_stored_orientation(check, rows, n):
    found = check(rows)
    assert [int(hint.split()[0]) for hint in found.hints] == ([] if n is None else [n])
    assert all(hint.endswith("--orientation stored") for hint in found.hints)


def test_the_advice_helps_and_no_other_is_given(check):
    """Without a look at the orientation the boxes would seem to have y first."""
    rows = [(TURNED, [500, 10 * i, 600, 10 * i + 50]) for i in range(30)]
    found = check(rows)
    assert len(found.problems) == 30
    assert found.coordinates is None
    assert len(found.hints) == 1
    helped = check(rows, orientation="stored")
    assert helped.is_ready
    assert helped.hints == []


def test_boxes_from_0_to_1000_on_turned_pictures_are_not_taken_for_stored_ones(check):
    rows = [(TURNED, [30 * i, 25 * i, 30 * i + 100, 25 * i + 200]) for i in range(30)]
    found = check(rows)
    assert found.hints == []
    assert found.coordinates.endswith("set coordinates: norm_1000")


def test_a_pixel_over_the_edge_is_no_reason():
    assert orientation_hint([WrittenBox((0, 0, 481, 640), (480, 640), swaps=True)]) is None
    assert orientation_hint([WrittenBox((0, 0, 482, 480), (480, 640), swaps=True)]).startswith("1 box ")
    assert orientation_hint([]) is None
