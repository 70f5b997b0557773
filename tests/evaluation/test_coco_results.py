"""Our samples as COCO's files: pycocotools and `vlm-r1 metrics` find our numbers in them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from testing_pycocotools import pycocotools_stats
from testing_samples import gold_objects, objects, sample
from vlm_r1.errors import DataError
from vlm_r1.evaluation.coco_results import coco_files, read_results, read_truth, write_coco
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import as_protocol
from vlm_r1.evaluation.set_statistics import set_statistics

A, B = (10, 20, 110, 220), (300, 100, 340, 130)


def test_by_hand():
    one = sample("ovd", gold_objects(("red  cat", A)), objects(("red cat", B), ("a dog", A)), image="x.jpg")
    none = sample("ovd", "None", "nonsense [", image="y.jpg", size=(32, 16))
    truth, results = coco_files([one, none], "order")
    assert truth == {
        "images": [
            {"id": 1, "file_name": "x.jpg", "width": 640, "height": 480, "record_id": one.record_id},
            {"id": 2, "file_name": "y.jpg", "width": 32, "height": 16, "record_id": none.record_id},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 20, 100, 200], "area": 20000, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "a dog"}, {"id": 2, "name": "red cat"}],
    }
    assert results == [
        {"image_id": 1, "category_id": 2, "bbox": [300, 100, 40, 30], "score": 1.0},
        {"image_id": 1, "category_id": 1, "bbox": [10, 20, 100, 200], "score": 0.5},
    ]
    assert [row["score"] for row in coco_files([one], "one")[1]] == [1.0, 1.0]


def drawn(seed, n, *, gold_share=1.0, found_share=1.0):
    """Samples of detection with up to 4 gold boxes and as many found ones that are more or less exact."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(n):
        gold, found = [], []
        for _ in range(int(generator.integers(0, 5))):
            x, y, w, h = (float(v) for v in (*generator.integers(0, 300, 2), *generator.integers(5, 150, 2)))
            label = str(generator.choice(["cat", "dog", "red car"]))
            moved = [round(v + float(generator.normal(0, 8)), 1) for v in (x, y, x + w, y + h)]
            gold += [(label, (x, y, x + w, y + h))] * int(generator.random() < gold_share)
            found += [(label if generator.random() < 0.8 else "bird", moved)] * int(generator.random() < found_share)
        made.append(sample("ovd", gold_objects(*gold), objects(*found), image=f"{i // 2}.jpg"))
    return made


@pytest.mark.parametrize("confidence", ["one", "order"])
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(drawn(0, 60), id="all kinds"),
        pytest.param(drawn(1, 40, found_share=0.3), id="few found"),
        pytest.param(drawn(2, 40, gold_share=0.3), id="many false alarms"),
        pytest.param(drawn(3, 10, found_share=0.0), id="no detections"),
        pytest.param(drawn(4, 10, gold_share=0.0), id="no gold"),
    ],
)
def test_pycocotools_finds_our_numbers_in_our_files(samples, confidence, tmp_path):
    truth, results = coco_files(samples, confidence)
    expected = pycocotools_stats(truth, results)
    if not truth["annotations"] or not results:
        assert set(expected) <= {-1.0, 0.0}
        return
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    read = read_truth(tmp_path / "truth")
    detections, notes = read_results(tmp_path / "results", read)
    assert list(set_statistics(detections, read.truth).values())[:12] == pytest.approx(expected, abs=1e-12)
    assert (read.notes, notes) == ((), ())
    assert 0 < expected[0] < 1


def test_another_task_is_refused():
    with pytest.raises(DataError, match="task is rec; wanted ovd"):
        coco_files([sample("rec", [1, 2, 3, 4], "[1, 2, 3, 4]")], "one")


def test_files_beside_a_result_are_those_of_the_measures(tmp_path):
    samples = drawn(3, 20)
    folder = write_coco(tmp_path / "val.json", samples, "order")
    assert folder == tmp_path / "val.coco"
    truth = read_truth(folder / "truth.json")
    detections, _ = read_results(folder / "results.json", truth)
    expected = measure(
        samples, as_protocol({"name": "a", "title": "A", "data": {"set": "s"}, "confidence": "order"}, ""), seed=0
    )
    found = set_statistics(detections, truth.truth)
    assert found["ap"] == pytest.approx(expected["dataset"]["ap"], abs=1e-12)


def test_no_files_of_other_tasks_or_of_several_answers(tmp_path):
    boxes = sample("rec", [0, 0, 1, 1], "[0, 0, 1, 1]", image="x.jpg")
    assert write_coco(tmp_path / "val.json", [boxes], "one") is None
    twice = [replace(one, draw=draw) for draw in (0, 1) for one in drawn(0, 2)]
    assert write_coco(tmp_path / "val.json", twice, "one") is None
    assert not list(tmp_path.iterdir())
