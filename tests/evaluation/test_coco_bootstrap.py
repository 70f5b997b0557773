"""AP of sets that are drawn: equal to COCO's of the same images, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_r1.evaluation.coco_bootstrap import bootstrap_ap, interval, weighted_ap
from vlm_r1.evaluation.coco_matching import Detections, GroundTruth, match
from vlm_r1.evaluation.coco_statistics import coco_statistics

SQUARE, FAR = (0.0, 0.0, 50.0, 50.0), (300.0, 300.0, 350.0, 350.0)


def scene(generator, images, *, scores):
    """Images of 1 to 4 objects, each found more or less exactly, the hard images less; and some false alarms."""
    image = np.repeat(np.arange(images), generator.integers(1, 5, images))
    N, blur = len(image), np.exp(1.3 + 0.8 * generator.normal(size=images))[image]
    corner, side = generator.integers(0, 300, (N, 2)), generator.integers(30, 150, (N, 2))
    gold, category = np.hstack([corner, corner + side]).astype(float), generator.integers(0, 4, N)
    found = gold + generator.normal(size=(N, 4)) * blur[:, None]
    found = np.hstack([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])])
    false = generator.random(N) < 0.3
    detections = Detections(
        np.concatenate([image, image[false]]),
        np.concatenate([category, category[false]]),
        np.vstack([found, found[false] + 200]),
        scores(N + int(false.sum())),
    )
    return detections, GroundTruth(image, category, gold)


def test_weights_are_copies_of_images():
    generator, changes = np.random.default_rng(0), []
    for _ in range(20):
        detections, truth = scene(generator, 20, scores=generator.random)
        weights = generator.integers(0, 4, 20)
        found, gold = (_copied(side.image_ids_N, weights) for side in (detections, truth))
        repeated = _of(
            Detections(
                found[1],
                *(of[found[0]] for of in (detections.category_ids_N, detections.boxes_N4)),
                detections.scores_N[found[0]],
            ),
            GroundTruth(gold[1], truth.category_ids_N[gold[0]], truth.boxes_N4[gold[0]]),
        )
        matches = match(detections, truth)
        assert weighted_ap(matches, np.ones(len(matches.images_I))) == pytest.approx(_of(detections, truth), abs=1e-12)
        measured = weighted_ap(matches, weights[matches.images_I].astype(float))
        assert measured == pytest.approx(repeated, abs=1e-12)
        changes.append(abs(measured[0] - _of(detections, truth)[0]))
    assert max(changes) > 0.01


def _copied(image_N, weights_I):
    """Indices of the objects of all copies of images, and the names of the copies."""
    rows = [
        (n, f"{i:02d}-{c}") for i, w in enumerate(weights_I) for c in range(w) for n in np.flatnonzero(image_N == i)
    ]
    return np.array([n for n, _ in rows], dtype=np.int64), np.array([name for _, name in rows])


def _of(detections, truth):
    statistics = coco_statistics(detections, truth)
    return statistics.ap, statistics.ap_50


def test_by_hand():
    # image 1 is right, image 2 has a false alarm before the gold box that nobody found
    truth = GroundTruth(np.array([1, 2]), np.array([7, 7]), np.array([SQUARE, SQUARE]))
    found = Detections(np.array([2, 1]), np.array([7, 7]), np.array([FAR, SQUARE]), np.array([0.9, 0.8]))
    matches = match(found, truth)
    for weights, ap in (
        ((1, 1), 51 / 101 / 2),  # recall 1/2 at precision 1/2
        ((1, 0), 1.0),
        ((0, 1), 0.0),
        ((3, 1), 76 / 101 * 3 / 4),  # recall 3/4 at precision 3/4
    ):
        assert weighted_ap(matches, np.array(weights, dtype=float)) == pytest.approx((ap, ap), abs=1e-12)
    # two of two: the first twice 1.0, the second twice 0.0, and one of each half of the time
    drawn = bootstrap_ap(matches, np.array([0, 1]), 2, seed=0)[:, 0]
    assert {round(value, 6) for value in drawn} == {0.0, round(51 / 202, 6), 1.0}
    assert np.mean(drawn == 1.0) == pytest.approx(1 / 4, abs=0.1)


def test_images_of_one_cluster_are_drawn_together():
    truth = GroundTruth(np.array([1, 2]), np.array([7, 7]), np.array([SQUARE, SQUARE]))
    found = Detections(np.array([1]), np.array([7]), np.array([SQUARE]), np.array([1.0]))
    matches = match(found, truth)
    assert np.ptp(bootstrap_ap(matches, np.array([0, 0]), 1, seed=0)) < 1e-12
    assert np.ptp(bootstrap_ap(matches, np.array([0, 1]), 2, seed=0)) > 0.4


def test_sets_without_a_gold_box_have_no_ap():
    truth = GroundTruth(np.array([1]), np.array([7]), np.array([SQUARE]))
    found = Detections(np.array([1, 2]), np.array([7, 7]), np.array([SQUARE, FAR]), np.array([1.0, 0.5]))
    drawn = bootstrap_ap(match(found, truth), np.array([0, 1]), 2, seed=0)
    assert np.isnan(drawn).any()
    assert np.nanmin(drawn) == np.nanmax(drawn) == 1.0
    assert interval(1.0, drawn[:, 0]) == (1.0, 1.0)


def test_crowds_are_refused():
    truth = GroundTruth(np.array([1]), np.array([7]), np.array([SQUARE]), crowd_N=np.array([True]))
    found = Detections(np.array([1]), np.array([7]), np.array([SQUARE]), np.array([1.0]))
    with pytest.raises(ValueError, match="crowds"):
        bootstrap_ap(match(found, truth), np.array([0]), 1, seed=0)


def test_covers_the_ap_that_such_sets_have_on_average_and_quantiles_do_not():
    generator, images, trials = np.random.default_rng(1), 60, 150
    typical = []
    for _ in range(300):
        matches = match(*scene(generator, images, scores=np.ones))
        typical.append(weighted_ap(matches, np.ones(len(matches.images_I)))[0])
    truth, hits = np.mean(typical), {"interval": 0, "quantiles": 0}
    for trial in range(trials):
        matches = match(*scene(generator, images, scores=np.ones))
        measured = weighted_ap(matches, np.ones(len(matches.images_I)))[0]
        drawn = bootstrap_ap(matches, np.arange(len(matches.images_I)), images, seed=trial)[:, 0]
        low, high = interval(measured, drawn)
        hits["interval"] += low <= truth <= high
        low, high = np.quantile(drawn, [0.025, 0.975])
        hits["quantiles"] += low <= truth <= high
    assert 0.88 <= hits["interval"] / trials <= 1.0
    assert hits["quantiles"] < hits["interval"]
