"""Optimal matching: by hand, against all possible matchings, and where the greedy one fails."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.geometry.average_precision import precision_recall
from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.matching import match_boxes, optimal_matching, set_f1

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (100, 100, 110, 110)
HALF_A = (0, 0, 10, 5)  # IoU 0.5 with A

weight = st.integers(-9, 9)
matrices = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.lists(weight, min_size=m, max_size=m), min_size=1, max_size=4)
)


@settings(deadline=None)
@given(matrices)
def test_no_other_matching_weighs_more(weights_NM):
    pairs = optimal_matching(weights_NM)
    n_rows, n_columns = len(weights_NM), len(weights_NM[0])
    assert len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs}) == min(n_rows, n_columns)
    assert pairs == sorted(pairs)
    assert _weight(pairs, weights_NM) == max(_weight(other, weights_NM) for other in _all_full(n_rows, n_columns))


@pytest.mark.parametrize(
    ("pred", "gold", "pairs"),
    [
        pytest.param([], [], [], id="both_empty"),
        pytest.param([("cat", A)], [], [], id="nothing_there"),
        pytest.param([], [("cat", A)], [], id="nothing_found"),
        pytest.param([("cat", A)], [("cat", A)], [(0, 0)], id="right"),
        pytest.param([("dog", A)], [("cat", A)], [], id="wrong_label"),
        pytest.param([("cat", FAR)], [("cat", A)], [], id="elsewhere"),
        pytest.param([("cat", HALF_A)], [("cat", A)], [(0, 0)], id="exactly_the_threshold"),
        pytest.param([("cat", (0, 0, 10, 4.9))], [("cat", A)], [], id="just_below"),
        pytest.param([("cat", B), ("cat", A)], [("cat", A), ("cat", B)], [(0, 1), (1, 0)], id="any_order"),
        pytest.param([("cat", HALF_A), ("cat", A)], [("cat", A)], [(1, 0)], id="of_two_the_closer"),
        pytest.param([("cat", A)], [("cat", HALF_A), ("cat", A)], [(0, 1)], id="of_two_golds_the_closer"),
        pytest.param([("cat", A), ("dog", A)], [("dog", A), ("cat", A)], [(0, 1), (1, 0)], id="labels_apart"),
        # greedy takes 0-0 (IoU 1), and nothing is left for the second, which only the first gold box would do for
        pytest.param(
            [("cat", A), ("cat", (0, 0, 10, 8))],
            [("cat", A), ("cat", (0, 2, 10, 14))],
            [(0, 1), (1, 0)],
            id="more_pairs_before_closer_ones",
        ),
        # 1 + 1 rather than 0.9 + 0.9
        pytest.param(
            [("cat", (0, 0, 10, 9)), ("cat", A)],
            [("cat", A), ("cat", (0, 0, 10, 9))],
            [(0, 1), (1, 0)],
            id="of_equally_many_the_greatest_total",
        ),
        # two rivals for A, and two golds for one box at B: two pairs, and nothing for those that are left
        pytest.param(
            [("cat", A), ("cat", HALF_A), ("cat", B)],
            [("cat", A), ("cat", B), ("cat", (20, 0, 30, 8))],
            [(0, 0), (2, 1)],
            id="two_rivalries_apart",
        ),
        pytest.param([("cat", (3, 3, 3, 3))], [("cat", (3, 3, 3, 3))], [], id="without_area"),
    ],
)
def test_match_boxes(pred, gold, pairs):
    assert match_boxes(*_columns(pred), *_columns(gold)) == pairs


@pytest.mark.parametrize(
    ("pred", "gold", "expected"),
    [
        pytest.param([], [], 1.0, id="both_empty"),
        pytest.param([("cat", A)], [], 0.0, id="nothing_there"),
        pytest.param([], [("cat", A)], 0.0, id="nothing_found"),
        pytest.param([("cat", A), ("cat", FAR)], [("cat", A)], 2 / 3, id="surplus"),
        pytest.param([("cat", A), ("dog", FAR)], [("cat", A)], 2 / 3, id="surplus_of_a_label_that_is_not_there"),
        pytest.param([("cat", A), ("cat", A)], [("cat", A)], 2 / 3, id="duplicate"),
        pytest.param([("cat", A)], [("cat", A), ("dog", B), ("dog", FAR)], 2 / 4, id="one_of_three"),
        pytest.param([("cat", A), ("dog", A), ("bird", A)], [("cat", A)], 2 / 4, id="every_label_at_one_place"),
    ],
)
def test_set_f1(pred, gold, expected):
    assert set_f1(*_columns(pred), *_columns(gold)) == expected


edge = st.integers(0, 6)
box = st.tuples(edge, edge, st.integers(1, 6), st.integers(1, 6)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
objects = st.lists(st.tuples(st.sampled_from(["cat", "dog"]), box), max_size=4)
threshold = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.8])


@settings(deadline=None)
@given(objects, objects, threshold)
def test_equals_the_best_of_all_matchings(pred, gold, least):
    pairs = match_boxes(*_columns(pred), *_columns(gold), least)
    assert all(pred[n][0] == gold[m][0] and iou(pred[n][1], gold[m][1]) >= least for n, m in pairs)
    assert len(pairs) == len({n for n, _ in pairs}) == len({m for _, m in pairs})
    count, total = max(_worth(other, pred, gold) for other in _all_allowed(pred, gold, least))
    assert _worth(pairs, pred, gold) == (count, pytest.approx(total, abs=1e-9))
    assert set_f1(*_columns(pred), *_columns(gold), least) == (
        2 * count / (len(pred) + len(gold)) if pred or gold else 1
    )


@settings(deadline=None)
@given(objects, objects, threshold, st.randoms(use_true_random=False))
def test_f1_is_symmetric_and_ignores_the_order(pred, gold, least, rng):
    value = set_f1(*_columns(pred), *_columns(gold), least)
    assert 0 <= value <= 1
    assert value == set_f1(*_columns(gold), *_columns(pred), least)
    shuffled = rng.sample(pred, len(pred))
    assert value == set_f1(*_columns(shuffled), *_columns(gold), least)


@settings(deadline=None)
@given(objects.filter(len), objects.filter(len), threshold)
def test_is_never_worse_than_the_greedy_matching(pred, gold, least):
    precision, recall = precision_recall(*_columns(pred), *_columns(gold), least)
    greedy = 2 * precision * recall / (precision + recall) if precision else 0.0
    assert set_f1(*_columns(pred), *_columns(gold), least) >= greedy - 1e-12


def test_three_rough_pairs_outweigh_two_exact_ones():
    # gold boxes at 0, 6 and 12, predictions at −6, 0 and 6: each is 6 from its gold box, IoU 4/16, or two are exact
    gold, pred = [[("cat", (x, 0, x + 10, 10)) for x in places] for places in ((0, 6, 12), (-6, 0, 6))]
    assert match_boxes(*_columns(pred), *_columns(gold), 0.25) == [(0, 0), (1, 1), (2, 2)]


def test_many_boxes_piled_up():
    rng = random.Random(0)
    gold = [("cat", (x, 0, x + 100, 100)) for x in range(0, 150, 3)]
    pred = [("cat", (x, 0, x + 100, 100)) for x in rng.sample(range(150), 100)]
    assert len(match_boxes(*_columns(pred), *_columns(gold))) == 50


def _columns(objects):
    return [box for _, box in objects], [label for label, _ in objects]


def _weight(pairs, weights_NM):
    return sum(weights_NM[i][j] for i, j in pairs)


def _worth(pairs, pred, gold):
    return len(pairs), sum(iou(pred[n][1], gold[m][1]) for n, m in pairs)


def _all_full(n_rows, n_columns):
    """All matchings of min(N, M) pairs."""
    if n_rows > n_columns:
        yield from ([(i, j) for j, i in pairs] for pairs in _all_full(n_columns, n_rows))
        return
    for columns in itertools.permutations(range(n_columns), n_rows):
        yield list(enumerate(columns))


def _all_allowed(pred, gold, least):
    """All matchings of pairs of one label that overlap enough: each predicted box takes one that is free, or none."""
    matchings = [[]]
    for n, (label, box) in enumerate(pred):
        for pairs in list(matchings):
            taken = {m for _, m in pairs}
            matchings += [
                [*pairs, (n, m)]
                for m, (own, other) in enumerate(gold)
                if own == label and m not in taken and iou(box, other) >= least
            ]
    return matchings
