"""The data-set statistics against pycocotools, and by hand."""

import contextlib
import io
import json
import random
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.evaluation.coco_statistics import (
    CocoStatistics,
    average_precision_by_category,
    coco_curves,
    coco_statistics,
    summarize,
)
from vlm_r1.geometry.average_precision import mean_average_precision
from vlm_r1.geometry.boxes import area

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "reference" / "ovdeval_golden.json"


@dataclass(frozen=True)
class Gold:
    image: int
    category: int
    box: tuple  # xyxy
    area: float | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Found:
    image: int
    category: int
    box: tuple
    score: float


SQUARE, BESIDE, FAR = (0, 0, 50, 50), (100, 0, 150, 50), (300, 300, 350, 350)  # 2,500 px²: medium
NEITHER = -1.0


def _statistics(gold, found):
    return coco_statistics(_detections(found), _truth(gold))


@pytest.mark.parametrize(
    ("gold", "found", "expected"),
    [
        pytest.param([Gold(1, 1, SQUARE)], [Found(1, 1, SQUARE, 0.5)], {"ap": 1, "ar_100": 1}, id="right"),
        pytest.param([Gold(1, 1, SQUARE)], [Found(2, 1, SQUARE, 0.5)], {"ap": 0, "ar_100": 0}, id="another_image"),
        pytest.param([Gold(1, 1, SQUARE)], [], {"ap": 0, "ar_100": 0, "ap_small": NEITHER}, id="nothing_found"),
        pytest.param([], [Found(1, 1, SQUARE, 0.5)], {"ap": NEITHER, "ar_1": NEITHER}, id="nothing_there"),
        pytest.param([], [], {"ap": NEITHER, "ar_100": NEITHER}, id="both_empty"),
        # IoU 2,500 / 4,000 = 0.625 reaches 0.50, 0.55 and 0.60
        pytest.param(
            [Gold(1, 1, SQUARE)],
            [Found(1, 1, (0, 0, 80, 50), 0.5)],
            {"ap": 3 / 10, "ap_50": 1, "ap_75": 0},
            id="rough",
        ),
        # the wrong one of image 2 stands between in score: precision 1, then 2/3 at recall 1 → 51 and 50 recalls
        pytest.param(
            [Gold(1, 1, SQUARE), Gold(1, 1, BESIDE)],
            [Found(1, 1, SQUARE, 0.9), Found(1, 1, BESIDE, 0.1), Found(2, 1, FAR, 0.5)],
            {"ap": (51 + 50 * 2 / 3) / 101, "ar_1": 1 / 2, "ar_10": 1},
            id="scores_order_the_detections_of_all_images",
        ),
        pytest.param(
            [Gold(1, 1, SQUARE)],
            [Found(1, 1, FAR, 0.5), Found(1, 1, SQUARE, 0.5)],
            {"ap": 1 / 2},
            id="equal_scores_as_given",
        ),
        # the first overlaps both by 40/60 and takes the last, up to 0.65, where the second finds nothing left for it;
        # from 0.70 it is wrong and the second is right: 51 recalls at precision 1, or at 1/2
        pytest.param(
            [Gold(1, 1, (0, 0, 50, 50)), Gold(1, 1, (20, 0, 70, 50))],
            [Found(1, 1, (10, 0, 60, 50), 0.9), Found(1, 1, (20, 0, 70, 50), 0.5)],
            {"ap": (4 * 51 / 101 + 6 * 51 / 101 / 2) / 10, "ar_100": 1 / 2},
            id="of_equal_overlaps_the_last",
        ),
        pytest.param(
            [Gold(1, 1, SQUARE), Gold(1, 2, BESIDE)],
            [Found(1, 1, SQUARE, 0.5)],
            {"ap": (1 + 0) / 2},
            id="mean_over_categories",
        ),
        pytest.param(
            [Gold(1, 1, SQUARE)],
            [Found(1, 9, SQUARE, 0.9), Found(1, 1, SQUARE, 0.5)],
            {"ap": 1},
            id="a_category_that_is_nowhere_counts_nothing",
        ),
        # two detections within the crowd are neither right nor wrong, one half outside it is wrong: 1/2 at recall 1
        pytest.param(
            [Gold(1, 1, BESIDE), Gold(1, 1, (0, 0, 90, 90), crowd=True)],
            [
                Found(1, 1, (0, 0, 20, 20), 0.9),
                Found(1, 1, (10, 10, 30, 30), 0.8),
                Found(1, 1, (79, 0, 99, 20), 0.7),  # 11/20 within: ignored up to 0.55, wrong from 0.60
                Found(1, 1, BESIDE, 0.6),
            ],
            {"ap": (2 * 1 + 8 / 2) / 10, "ap_50": 1, "ap_75": 1 / 2},
            id="crowd",
        ),
        pytest.param([Gold(1, 1, SQUARE, crowd=True)], [Found(1, 1, SQUARE, 0.5)], {"ap": NEITHER}, id="crowd_alone"),
        # by the annotation's own area both are small; the detection that misses is medium by its box, so left out there
        pytest.param(
            [Gold(1, 1, SQUARE, area=1024.0), Gold(1, 1, BESIDE, area=900.0)],
            [Found(1, 1, FAR, 0.9), Found(1, 1, SQUARE, 0.5), Found(1, 1, BESIDE, 0.4)],
            {"ap": 2 / 3, "ap_small": 1.0, "ap_medium": (1 / 2) * 1, "ap_large": NEITHER, "ar_small": 1.0},
            id="area_ranges_include_their_limits",
        ),
        pytest.param(
            [Gold(1, 1, SQUARE)],
            [Found(1, 1, FAR, 0.9)] * 100 + [Found(1, 1, SQUARE, 0.5)],
            {"ap": 0, "ar_100": 0},
            id="the_101st_is_not_looked_at",
        ),
        pytest.param(
            [Gold(1, 1, SQUARE)],
            [Found(1, 1, FAR, 0.9)] * 9 + [Found(1, 1, SQUARE, 0.5)],
            {"ap": 1 / 10, "ar_1": 0, "ar_10": 1},
            id="the_10th_is_among_ten",
        ),
    ],
)
def test_by_hand(gold, found, expected):
    statistics = _statistics(gold, found)
    assert {name: getattr(statistics, name) for name in expected} == pytest.approx(expected, abs=1e-12)


def test_ids_may_be_strings():
    gold = GroundTruth(np.array(["b.jpg", "a.jpg"]), np.array(["dog", "cat"]), np.array([SQUARE, BESIDE], dtype=float))
    found = Detections(np.array(["a.jpg"]), np.array(["cat"]), np.array([BESIDE], dtype=float), np.array([1.0]))
    assert average_precision_by_category(coco_curves(found, gold)) == pytest.approx({"cat": 1.0, "dog": 0.0})


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"image_ids_N": np.array([1, 2])}, id="length"),
        pytest.param({"boxes_N4": np.array([0.0, 0.0, 1.0, 1.0])}, id="boxes_not_in_rows"),
        pytest.param({"scores_N": np.array([np.nan])}, id="score_not_a_number"),
        pytest.param({"boxes_N4": np.array([[0, 0, np.inf, 1.0]])}, id="box_not_finite"),
    ],
)
def test_columns_that_do_not_fit_are_refused(broken):
    right = _detections([Found(1, 1, SQUARE, 0.5)])
    with pytest.raises(ValueError, match=r"shapes|finite"):
        replace(right, **broken)


def test_ids_of_two_kinds_are_refused():
    gold = GroundTruth(np.array([1]), np.array(["cat"]), np.array([SQUARE], dtype=float))
    with pytest.raises(ValueError, match="kind"):
        coco_statistics(_detections([Found(1, 1, SQUARE, 0.5)]), gold)


# ---- against pycocotools -------------------------------------------------------------------------------------------

edge = st.integers(0, 12).map(lambda n: 8 * n)
side = st.sampled_from([0, 8, 16, 32, 64, 96])
box = st.tuples(edge, edge, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
some_gold = st.builds(
    Gold,
    image=st.integers(1, 3),
    category=st.integers(1, 3),
    box=box,
    area=st.sampled_from([None, 0.0, 1023.5, 1024.0, 9216.0, 9217.0, 1e10, 2e10]),
    crowd=st.booleans(),
)
some_found = st.builds(
    Found,
    image=st.integers(1, 4),
    category=st.integers(1, 4),
    box=box,
    score=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]),
)


@settings(deadline=None)
@given(st.lists(some_gold, max_size=12), st.lists(some_found, max_size=12))
def test_equals_pycocotools_on_few_objects(gold, found):
    _assert_equals_pycocotools(gold, found)


KINDS = {
    "plain": {},
    "crowds": {"crowd": 0.3},
    "ties": {"scores": (0.25, 0.5, 0.75)},
    "all_scores_one": {"scores": (1.0,)},
    "areas_on_the_limits": {"areas": (1024.0, 9216.0, 1024.5, 9215.5)},
    "small_objects": {"sides": (4, 40)},
    "many_categories": {"categories": 12, "images": 4},
    "piled_up": {"images": 2, "categories": 2, "place": 30, "copies": 12},
    "over_a_hundred": {"images": 2, "categories": 1, "gold": 40, "copies": 8, "place": 400},
    "equal_overlaps": {"sides": (50, 50), "place": 100, "grid": 0.1, "images": 3},
    "fractions": {"grid": None},
    "crowds_ties_and_piles": {"crowd": 0.5, "scores": (0.5, 1.0), "images": 3, "place": 40, "copies": 5},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pycocotools_on_random_sets(kind, seed):
    gold, found = _draw(random.Random(f"{kind} {seed}"), **KINDS[kind])
    statistics = _assert_equals_pycocotools(gold, found)
    assert 0 < statistics.ap < 1


def test_the_comparison_notices_a_difference():
    gold, found = _draw(random.Random(0))
    worse = [replace(found[0], score=-1.0), *found[1:]]
    with pytest.raises(AssertionError):
        _assert_equals_pycocotools(gold, worse, shown=found)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference files are not here")
def test_equals_the_statistics_of_the_reference_sets():
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        found = [Found(p["image_id"], p["category_id"], _xyxy(p["bbox"]), p["score"]) for p in case["predictions"]]
        gold = [
            Gold(a["image_id"], a["category_id"], _xyxy(a["bbox"]), a["area"], bool(a["iscrowd"]))
            for a in case["gt"]["annotations"]
        ]
        assert astuple(_statistics(gold, found)) == pytest.approx(case["coco_stats"], abs=1e-9)


objects = st.lists(st.tuples(st.sampled_from(["cat", "dog", "red car"]), box), min_size=1, max_size=8)


@settings(deadline=None)
@given(objects, objects)
def test_one_image_with_equal_scores_equals_the_mean_average_precision_of_rewards(pred, gold):
    labels = sorted({label for label, _ in pred + gold})
    statistics = _statistics(
        [Gold(1, labels.index(label), box) for label, box in gold],
        [Found(1, labels.index(label), box, 1.0) for label, box in pred],
    )
    expected = mean_average_precision(*_columns(pred), *_columns(gold))
    assert statistics.ap == pytest.approx(expected, abs=1e-9)


def _columns(objects):
    return [box for _, box in objects], [label for label, _ in objects]


def _xyxy(xywh):
    x, y, width, height = xywh
    return (x, y, x + width, y + height)


def _detections(found):
    return Detections(
        np.array([item.image for item in found], dtype=np.int64),
        np.array([item.category for item in found], dtype=np.int64),
        np.array([item.box for item in found], dtype=float).reshape(-1, 4),
        np.array([item.score for item in found], dtype=float),
    )


def _truth(gold):
    return GroundTruth(
        np.array([item.image for item in gold], dtype=np.int64),
        np.array([item.category for item in gold], dtype=np.int64),
        np.array([item.box for item in gold], dtype=float).reshape(-1, 4),
        np.array([_area(item) for item in gold], dtype=float),
        np.array([item.crowd for item in gold], dtype=bool),
    )


def _area(item):
    if isinstance(item, Gold) and item.area is not None:
        return item.area
    return area(item.box)


def _draw(
    rng,
    *,
    images=10,
    categories=4,
    gold=8,
    copies=2,
    place=500,
    sides=(8, 140),
    crowd=0.0,
    scores=None,
    areas=None,
    grid=4,
):
    """Gold boxes, and detections near them and elsewhere; some images and categories stay without either."""

    def number(low, high):
        value = rng.uniform(low, high)
        return value if grid is None else round(value * grid) / grid

    def new_box():
        x, y = number(0, place), number(0, place)
        return (x, y, x + number(*sides), y + number(*sides))

    def near(box):
        most = rng.choice([0, 2, 10])
        x1, y1, x2, y2 = (value + number(-most, most) for value in box)
        return (x1, y1, max(x1, x2), max(y1, y2))

    there = [
        Gold(
            rng.randint(1, images),
            rng.randint(1, categories),
            new_box(),
            rng.choice(areas) if areas else number(20, 20_000) if rng.random() < 0.5 else None,
            rng.random() < crowd,
        )
        for _ in range(gold * images)
    ]
    there += rng.choices(there, k=3)  # the same object twice
    score = (lambda: rng.choice(scores)) if scores else rng.random
    found = [
        Found(item.image, item.category, near(item.box), score())
        for item in there
        for _ in range(rng.randint(0, copies))
    ]
    found += [Found(rng.randint(1, images + 1), rng.randint(1, categories + 1), new_box(), score()) for _ in range(20)]
    rng.shuffle(found)
    return there, found


def _assert_equals_pycocotools(gold, found, shown=None):
    curves = coco_curves(_detections(found), _truth(gold))
    expected = _pycocotools(gold, shown or found)
    has_gold = [i for i, category in enumerate(expected.params.catIds) if category in curves.category_ids]
    assert [expected.params.catIds[i] for i in has_gold] == list(curves.category_ids)
    precision_TRKA = expected.eval["precision"][..., -1][:, :, has_gold]
    np.testing.assert_allclose(curves.precision_TRKA, precision_TRKA, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.recall_TKAM, expected.eval["recall"][:, has_gold], rtol=0, atol=1e-12)
    statistics = summarize(curves)
    assert astuple(statistics) == pytest.approx(expected.stats.tolist(), abs=1e-12)
    by_category = [k[k > -1].mean() if (k > -1).any() else -1 for k in np.moveaxis(precision_TRKA[..., 0], 2, 0)]
    assert list(average_precision_by_category(curves).values()) == pytest.approx(by_category, abs=1e-12)
    assert statistics == coco_statistics(_detections(found), _truth(gold))
    return statistics


def _pycocotools(gold, found):
    """Its evaluation, every image and category named."""
    both = [*gold, *found]
    annotations = [
        {**_annotation(i, item), "area": _area(item), "iscrowd": int(item.crowd)} for i, item in enumerate(gold, 1)
    ]
    results = [{**_annotation(i, item), "area": _area(item), "score": item.score} for i, item in enumerate(found, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_coco(both, objects) for objects in (annotations, results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _coco(both, annotations):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in sorted({item.image for item in both})],
        "categories": [{"id": category} for category in sorted({item.category for item in both})],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _annotation(number, item):
    x1, y1, x2, y2 = item.box
    return {"id": number, "image_id": item.image, "category_id": item.category, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def test_the_twelve_stand_in_the_order_of_coco():
    assert list(CocoStatistics.__annotations__)[:3] == ["ap", "ap_50", "ap_75"]
    gold = [Gold(1, 1, SQUARE)]
    assert astuple(_statistics(gold, [])) == (0, 0, 0, -1, 0, -1, 0, 0, 0, -1, 0, -1)
