import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS, mean_average_precision, precision_recall

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
FAR = (100, 100, 110, 110)


def _half_of(box):  # IoU 0.62: matches at 0.50, 0.55 and 0.60, three of the ten thresholds
    return (box[0], box[1], box[2], 6.2)


@pytest.mark.parametrize(
    ("pred", "gold", "expected"),
    [
        pytest.param([("cat", A)], [("cat", A)], 1.0, id="right"),
        pytest.param([("cat", FAR)], [("cat", A)], 0.0, id="elsewhere"),
        pytest.param([("dog", A)], [("cat", A)], 0.0, id="wrong_label"),
        pytest.param([("cat", _half_of(A))], [("cat", A)], 3 / 10, id="rough"),
        pytest.param([("cat", FAR), ("cat", A)], [("cat", A)], 1 / 2, id="second_of_two"),
        pytest.param([("cat", A), ("cat", FAR)], [("cat", A)], 1.0, id="a_surplus_box_behind_is_free"),
        pytest.param([("dog", FAR), ("cat", A)], [("cat", A)], 1.0, id="an_unknown_label_is_free"),
        pytest.param([("cat", A), ("cat", A)], [("cat", A)], 1.0, id="the_same_box_twice"),
        pytest.param([("cat", A)], [("cat", A), ("cat", B)], 51 / 101, id="one_of_two"),  # recalls 0.00 … 0.50
        pytest.param([("cat", A)], [("cat", A), ("dog", B)], (1 + 0) / 2, id="one_of_two_labels"),
        # precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: 34 recalls up to 0.33 at 1, 33 up to 0.66 at 2/3
        pytest.param(
            [("cat", A), ("cat", FAR), ("cat", B)],
            [("cat", A), ("cat", B), ("cat", C)],
            (34 * 1 + 33 * 2 / 3) / 101,
            id="interpolated",
        ),
        # the first takes the gold box at 0.50 … 0.60, so the exact one comes second there: 3 · 1 + 7 · 1/2
        pytest.param([("cat", _half_of(A)), ("cat", A)], [("cat", A)], (3 * 1 + 7 / 2) / 10, id="order_decides"),
        pytest.param([], [("cat", A)], 0.0, id="nothing_found"),
        pytest.param([("cat", A)], [], 0.0, id="nothing_there"),
        pytest.param([], [], 1.0, id="both_empty"),
        pytest.param([("cat", FAR)] * 100 + [("cat", A)], [("cat", A)], 0.0, id="the_101st_is_not_looked_at"),
        pytest.param([("cat", FAR)] * 99 + [("cat", A)], [("cat", A)], 1 / 100, id="the_100th_is"),
        pytest.param([("cat", (3, 3, 3, 3))], [("cat", (3, 3, 3, 3))], 0.0, id="without_area"),
    ],
)
def test_by_hand(pred, gold, expected):
    assert _score(mean_average_precision, pred, gold) == pytest.approx(expected, abs=1e-12)


def test_thresholds_are_reached_by_equality():
    four_fifths = [("cat", (0, 0, 10, 8))]
    assert _score(mean_average_precision, four_fifths, [("cat", A)], [80 / 100]) == 1.0
    assert _score(mean_average_precision, four_fifths, [("cat", A)], [0.81]) == 0.0


@pytest.mark.parametrize(
    ("pred", "gold", "expected"),
    [
        pytest.param([("cat", A), ("cat", FAR)], [("cat", A), ("cat", B), ("dog", C)], (1 / 2, 1 / 3), id="mixed"),
        pytest.param([("dog", A)], [("cat", A)], (0.0, 0.0), id="wrong_label"),
        pytest.param([("cat", A), ("cat", A)], [("cat", A)], (1 / 2, 1.0), id="the_same_box_twice"),
        pytest.param([], [], (1.0, 1.0), id="both_empty"),
        pytest.param([], [("cat", A)], (0.0, 0.0), id="nothing_found"),
        pytest.param([("cat", A)], [], (0.0, 0.0), id="nothing_there"),
    ],
)
def test_precision_recall(pred, gold, expected):
    assert _score(precision_recall, pred, gold) == expected


corner = st.integers(0, 6)
box = st.tuples(corner, corner, st.integers(1, 6), st.integers(1, 6)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
objects = st.lists(st.tuples(st.sampled_from(["cat", "dog", "red car"]), box), max_size=8)


@settings(deadline=None)
@given(objects, objects.filter(len))
def test_equals_pycocotools(pred, gold):
    assert _score(mean_average_precision, pred, gold) == pytest.approx(_pycocotools(pred, gold), abs=1e-9)


def _score(function, pred, gold, *thresholds):
    return function([b for _, b in pred], [n for n, _ in pred], [b for _, b in gold], [n for n, _ in gold], *thresholds)


def _pycocotools(pred, gold):
    """Mean over thresholds, recalls and the gold's labels, of one image, every score 1.0."""
    if not pred:
        return 0.0  # its loader wants at least one
    labels = sorted({label for label, _ in gold + pred})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1}],
            "categories": [{"id": i} for i, _ in enumerate(labels)],
            "annotations": [_annotation(i, labels, *item) | {"iscrowd": 0} for i, item in enumerate(gold, start=1)],
        }
        truth.createIndex()
        found = truth.loadRes([_annotation(i, labels, *item) | {"score": 1.0} for i, item in enumerate(pred, start=1)])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][
        :, :, :, 0, -1
    ]  # (thresholds, recalls, labels), −1 for labels without gold
    assert precision.shape[:2] == (len(COCO_IOU_THRESHOLDS), 101)
    return float(np.mean(precision[precision > -1]))


def _annotation(number, labels, label, box):
    x1, y1, x2, y2 = box
    wh = (x2 - x1, y2 - y1)
    return {
        "id": number,
        "image_id": 1,
        "category_id": labels.index(label),
        "bbox": [x1, y1, *wh],
        "area": wh[0] * wh[1],
    }
