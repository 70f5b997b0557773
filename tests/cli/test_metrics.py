"""`vlm-r1 metrics` as a user runs it: numbers of the reference, of pycocotools, and what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from testing_pycocotools import pycocotools_stats
from vlm_r1.cli.main import main
from vlm_r1.evaluation.set_statistics import NAMES

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "reference" / "ovdeval_golden.json"

TRUTH = {
    "images": [{"id": 7}, {"id": 8}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
        {"id": 2, "image_id": 8, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
    ],
}
RESULTS = [
    {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9},
    {"image_id": 8, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.8},
]


@pytest.fixture
def measured(tmp_path, capsys):
    def run(truth, results):
        paths = [tmp_path / "truth.json", tmp_path / "results.json"]
        for path, content in zip(paths, (truth, results), strict=True):
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        status = main(["metrics", "--truth", str(paths[0]), "--predictions", str(paths[1])])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def numbers(measured, truth, results):
    status, out, err = measured(truth, results)
    assert (status, err) == (0, "")
    return json.loads(out)


def test_by_hand(measured):
    # cat: right at 0.9, then wrong → AP 1; dog: nothing → 0. GP 1/2, GR 1/2
    found = numbers(measured, TRUTH, RESULTS)
    assert list(found) == [*NAMES, *(f"nms_{name}" for name in NAMES), "gp", "gr"]
    assert found["ap"] == pytest.approx(1 / 2)
    assert found["ap_small"] == 0
    assert found["ap_large"] == -1
    assert (found["gp"], found["gr"]) == (1 / 2, 1 / 2)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference files are not here")
@pytest.mark.parametrize("number", range(4))
def test_reference(number, measured):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[number]
    status, out, _ = measured(case["gt"], case["predictions"])
    found = list(json.loads(out).values())
    assert status == 0
    assert found[:12] == pytest.approx(case["coco_stats"], abs=1e-9)
    assert found[12:24] == pytest.approx(case["nms_coco_stats"], abs=1e-9)
    assert found[:12] != pytest.approx(case["nms_coco_stats"], abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("equal_scores", [False, True], ids=["scores", "equal scores"])
def test_equals_pycocotools(seed, equal_scores, measured):
    generator = np.random.default_rng(seed)
    n, images = 120, generator.permutation(1000)[:20].tolist()

    def box(size):
        return [round(float(value), 2) for value in (*generator.uniform(0, 400, 2), *generator.uniform(5, size, 2))]

    annotations = [
        {
            "id": i,
            "image_id": int(generator.choice(images)),
            "category_id": int(generator.integers(3, 8)),
            "bbox": (bbox := box(180)),
            "area": bbox[2] * bbox[3] * float(generator.uniform(0.5, 1)),
            "iscrowd": int(generator.random() < 0.1),
        }
        for i in range(1, n)
    ]
    results = []
    for row in annotations:
        for _ in range(int(generator.integers(0, 4))):
            moved = [value + float(generator.normal(0, 6)) for value in row["bbox"]]
            bbox = [*moved[:2], max(moved[2], 0.0), max(moved[3], 0.0)]
            category = row["category_id"] if generator.random() < 0.8 else int(generator.integers(3, 8))
            score = 1.0 if equal_scores else float(generator.random())
            results.append({"image_id": row["image_id"], "category_id": category, "bbox": bbox, "score": score})
    truth = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": category} for category in range(3, 9)],
        "annotations": annotations,
    }
    found = list(numbers(measured, truth, results).values())
    expected = pycocotools_stats(truth, results)
    assert 0.01 < expected[0] < 0.9
    assert found[:12] == pytest.approx(expected, abs=1e-12)
    assert found[:12] != pytest.approx(pycocotools_stats(truth, results[:-40]), abs=1e-4)


def without(row, key):
    return {name: value for name, value in row.items() if name != key}


def with_result(**values):
    return [RESULTS[0], {**RESULTS[1], **values}]


def with_images(*ids):
    return {**TRUTH, "images": [{"id": one} for one in ids]}


def with_annotation(**values):
    return {**TRUTH, "annotations": [TRUTH["annotations"][0], {**TRUTH["annotations"][1], **values}]}


@pytest.mark.parametrize(
    ("truth", "results", "messages"),
    [
        pytest.param(TRUTH, with_result(image_id=9), ["results.json: [1].image_id: got 9", "2 image"], id="image"),
        pytest.param(TRUTH, with_result(image_id="8"), ["[1].image_id: got '8'", "8 is known"], id="id as a text"),
        pytest.param(TRUTH, with_result(image_id=None), ["[1].image_id: got None"], id="no id"),
        pytest.param(TRUTH, with_result(category_id=3), ["[1].category_id: got 3", "2 category"], id="category"),
        pytest.param(TRUTH, [RESULTS[0], without(RESULTS[1], "score")], ["[1].score: missing"], id="score missing"),
        pytest.param(TRUTH, with_result(score=float("nan")), ["[1].score: got nan"], id="score nan"),
        pytest.param(TRUTH, with_result(score="0.5"), ["[1].score: got '0.5'"], id="score as a text"),
        pytest.param(TRUTH, with_result(score=True), ["[1].score: got True"], id="score true"),
        pytest.param(TRUTH, with_result(bbox=[1, 2, 3]), ["[1].bbox: got [1, 2, 3]", "[x, y, width"], id="three"),
        pytest.param(TRUTH, with_result(bbox=[1, 2, -3, 4]), ["[1].bbox: got [1, 2, -3, 4]"], id="negative width"),
        pytest.param(TRUTH, with_result(bbox=[1, 2, float("inf"), 4]), ["[1].bbox: got [1, 2, inf"], id="infinite"),
        pytest.param(TRUTH, with_result(bbox={"x": 1}), ["[1].bbox"], id="object"),
        pytest.param(TRUTH, [1], ["[0]: got 1; wanted an object"], id="no object"),
        pytest.param(TRUTH, [], ["results.json: got an empty list"], id="empty"),
        pytest.param(TRUTH, {"annotations": RESULTS}, ["results.json: got", "wanted a list"], id="no list"),
        pytest.param(TRUTH, "[{", ["results.json: not valid JSON"], id="no JSON"),
        pytest.param([], RESULTS, ["truth.json: got []; wanted an object"], id="truth: no object"),
        pytest.param(without(TRUTH, "categories"), RESULTS, ["truth.json: categories: got None"], id="truth: no key"),
        pytest.param({**TRUTH, "annotations": []}, RESULTS, ["truth.json: annotations: got none"], id="truth: no box"),
        pytest.param(with_images(7, 7), RESULTS, ["images[1].id: 7 is the id of"], id="truth: id twice"),
        pytest.param(with_annotation(id=1), RESULTS, ["annotations[1].id: 1 is the id of"], id="truth: box twice"),
        pytest.param(with_images(7, "8"), RESULTS, ["some ids are numbers"], id="truth: kinds"),
        pytest.param(with_annotation(image_id=5), RESULTS, ["annotations[1].image_id: got 5"], id="truth: image"),
        pytest.param(with_annotation(category_id=5), RESULTS, ["annotations[1].category_id"], id="truth: category"),
        pytest.param(with_annotation(bbox=[1, 2, 3]), RESULTS, ["annotations[1].bbox: got [1"], id="truth: three"),
        pytest.param(with_annotation(area=-1), RESULTS, ["annotations[1].area: got -1"], id="truth: area"),
        pytest.param(with_annotation(iscrowd="no"), RESULTS, ["annotations[1].iscrowd: got 'no'"], id="truth: crowd"),
    ],
)
def test_bad_files(truth, results, messages, measured):
    status, out, err = measured(truth, results)
    assert (status, out) == (2, "")
    assert all(message in err for message in messages), err


@pytest.mark.parametrize(
    ("truth", "results", "message"),
    [
        pytest.param(TRUTH, [*RESULTS, RESULTS[0]], "1 detections are there more than once", id="twice"),
        pytest.param(
            {**TRUTH, "annotations": [without(row, "area") for row in TRUTH["annotations"]]},
            RESULTS,
            "2 annotations have no area",
            id="area",
        ),
        pytest.param(with_annotation(id=0), RESULTS, "an annotation has the id 0", id="annotation 0"),
    ],
)
def test_what_is_odd_is_said(truth, results, message, measured):
    status, out, err = measured(truth, results)
    assert status == 0
    assert json.loads(out)["gr"] == 1 / 2
    assert message in err


def test_a_repeated_detection_counts_again(measured):
    found = json.loads(measured(TRUTH, [*RESULTS, RESULTS[0]])[1])
    assert found["gp"] == 1 / 3


def test_pycocotools_takes_annotation_0_for_nothing(measured):
    found = [{**RESULTS[1], "category_id": 2, "bbox": [10, 10, 20, 20]}]
    assert json.loads(measured(with_annotation(id=0), found)[1])["ap"] == pytest.approx(1 / 2)
    assert pycocotools_stats(with_annotation(id=0), found)[0] == 0


def test_missing_file(tmp_path, capsys):
    assert main(["metrics", "--truth", str(tmp_path / "no.json"), "--predictions", str(tmp_path / "no.json")]) == 2
    assert "no.json: cannot read the file" in capsys.readouterr().err
