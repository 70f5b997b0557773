"""Which results can be compared, and which answers belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testing_results import boxed, boxes, write, write_of_training
from vlm_r1.errors import DataError
from vlm_r1.evaluation.compare import compare_results
from vlm_r1.evaluation.compare_files import read_results
from vlm_r1.evaluation.compare_values import Difference
from vlm_r1.runtime.run_folder import read_json, write_json

FIRST = [80, 20, 20, 20, 20, 20, 70, 80]
OTHER = [80, 60, 70, 80, 90, 20, 40, 85]  # four get right, one gets wrong


def test_protocols_that_differ_are_refused_with_their_keys(tmp_path: Path) -> None:
    one = write(tmp_path, "one", boxes(FIRST))
    two = write(tmp_path, "two", boxes(OTHER), inclusive=True, decoding={"max_completion_length": 64})
    with pytest.raises(DataError, match="not measured alike") as refused:
        compare_results(read_results([one, two]))
    assert "\n  inclusive: False and True\n" in str(refused.value)
    assert "\n  decoding.max_completion_length: None and 64\n" in str(refused.value)
    assert "level" not in str(refused.value)


def test_another_hash_of_the_data_is_refused_and_another_name_is_not(tmp_path: Path) -> None:
    one, two = (write(tmp_path, name, boxes(FIRST), hash=name) for name in ("one", "two"))
    with pytest.raises(DataError, match=r"data\.hash: 'one' and 'two'"):
        compare_results(read_results([one, two]))
    three = write(tmp_path, "three", boxes(OTHER), hash="one", name="copy", title="The same by another name")
    assert compare_results(read_results([one, three])).others[0].metrics[0].better == 4


def test_results_of_trainings_are_compared_if_they_were_asked_alike(tmp_path: Path) -> None:
    one = write_of_training(tmp_path / "a", "after-val", boxes(FIRST))
    two = write_of_training(tmp_path / "b", "after-val", boxes(OTHER), data="/elsewhere/val.jsonl")
    assert compare_results(read_results([one, two])).others[0].metrics[0].better == 4
    asked = [replace(answer, template="r1") for answer in boxes(OTHER)]
    three = write_of_training(tmp_path / "c", "after-val", asked, data="test.jsonl")
    with pytest.raises(DataError, match="not measured alike") as refused:
        compare_results(read_results([one, three]))
    assert "\n  template: ['direct'] and ['r1']" in str(refused.value)
    assert "\n  data: 'val.jsonl' and 'test.jsonl'" in str(refused.value)


def test_a_result_with_a_protocol_and_one_without_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", boxes(FIRST)), write_of_training(tmp_path, "two", boxes(OTHER))
    for paths in ([one, two], [two, one]):
        with pytest.raises(DataError, match=r"two\.json: has no protocol"):
            compare_results(read_results(paths))


@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        pytest.param(
            boxes(FIRST), boxes(OTHER)[:6], r'result1\.json: lacks 2 of the 8 answers.*"6" \(val\.jsonl:7\)', id="fewer"
        ),
        pytest.param(boxes(FIRST)[1:], boxes(OTHER), r'result0\.json: lacks 1 of the 8.*record "0"', id="more"),
        pytest.param(
            boxes(FIRST),
            [*boxes(OTHER)[:7], replace(boxes(OTHER)[7], gold=[0, 0, 100, 99])],
            r'result1\.json: 1 of 8 answers have another gold answer.*record "7".*99.*there.*100',
            id="another gold answer",
        ),
        pytest.param(
            boxes(FIRST), boxes(OTHER, problem="the dog"), "8 of 8 answers have another problem", id="another problem"
        ),
    ],
)
def test_results_of_other_records_are_refused(tmp_path: Path, first: Any, other: Any, message: str) -> None:
    paths = [write(tmp_path, f"result{number}", samples) for number, samples in enumerate((first, other))]
    for path in paths:  # as results of trainings, which do not say how many were asked
        result = read_json(path)
        write_json(path, {key: result[key] for key in ("data", "task", "metrics")})
    with pytest.raises(DataError, match=message):
        compare_results(read_results(paths))


def test_ids_that_occur_twice_are_paired_in_their_order(tmp_path: Path) -> None:
    first, other = ([boxed(number, iou, record_id="same") for number, iou in enumerate(own)] for own in (FIRST, OTHER))
    assert accuracy_of(tmp_path, first, other).better == 4


def test_the_data_may_lie_elsewhere(tmp_path: Path) -> None:
    moved = [replace(answer, source=f"/mnt/{answer.source}", images=("/mnt/x.jpg",)) for answer in boxes(OTHER)]
    found = accuracy_of(tmp_path, boxes(FIRST), moved)
    assert (found.better, found.worse, found.images) == (4, 1, 8)


def accuracy_of(folder: Path, first: Any, other: Any) -> Difference:
    paths = [write(folder, "first", first), write(folder, "other", other)]
    return compare_results(read_results(paths)).others[0].metrics[0]
