"""The step-by-step average precision against pycocotools, on boxes that `geometry.average_precision` never sees."""

from __future__ import annotations

import contextlib
import io
import math
import random

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS
from vlm_r1.geometry.average_precision import mean_average_precision as in_order
from vlm_r1.official.coco import average_precision


def xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def oracle(boxes, labels, gold_boxes, gold_labels):
    ids = {label: i for i, label in enumerate(dict.fromkeys(gold_labels), start=1)}
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in gold_boxes]
    columns = enumerate(zip(gold_boxes, gold_labels, areas, strict=True), start=1)
    annotations = [
        {"id": i, "image_id": 1, "category_id": ids[label], "bbox": xywh(box), "area": area, "iscrowd": 0}
        for i, (box, label, area) in columns
    ]
    found = [
        {"image_id": 1, "category_id": ids[label], "bbox": xywh(box), "score": 1.0}
        for box, label in zip(boxes, labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid="ignore"):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1}],
            "annotations": annotations,
            "categories": [{"id": i} for i in ids.values()],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def random_box(rng, wild):
    x1, y1 = rng.randrange(60), rng.randrange(60)
    box = [x1, y1, x1 + rng.randrange(5, 40), y1 + rng.randrange(5, 40)]
    if wild and rng.random() < 0.3:
        box = rng.choice([[box[2], box[1], box[0], box[3]], box[2:] + box[:2], [x1, y1, x1, y1], [0, 0, 2e5, 1e5]])
    return box


def near(rng, box):
    return [value + rng.randrange(-2, 3) for value in box]


@pytest.mark.parametrize("wild", [False, True], ids=["in order", "swapped, without area, huge"])
def test_equals_pycocotools(wild):
    rng = random.Random(0)
    for _ in range(25):
        gold = [random_box(rng, wild) for _ in range(rng.randrange(1, 7))]
        found = [near(rng, rng.choice(gold)) if rng.random() < 0.7 else random_box(rng, wild) for _ in range(8)]
        gold_labels, labels = rng.choices("ab", k=len(gold)), rng.choices("ab", k=len(found))
        labels = [label if label in gold_labels else gold_labels[0] for label in labels]
        own = average_precision(found, labels, gold, gold_labels, COCO_IOU_THRESHOLDS)
        assert own == pytest.approx(oracle(found, labels, gold, gold_labels), abs=1e-9)
        if not wild:
            sides = [[tuple(map(float, box)) for box in boxes] for boxes in (found, gold)]
            assert own == pytest.approx(in_order(sides[0], labels, sides[1], gold_labels), abs=1e-9)


def test_a_box_of_nan_matches_whatever_is_there():
    sides = [[math.nan] * 4], ["a"], [[0, 0, 10, 10]], ["a"]
    assert average_precision(*sides, COCO_IOU_THRESHOLDS) == pytest.approx(oracle(*sides)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("boxes", "gold", "expected"),
    [
        pytest.param([], [[0, 0, 9, 9]], 0.0, id="nothing found"),
        pytest.param([[0, 0, 9, 9]], [[9, 0, 0, 9]], -1.0, id="only a gold box of negative area"),
    ],
)
def test_edges(boxes, gold, expected):
    assert average_precision(boxes, ["a"] * len(boxes), gold, ["a"] * len(gold), COCO_IOU_THRESHOLDS) == expected
