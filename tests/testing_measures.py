"""Files of samples and of COCO for the fuzzer, and what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from vlm_r1.cli.main import main
from vlm_r1.errors import DataError
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.evaluation.samples import read_samples

COCO_FILES: dict[str, Any] = {
    "results.json": [
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9},
        {"image_id": 8, "category_id": 2, "bbox": [10, 10, 20.5, 20], "score": 1},
    ],
    "truth.json": {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
            {"id": 2, "image_id": 8, "category_id": 2, "bbox": [10, 10, 20, 20], "iscrowd": 1},
        ],
    },
}

WAYS: list[dict[str, Any]] = [
    {"several": "largest", "level": "object", "subsets_by": ("x",), "aspects": {"all": ("t",)}},
    {"reading": "official"},
    {"reading": "official_baseline", "inclusive": True, "confidence": "order"},
]


def read_coco(folder: Path) -> str:
    """Measure COCO's files; returns some of the numbers."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["metrics", "--truth", str(folder / "truth.json"), "--predictions", str(folder / "results.json")])
    if status:
        assert status == 2
        raise DataError(err.getvalue())
    numbers = json.loads(out.getvalue())
    return ", ".join(f"{name} {numbers[name]:.3g}" for name in ("ap", "nms_ap", "gp", "gr"))


def asked_twice(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two draws of each sample, and a record whose answer has several boxes."""
    several = {"record_id": "s", "source": "t.jsonl:s", "text": "<answer>[1, 2, 3, 4] [1, 2, 9, 9]</answer>"}
    twice = [{**row, "draw": draw} for draw in (0, 1) for row in rows]
    return [*twice, *({**rows[0], **several, "reason": "several_boxes", "draw": draw} for draw in (0, 1))]


def read_and_measure(folder: Path) -> str:
    """Measure samples in every way that a protocol has."""
    samples = list(read_samples(folder / "samples.jsonl"))
    results = [measure(samples, Protocol(name="test", title="", data=DataSet(set=""), **way), seed=0) for way in WAYS]
    text = json.dumps(results)
    assert len(text) < 10_000_000
    records = len({(sample.source, sample.record_id) for sample in samples})
    return f"ap {results[0].get('dataset', {}).get('ap', -1):.3g} of {records} records"
