"""OVDEval's NMS: by hand, against its slow twin, and on the reference sets."""

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.evaluation.coco_statistics import coco_statistics
from vlm_r1.evaluation.nms import ovdeval_nms
from vlm_r1.geometry.average_precision import mean_average_precision
from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.nms import nms_filter

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "reference" / "ovdeval_golden.json"

A, NEAR_A, FAR = (0, 0, 10, 10), (0, 0, 10, 8), (100, 0, 110, 10)
BETWEEN = (0, 2, 10, 12)  # IoU 8/12 with A and with its other neighbour
BELOW_A = (0, 4, 10, 14)


@pytest.mark.parametrize(
    ("boxes", "scores", "gold", "expected"),
    [
        pytest.param([A, NEAR_A], [0.9, 0.5], [A], [0], id="the_best_scored"),
        pytest.param([A, NEAR_A], [0.5, 0.9], [A], [1], id="not_the_closest"),
        pytest.param([A, NEAR_A, A], [0.5, 0.5, 0.5], [A], [2], id="of_equal_scores_the_last"),
        pytest.param([A, NEAR_A, A], None, [A], [2], id="without_scores_the_last"),
        pytest.param([FAR, A, FAR], [0.1, 0.9, 0.1], [A], [0, 1, 2], id="others_stay"),
        pytest.param([(0, 0, 10, 5), A], [0.1, 0.9], [A], [0, 1], id="half_of_it_does_not_compete"),
        pytest.param([A, BETWEEN], [0.5, 0.9], [A, BELOW_A], [1], id="one_for_two_gold_boxes"),
        # the upper gold box prefers A to what lies between, which the lower one chooses
        pytest.param([A, BETWEEN, BELOW_A], [0.9, 0.8, 0.1], [A, BELOW_A], [0, 1], id="chosen_by_another"),
        pytest.param([A, A], [0.5, 0.9], [], [0, 1], id="nothing_there"),
        pytest.param([], [], [A], [], id="nothing_found"),
        pytest.param([(3, 3, 3, 3)] * 2, None, [(3, 3, 3, 3)], [0, 1], id="without_area"),
    ],
)
def test_by_hand(boxes, scores, gold, expected):
    assert nms_filter(boxes, gold, scores=scores) == expected


def test_claiming_every_label_at_one_place_pays_by_chance_alone():
    labels = ["cat", "dog", "bird", "fish"]
    claims = [A] * len(labels)
    assert mean_average_precision(claims, labels, [A], ["cat"]) == 1.0
    kept = nms_filter(claims, [A])
    assert mean_average_precision([A], [labels[n] for n in kept], [A], ["cat"]) == 0.0


side = st.integers(1, 6)
box = st.tuples(st.integers(0, 8), st.integers(0, 8), side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
score = st.sampled_from([0.25, 0.5, 1.0])
found = st.tuples(st.integers(1, 3), st.integers(1, 3), box, score)
gold = st.tuples(st.integers(1, 3), st.integers(1, 3), box)


@settings(deadline=None)
@given(st.lists(found, max_size=12), st.lists(gold, max_size=6), st.sampled_from([0.2, 0.5, 0.75]))
def test_equals_the_obvious_computation(found, gold, threshold):
    kept = ovdeval_nms(_detections(found), _truth(gold), threshold)
    assert _rows(kept) == _obvious_nms(found, gold, threshold)


@settings(deadline=None)
@given(st.lists(found, max_size=12), st.lists(gold, max_size=6))
def test_each_gold_box_keeps_at_least_one_of_those_that_reach_it(found, gold):
    kept = _rows(ovdeval_nms(_detections(found), _truth(gold)))
    for image, _, box in gold:
        reach = [row for row in found if row[0] == image and iou(row[2], box) > 0.5]
        assert not reach or any(row in kept for row in reach)


@settings(deadline=None)
@given(st.lists(box, max_size=10), st.lists(box, max_size=5))
def test_without_scores_is_with_equal_ones(boxes, gold):
    assert nms_filter(boxes, gold) == nms_filter(boxes, gold, scores=[0.3] * len(boxes))


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference files are not here")
@pytest.mark.parametrize("number", range(4))
def test_equals_ovdeval_on_the_reference_sets(number):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[number]
    truth = GroundTruth(*_columns(case["gt"]["annotations"]))
    everything = Detections(
        *_columns(case["predictions"]), np.array([item["score"] for item in case["predictions"]], dtype=float)
    )
    kept = ovdeval_nms(everything, truth)
    assert len(kept.scores_N) == case["num_after_nms"] < len(everything.scores_N)
    assert astuple(coco_statistics(kept, truth)) == pytest.approx(case["nms_coco_stats"], abs=1e-9)
    assert astuple(coco_statistics(everything, truth)) != pytest.approx(case["nms_coco_stats"], abs=1e-3)


def _columns(items):
    xywh_N4 = np.array([item["bbox"] for item in items], dtype=float)
    boxes_N4 = np.hstack([xywh_N4[:, :2], xywh_N4[:, :2] + xywh_N4[:, 2:]])
    return (*(np.array([item[key] for item in items]) for key in ("image_id", "category_id")), boxes_N4)


def _obvious_nms(found, gold, threshold):
    """Each gold box of an image sorts its rivals; what is beaten and never first is gone."""
    first, beaten = set(), set()
    for image, _, box in gold:
        rivals = [n for n, row in enumerate(found) if row[0] == image and iou(row[2], box) > threshold]
        ranking = sorted(rivals, key=lambda n: (found[n][3], n), reverse=True)
        first |= set(ranking[:1])
        beaten |= set(ranking[1:])
    return [row for n, row in enumerate(found) if n not in beaten - first]


def _detections(found):
    return Detections(*_arrays(found), np.array([row[3] for row in found], dtype=float))


def _truth(gold):
    return GroundTruth(*_arrays(gold))


def _arrays(rows):
    images, categories = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    return images, categories, np.array([row[2] for row in rows], dtype=float).reshape(-1, 4)


def _rows(detections):
    columns = (detections.image_ids_N, detections.category_ids_N, detections.boxes_N4, detections.scores_N)
    return [(image, category, tuple(box), score) for image, category, box, score in zip(*columns, strict=True)]
