"""Numbers of a whole detection set: names in pycocotools' order, and GP and GR by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.evaluation.set_statistics import NAMES, set_statistics

A, NEAR_A, HALF_A, FAR = (0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 5), (100, 0, 110, 10)
CAT, DOG, NOWHERE = 1, 2, 9


def numbers(gold, found, crowd=None):
    """Rows are (image, category, box), of detections with a score."""
    truth = GroundTruth(*_columns(gold), crowd_N=None if crowd is None else np.array(crowd))
    return set_statistics(Detections(*_columns(found), np.array([row[3] for row in found], dtype=float)), truth)


def _columns(rows):
    images, categories = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    return images, categories, np.array([row[2] for row in rows], dtype=float).reshape(-1, 4)


def test_order_and_names():
    names = list(numbers([(1, CAT, A)], [(1, CAT, A, 1.0)]))
    assert names == [*NAMES, *(f"nms_{name}" for name in NAMES), "gp", "gr"]
    assert len(NAMES) == 12


@pytest.mark.parametrize(
    ("gold", "found", "gp", "gr"),
    [
        pytest.param([(1, CAT, A)], [(1, CAT, A, 1)], 1, 1, id="right"),
        pytest.param([(1, CAT, A)], [(1, DOG, A, 1)], 0, 0, id="another_label"),
        pytest.param([(1, CAT, A)], [(2, CAT, A, 1)], 0, 0, id="another_image"),
        pytest.param([(1, CAT, A)], [(1, CAT, HALF_A, 1)], 1, 1, id="half_of_it_is_enough"),
        pytest.param([(1, CAT, A)], [(1, CAT, (0, 0, 10, 4.9), 1)], 0, 0, id="less_is_not"),
        pytest.param([(1, CAT, A)], [(1, CAT, A, 1)] * 3, 1 / 3, 1, id="each_gold_box_once"),
        pytest.param([(1, CAT, A), (1, CAT, FAR)], [(1, CAT, A, 1)], 1, 1 / 2, id="one_missed"),
        pytest.param([(1, CAT, A)], [(1, NOWHERE, FAR, 1), (1, CAT, A, 1)], 1 / 2, 1, id="labels_that_are_nowhere"),
        # 3 of 4 boxes over both images, not the mean of 1/2 and 1
        pytest.param(
            [(1, CAT, A), (2, CAT, A), (2, CAT, FAR)],
            [(1, CAT, A, 1), (1, CAT, FAR, 1), (2, CAT, A, 1), (2, CAT, FAR, 1)],
            3 / 4,
            1,
            id="over_all_images",
        ),
        # the surest takes the box that it overlaps most, 10/12 against 8/10: the only one for the other, 75/145
        pytest.param(
            [(1, CAT, (0, 0, 10, 12)), (1, CAT, (0, 2, 10, 10))],
            [(1, CAT, (0, 0, 10, 10), 0.9), (1, CAT, (0, 4.5, 10, 14.5), 0.5)],
            1 / 2,
            1 / 2,
            id="greedily",
        ),
        pytest.param([(1, CAT, A)], [(1, CAT, FAR, 0.9)] * 100 + [(1, CAT, A, 0.5)], 0, 0, id="at_most_100_of_a_label"),
        pytest.param([(1, CAT, A)], [], -1, 0, id="nothing_found"),
        pytest.param([], [(1, CAT, A, 1)], 0, -1, id="nothing_there"),
    ],
)
def test_gp_and_gr(gold, found, gp, gr):
    measured = numbers(gold, found)
    assert (measured["gp"], measured["gr"]) == pytest.approx((gp, gr), abs=1e-12)


def test_crowds_are_not_counted():
    gold = [(1, CAT, A), (1, CAT, FAR)]
    found = [(1, CAT, A, 1.0), (1, CAT, FAR, 1.0), (1, CAT, (300, 300, 310, 310), 1.0)]
    measured = numbers(gold, found, crowd=[False, True])
    assert (measured["gp"], measured["gr"]) == (1 / 2, 1)
    assert numbers(gold, found)["gp"] == pytest.approx(2 / 3)


def test_nms_drops_labels_at_one_place():
    # the last of equal scores stays: the dog, which is wrong
    measured = numbers([(1, CAT, A)], [(1, CAT, NEAR_A, 1.0), (1, DOG, A, 1.0)])
    assert measured["ap50"] == pytest.approx(1)
    assert measured["nms_ap50"] == 0
    assert (measured["gp"], measured["gr"]) == (1 / 2, 1)  # before NMS
