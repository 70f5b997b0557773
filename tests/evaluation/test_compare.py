"""Comparisons of results: numbers by hand, subsets, flips, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing_results import GOLD, boxed, boxes, write
from testing_samples import sample
from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.compare import compare_results
from vlm_r1.evaluation.compare_files import read_result, read_results
from vlm_r1.evaluation.compare_values import Comparison, Difference, as_json
from vlm_r1.evaluation.metrics import bootstrap_ci
from vlm_r1.evaluation.significance import permutation_p
from vlm_r1.runtime.run_folder import read_json, write_json

FIRST = [80, 20, 20, 20, 20, 20, 70, 80]
OTHER = [80, 60, 70, 80, 90, 20, 40, 85]  # four get right, one gets wrong, three stay


def compare(folder: Path, *several: Any, **protocol: Any) -> Comparison:
    paths = [write(folder, f"result{number}", samples, **protocol) for number, samples in enumerate(several)]
    return compare_results(read_results(paths))


def by_name(differences: tuple[Difference, ...]) -> dict[str, Difference]:
    return {one.metric: one for one in differences}


def test_differences_by_hand(tmp_path: Path) -> None:
    comparison = compare(tmp_path, boxes(FIRST), boxes(OTHER))
    (versus,) = comparison.others
    assert (comparison.main, comparison.counted) == ("accuracy_iou50", "records")
    found = by_name(versus.metrics)
    accuracy = found["accuracy_iou50"]
    assert (accuracy.n, accuracy.images) == (8, 8)
    assert (accuracy.first, accuracy.other, accuracy.difference) == (3 / 8, 6 / 8, 3 / 8)
    assert (accuracy.better, accuracy.worse, accuracy.equal) == (4, 1, 3)
    assert accuracy.mcnemar_p == pytest.approx(2 * (1 + 5) / 2**5) == accuracy.p  # 5 flips, of which at most 1 is down
    changes = [0, 1, 1, 1, 1, 0, -1, 0]
    assert accuracy.ci95 == bootstrap_ci(changes)
    assert accuracy.permutation_p == pytest.approx(accuracy.p), "without clusters both are the same test"
    overlap = found["iou"]
    assert overlap.difference == pytest.approx((40 + 50 + 60 + 70 - 30 + 5) / 8 / 100)
    assert (overlap.better, overlap.worse, overlap.equal) == (5, 1, 2)
    assert overlap.mcnemar_p is None
    # of 2⁶ signs of 40, 50, 60, 70, −30, 5 (sum 195), these reach 195 or more: all up (255), without 5 (245), without
    # 30 (195), and their negatives
    assert overlap.p == pytest.approx(6 / 64)


def test_flips_are_the_records_whose_main_metric_changed_the_largest_first(tmp_path: Path) -> None:
    (versus,) = compare(tmp_path, boxes(FIRST), boxes(OTHER), metrics=["iou"]).others
    assert [pair.first.record_id for pair in versus.better] == ["4", "3", "2", "1", "7"]  # 70, 60, 50, 40, 5 points
    assert [pair.first.record_id for pair in versus.worse] == ["6"]
    assert (versus.worse[0].first.text, versus.worse[0].other.text) == ("[0, 0, 100, 70]", "[0, 0, 100, 40]")
    (versus,) = compare(tmp_path, boxes(FIRST), boxes(OTHER)).others
    assert [pair.first.record_id for pair in versus.better] == ["1", "2", "3", "4"], "accuracies: all changes are 1"
    assert [pair.first.record_id for pair in versus.pairs] == [str(number) for number in range(8)]


def test_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    whole = compare(tmp_path, boxes(FIRST), boxes(OTHER))
    turned = compare(tmp_path, boxes(FIRST), boxes(OTHER)[::-1])
    assert turned.others[0].metrics == whole.others[0].metrics


def test_swapped_results_have_the_opposite_difference(tmp_path: Path) -> None:
    one = compare(tmp_path, boxes(FIRST), boxes(OTHER)).others[0]
    two = compare(tmp_path, boxes(OTHER), boxes(FIRST)).others[0]
    for forth, back in zip(one.metrics, two.metrics, strict=True):
        assert (forth.difference, forth.better, forth.worse) == (-back.difference, back.worse, back.better)
        assert (forth.p, forth.mcnemar_p) == (back.p, back.mcnemar_p)
        assert forth.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]), abs=0.05)


def test_a_result_does_not_differ_from_itself(tmp_path: Path) -> None:
    for one in compare(tmp_path, boxes(FIRST), boxes(FIRST)).others[0].metrics:
        assert (one.difference, one.ci95, one.p, one.better, one.worse) == (0.0, (0.0, 0.0), 1.0, 0, 0)


def test_means_are_those_of_the_results(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a", boxes(FIRST), inclusive=True), write(tmp_path, "b", boxes(OTHER), inclusive=True)]
    found = by_name(compare_results(read_results(paths)).others[0].metrics)
    for side, path in zip(("first", "other"), paths, strict=True):
        means = {name: value["mean"] for name, value in read_json(path)["metrics"].items()}
        assert {name: getattr(one, side) for name, one in found.items()} == pytest.approx(means)


def test_several_against_the_first(tmp_path: Path) -> None:
    comparison = compare(tmp_path, boxes(FIRST), boxes(OTHER), boxes([90] * 8))
    assert comparison.first.label == "result0"
    assert [versus.other.label for versus in comparison.others] == ["result1", "result2"]
    assert [versus.metrics[0].other for versus in comparison.others] == [6 / 8, 1.0]


# ---- protocols -----------------------------------------------------------------------------------------------------


def test_the_protocol_says_what_counts(tmp_path: Path) -> None:
    exactly = boxes([50, 50])
    strict = compare(tmp_path, boxes([20, 20]), exactly).others[0].metrics[0]
    inclusive = compare(tmp_path, boxes([20, 20]), exactly, inclusive=True).others[0].metrics[0]
    assert (strict.other, inclusive.other) == (0.0, 1.0)
    higher = compare(tmp_path, boxes(FIRST), boxes(OTHER), thresholds=[0.65], metrics=["accuracy_iou65"])
    assert higher.main == "accuracy_iou65"
    assert higher.others[0].metrics[0].other == 5 / 8  # 80, 70, 80, 90, 85
    assert [pair.first.record_id for pair in higher.others[0].better] == ["2", "3", "4"], "70, 80 and 90, not 60"
    assert higher.others[0].pairs[2].other.metrics["accuracy_iou65"] == 1.0, "pages show these"


def test_a_damaged_protocol_is_named(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, boxes(FIRST)) for name in ("one", "two")]
    for path in paths:
        result = read_json(path)
        result["protocol"]["thresholds"] = "many"
        write_json(path, result)
    with pytest.raises(ConfigError, match=r"one\.json: thresholds"):
        compare_results(read_results(paths))


def test_a_task_that_is_code_is_not_run(tmp_path: Path) -> None:
    """The protocol of a stranger's result may name it; what was judged counts."""
    named = [replace(answer, task="no_such_package:Task") for answer in boxes(FIRST)]
    paths = [write(tmp_path, name, boxes(FIRST)) for name in ("one", "two")]
    for path in paths:
        result = read_json(path)
        result["protocol"]["task"] = "no_such_package:Task"
        write_json(path, result)
    one, two = (replace(read_result(path, path.stem), samples=tuple(named)) for path in paths)
    assert compare_results([one, two]).others[0].metrics[0].first == 3 / 8


# ---- clusters, draws and objects -----------------------------------------------------------------------------------


def test_records_about_one_image_are_drawn_and_exchanged_together(tmp_path: Path) -> None:
    first = [boxed(number, 20, image=f"{number // 4}.jpg") for number in range(20)]
    other = [boxed(number, 80, image=f"{number // 4}.jpg") for number in range(20)]
    found = compare(tmp_path, first, other).others[0].metrics[0]
    assert (found.n, found.images) == (20, 5)
    assert found.p == found.permutation_p == 2 / 2**5
    assert found.mcnemar_p == 2 / 2**20, "the control: as if 20 records were independent"


def test_the_mean_of_several_draws_counts_once(tmp_path: Path) -> None:
    def drawn(*rows: tuple[int, ...]) -> list[Any]:
        return [boxed(number, iou, draw=draw) for number, row in enumerate(rows) for draw, iou in enumerate(row)]

    found = compare(tmp_path, drawn((80, 20), (20, 20)), drawn((80, 80), (20, 80)), decoding={"temperature": 1.0})
    accuracy = found.others[0].metrics[0]
    assert (accuracy.n, accuracy.first, accuracy.other) == (2, 0.25, 0.75)
    assert (accuracy.better, accuracy.mcnemar_p) == (2, None)
    assert [(pair.first.record_id, pair.first.draw) for pair in found.others[0].better] == [("0", 1), ("1", 1)]


def test_objects_count_once_if_the_protocol_says_so(tmp_path: Path) -> None:
    first = [boxed(0, 20), boxed(1, 20, image="0.jpg"), boxed(2, 20)]
    other = [boxed(0, 80), boxed(1, 80, image="0.jpg"), boxed(2, 20)]
    by_object = compare(tmp_path, first, other, level="object")
    accuracy = by_object.others[0].metrics[0]
    assert (by_object.counted, accuracy.n, accuracy.difference, accuracy.better) == ("objects", 2, 0.5, 1)
    assert compare(tmp_path, first, other).others[0].metrics[0].difference == pytest.approx(2 / 3)


# ---- subsets and numbers of the whole set --------------------------------------------------------------------------


def test_subsets_by_hand(tmp_path: Path) -> None:
    def answers(ious: list[int]) -> list[Any]:
        asked = ["the cat", "the cat", "the small cat on the left chair", "the small cat on the left chair"]
        return [boxed(number, iou, problem=asked[number % 4], image=f"{number}.jpg") for number, iou in enumerate(ious)]

    (versus,) = compare(tmp_path, answers(FIRST), answers(OTHER)).others
    parts = {(part.key, part.value): by_name(part.metrics)["accuracy_iou50"] for part in versus.subsets}
    assert list(parts) == [("words", "1-3"), ("words", "7-10")], "keys with one value are left out"
    short, long = parts.values()  # records 0, 1, 4, 5 and 2, 3, 6, 7
    assert (short.n, short.first, short.other, short.better, short.worse) == (4, 1 / 4, 3 / 4, 2, 0)
    assert (long.n, long.first, long.other, long.better, long.worse) == (4, 2 / 4, 3 / 4, 2, 1)
    assert short.p == 2 * 1 / 2**2
    assert long.p == 1.0  # two of three flips are up: 2 · (1 + 3) / 2³
    assert short.n * short.difference + long.n * long.difference == 8 * versus.metrics[0].difference


def test_size_source_and_own_keys_are_subsets(tmp_path: Path) -> None:
    golds = {"small": [0, 0, 30, 30], "medium": [0, 0, 90, 90], "large": [0, 0, 100, 100]}
    answers = [
        sample(
            "rec",
            gold,
            "[0, 0, 30, 30]",
            record_id=size,
            source=f"{size}.jsonl:1",
            image=f"{size}.jpg",
            columns={"platform": "mobile"},
        )
        for size, gold in golds.items()
    ]
    (versus,) = compare(tmp_path, answers, answers, subsets_by=["platform"]).others
    values = {part.key: [other.value for other in versus.subsets if other.key == part.key] for part in versus.subsets}
    assert values["box_size"] == ["small", "medium", "large"]
    assert values["source"] == ["large.jsonl", "medium.jsonl", "small.jsonl"]
    assert values["platform"] == ["mobile"]


def test_what_other_records_have_is_not_paired(tmp_path: Path) -> None:
    """The error of a count exists where a count was read, and these are other records in each result."""
    first, other = (
        [sample("counting", 4, text, record_id=str(n), image=f"{n}.jpg") for n, text in enumerate(texts)]
        for texts in (("4", "many", "6"), ("4", "5", "4"))
    )
    (versus,) = compare(tmp_path, first, other).others
    assert [one.metric for one in versus.metrics] == ["accuracy"]
    whole = {one.metric: one for one in versus.whole}
    assert (whole["absolute_error"].first, whole["absolute_error"].other) == (
        1.0,
        1 / 3,
    )  # (0 + 2) / 2, (0 + 1 + 0) / 3
    assert whole["absolute_error"].ci95 is None


def test_less_of_an_error_is_better(tmp_path: Path) -> None:
    first, other = (
        [sample("counting", 4, text, record_id=str(n), image=f"{n}.jpg") for n, text in enumerate(texts)]
        for texts in (("4", "9", "6"), ("4", "5", "7"))
    )
    found = compare(tmp_path, first, other, metrics=["absolute_error"])
    (versus,) = found.others
    error = versus.metrics[0]
    assert (error.metric, error.difference, error.better, error.worse) == ("absolute_error", -1.0, 1, 1)


# ---- chance --------------------------------------------------------------------------------------------------------


def test_models_that_are_equally_good_rarely_seem_to_differ(tmp_path: Path) -> None:
    """Two models of 60 %, on hard and easy images with several questions: about 1 in 20 p is below 0.05."""
    generator, trials, false_alarms, missed = np.random.default_rng(0), 40, 0, 0
    template = read_result(write(tmp_path, "one", boxes([20])), "one")
    for trial in range(trials):
        easy = np.repeat(generator.random(25), 2)
        sides = [
            tuple(boxed(n, 80 if right else 20, image=f"{n // 2}.jpg") for n, right in enumerate(rights))
            for rights in (generator.random((2, 50)) < easy)
        ]
        one, two = (replace(template, samples=side) for side in sides)
        found = compare_results([one, two], seed=trial).others[0].metrics[0]
        false_alarms += found.p < 0.05
        missed += not found.ci95[0] <= 0 <= found.ci95[1]
    assert false_alarms <= 8  # binomial of 40 with 0.05: more than 8 has probability 0.0007
    assert missed <= 10  # the bootstrap of 25 images is a little too narrow


def test_as_json_holds_everything(tmp_path: Path) -> None:
    found = as_json(compare(tmp_path, boxes(FIRST), boxes(OTHER)))
    assert (found["main"], found["counted"], found["first"]["label"]) == ("accuracy_iou50", "records", "result0")
    (against,) = found["against_first"]
    assert against["metrics"]["accuracy_iou50"]["mcnemar_p"] == 0.375 == against["metrics"]["accuracy_iou50"]["p"]
    assert against["metrics"]["iou"]["permutation_p"] == permutation_p([0, 40, 50, 60, 70, 0, -30, 5])
    assert [flip["record_id"] for flip in against["better"]] == ["1", "2", "3", "4"]
    (worse,) = against["worse"]
    assert (worse["record_id"], worse["change"], worse["source"]) == ("6", -1.0, "val.jsonl:7")
    assert (worse["first"]["answer"], worse["other"]["text"]) == ([0.0, 0.0, 100.0, 70.0], "[0, 0, 100, 40]")
    assert against["whole"]["format_rate"]["difference"] == 0.0
    assert GOLD == [0, 0, 100, 100]
