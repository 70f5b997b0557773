import contextlib
import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from testing_geometry import iou_of_all_pairs
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


@pytest.mark.parametrize("seed", range(20))
def test_equals_pycocotools_on_boxes_of_real_size(seed):
    rng = random.Random(seed)
    gold = [(rng.choice(["cat", "dog", "red car"]), _random_box(rng)) for _ in range(rng.randint(1, 30))]
    pred = [(label, _shifted(box, rng)) for label, box in gold for _ in range(rng.randint(0, 3))]
    pred += [(rng.choice(["cat", "dog", "bird"]), _random_box(rng)) for _ in range(5)]
    pred += rng.choices(gold, k=3)
    rng.shuffle(pred)
    assert _score(mean_average_precision, pred, gold) == pytest.approx(_pycocotools(pred, gold), abs=1e-9)


thresholds = st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.75, 0.8, 1.0]), min_size=1, max_size=5)


@settings(deadline=None)
@given(objects, objects.filter(len), thresholds)
def test_equals_the_obvious_computation(pred, gold, thresholds):
    assert _score(mean_average_precision, pred, gold, thresholds) == pytest.approx(
        _score(_obvious_mean_average_precision, pred, gold, thresholds), abs=1e-12
    )


@settings(deadline=None)
@given(objects.filter(len), objects.filter(len), st.sampled_from([0.25, 0.5, 0.8]))
def test_precision_recall_equal_the_obvious_computation(pred, gold, threshold):
    matches = list(_score(_obvious_matches, pred, gold, [threshold]))
    hits = sum(matched_TN.sum() for matched_TN, _ in matches)
    assert _score(precision_recall, pred, gold, threshold) == (hits / len(pred), hits / len(gold))


@pytest.mark.parametrize("surplus", [0, 30, 300])
def test_equals_the_obvious_computation_beyond_a_hundred_detections(surplus):
    rng = random.Random(surplus)
    gold = [("cat", _random_box(rng)) for _ in range(120)]
    pred = [("cat", _shifted(box, rng)) for _, box in gold] + [("cat", _random_box(rng)) for _ in range(surplus)]
    rng.shuffle(pred)
    expected = _score(_obvious_mean_average_precision, pred, gold, COCO_IOU_THRESHOLDS)
    assert 0 < expected < 1
    assert _score(mean_average_precision, pred, gold) == pytest.approx(expected, abs=1e-12)


def test_answers_do_not_depend_on_what_was_asked_before():
    one, other = [("cat", A), ("cat", FAR)], [("cat", FAR), ("cat", A)]  # the same boxes; order decides
    for _ in range(2):
        assert _score(mean_average_precision, one, [("cat", A)]) == 1.0
        assert _score(mean_average_precision, other, [("cat", A)]) == 1 / 2
        assert _score(mean_average_precision, one, [("cat", A)], [0.9]) == 1.0
        assert _score(precision_recall, other, [("cat", A)], 0.5) == (1 / 2, 1.0)


def _random_box(rng):
    x, y, width, height = (rng.uniform(*bounds) for bounds in [(0, 500), (0, 400), (8, 140), (8, 80)])
    return (x, y, x + width, y + height)


def _shifted(box, rng):
    dx, dy = rng.gauss(0, 6), rng.gauss(0, 4)
    return (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)


def _obvious_mean_average_precision(pred_boxes, pred_labels, gold_boxes, gold_labels, thresholds):
    """The slow twin: whole matrices, every threshold and every recall by itself."""
    matches = _obvious_matches(pred_boxes, pred_labels, gold_boxes, gold_labels, thresholds)
    return np.mean([_obvious_average_precision_T(matched_TN[:, :100], n_gold) for matched_TN, n_gold in matches])


def _obvious_matches(pred_boxes, pred_labels, gold_boxes, gold_labels, thresholds):
    """For each label of the gold boxes: (thresholds, predictions), true where one matches, and the number of golds."""
    for label in dict.fromkeys(gold_labels):
        pred = [box for box, own in zip(pred_boxes, pred_labels, strict=True) if own == label]
        gold = [box for box, own in zip(gold_boxes, gold_labels, strict=True) if own == label]
        yield _match_in_order(iou_of_all_pairs(pred, gold), np.asarray(thresholds)), len(gold)


def _match_in_order(iou_NM, thresholds_T):
    n_pred, n_gold = iou_NM.shape
    free_TM = np.ones((len(thresholds_T), n_gold), dtype=np.bool_)
    matched_TN = np.zeros((len(thresholds_T), n_pred), dtype=np.bool_)
    for n, iou_M in enumerate(iou_NM):
        candidates_TM = np.where(free_TM & (iou_M >= thresholds_T[:, None]), iou_M, -1.0)
        best_T = n_gold - 1 - candidates_TM[:, ::-1].argmax(axis=1)  # of equally good ones the last
        matched_TN[:, n] = candidates_TM.max(axis=1) >= 0
        free_TM[matched_TN[:, n], best_T[matched_TN[:, n]]] = False
    return matched_TN


def _obvious_average_precision_T(matched_TN, n_gold):
    hits_TN = np.cumsum(matched_TN, axis=1, dtype=np.float64)
    precision_TN = hits_TN / np.arange(1.0, hits_TN.shape[1] + 1)
    best_TN = np.maximum.accumulate(precision_TN[:, ::-1], axis=1)[:, ::-1]
    padded_TN = np.pad(best_TN, ((0, 0), (0, 1)))  # recalls that are never reached
    reached_TR = (hits_TN[:, :, None] / n_gold < np.linspace(0, 1, 101)).sum(axis=1)
    return np.take_along_axis(padded_TN, reached_TR, axis=1).mean(axis=1)


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
