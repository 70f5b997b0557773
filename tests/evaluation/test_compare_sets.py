"""Intervals of the difference of APs of whole sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing_results import write
from testing_samples import gold_objects, objects, sample
from vlm_r1.evaluation.compare import compare_results
from vlm_r1.evaluation.compare_files import read_results
from vlm_r1.evaluation.compare_values import WholeDifference
from vlm_r1.runtime.run_folder import read_json


def whole_of(folder: Path, first: Any, other: Any) -> dict[str, WholeDifference]:
    paths = [write(folder, "result0", first), write(folder, "result1", other)]
    return {one.metric: one for one in compare_results(read_results(paths)).others[0].whole}


def detections(generator: np.random.Generator, n: int, shift: float) -> list[Any]:
    found: list[Any] = []
    for number in range(n):
        x, y = generator.integers(0, 300, 2).tolist()
        gold = ("cat", [x, y, x + 100, y + 100])
        moved = ("cat", [x + shift * generator.random(), y, x + 100, y + 100])
        own = {"record_id": str(number), "image": f"{number}.jpg", "source": f"val.jsonl:{number + 1}"}
        found.append(sample("ovd", gold_objects(gold), objects(moved), **own))
    return found


def test_ap_of_the_whole_set_has_an_interval_of_its_difference(tmp_path: Path) -> None:
    first, other = (detections(np.random.default_rng(5), 60, shift) for shift in (60.0, 40.0))
    ap = whole_of(tmp_path, first, other)["dataset_ap"]
    assert ap.difference == pytest.approx(ap.other - ap.first)
    assert ap.ci95 is not None
    assert 0 < ap.ci95[0] < ap.difference < ap.ci95[1]
    alone = [read_json(tmp_path / f"result{number}.json")["metrics"]["dataset_ap"]["ci95"] for number in (0, 1)]
    widths = [high - low for low, high in alone]
    independent = float(np.hypot(*widths))
    assert ap.ci95[1] - ap.ci95[0] < 0.8 * independent, "both results find the same images hard"


def test_ap_of_equal_results_does_not_differ(tmp_path: Path) -> None:
    same = detections(np.random.default_rng(5), 10, 60.0)
    whole = whole_of(tmp_path, same, same)
    assert (whole["dataset_ap"].difference, whole["dataset_ap"].ci95) == (0.0, (0.0, 0.0))
