"""How fast answers are judged: average precision against pycocotools, and every reward by itself against its target.

  OMP_NUM_THREADS=1 python -m benchmarks.rewards                           # a minute; wants a quiet machine
  OMP_NUM_THREADS=1 python -m benchmarks.rewards --samples 40 --images 50  # seconds; rough numbers
  OMP_NUM_THREADS=1 python -m benchmarks.rewards --json results.json       # into a file, too

Three tables, and one JSON line with the same numbers:

* `map`: microseconds for each completion of our `mean_average_precision`, and of what it stands for, a pycocotools
  evaluation of that one image (COCO objects, loadRes with every score 1.0, evaluate, accumulate, summarize). The two
  take turns over several rounds; of each sample the median counts. The program fails if any mAP, or odLength made of
  it, differs by more than 1e-9.
* `data_set`: the same for COCO's twelve statistics of many images at once, scores and 20 labels: `coco_statistics` from
  lists to numbers. The program fails if one of the twelve differs by more than 1e-9.
* `per_second`: completions that one core judges in a second with each reward: `judge`, from the text to the whole
  Score, metrics included; and `function`, the reward function alone on an answer that has been read. Completions
  come in groups of 8 for a record, as in training, and no text is judged twice. Where a target is set, it is for
  `judge`, and is met or missed. Mathematics is compared by a process of its own, one question at a time, and gets a
  tenth of the samples.

Seconds are processor time of this process, which a busy machine disturbs less than the clock; for mathematics, whose
work is done elsewhere, they are the clock's.

Each sample has gold boxes and predictions: where one side is empty, pycocotools has no number (or cannot load the
predictions), and our own rule holds, which the tests cover.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from benchmarks.answers import GROUP, MANY_LABELS, Group, Image, draw_group, draw_image
from benchmarks.machine import Watch
from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.evaluation.coco_statistics import coco_statistics
from vlm_r1.geometry.average_precision import mean_average_precision
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS, RewardInput
from vlm_r1.rewards.detection import odlength_reward
from vlm_r1.runtime.run_folder import environment
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Parsed, Record, Thinking

A = TypeVar("A")

TASK_OF_REWARD = {
    "iou": "rec",
    "ciou": "rec",
    "format": "rec",
    "map": "ovd",
    "ap50": "ovd",
    "odlength": "ovd",
    "set_f1": "ovd",
    "weighted_sum": "ovd",
    "nms_ap": "ovd",
    "exact_match": "vqa",
    "count": "counting",
    "math": "math",
}
TARGETS = {"iou": 20_000, "odlength": 5_000, "set_f1": 5_000}
"""Completions that one core should judge in a second: REC, and OVD by its two rewards that resist hacking."""

FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(644, 476)),)
TEMPLATE = TEMPLATES["r1"]
ROUNDS = 5
TOLERANCE = 1e-9


def main() -> None:
    """Measure, print three tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, default=300, help="single images compared, and completions judged a round (default 300)"
    )
    parser.add_argument("--images", type=int, default=500, help="images of the data set (default 500)")
    parser.add_argument("--boxes", type=int, default=10, help="most gold boxes of an image (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
    parser.add_argument("--json", type=Path, help="where to write the results, too")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with Watch() as machine:
        one_image = compare_images([draw_image(rng, args.boxes) for _ in range(args.samples)])
        data_set = compare_data_set([draw_image(rng, args.boxes, MANY_LABELS, scored=True) for _ in range(args.images)])
        per_second = {name: measure_reward(name, rng, args.samples, args.boxes) for name in TASK_OF_REWARD}
    show(one_image, data_set, per_second)
    sizes = {"samples": args.samples, "images": args.images, "boxes": args.boxes, "seed": args.seed, "rounds": ROUNDS}
    numbers = {"map": one_image, "data_set": data_set, "per_second": per_second, "targets": TARGETS}
    line = json.dumps({**numbers, **sizes, "environment": environment(), "machine": machine.told})
    print(line)
    if args.json:
        args.json.write_text(line, encoding="utf-8")


# ---- against pycocotools -------------------------------------------------------------------------------------------


def compare_images(samples: Sequence[Image]) -> dict[str, float]:
    """Time both on every image by itself, in turn, and check that they say the same.

    Raises:
        SystemExit: they do not.
    """
    ours_R_N, theirs_R_N = [], []
    for _ in range(ROUNDS):
        ours_R_N.append([timed(our_map, sample) for sample in samples])
        theirs_R_N.append([timed(pycocotools_statistics, [sample]) for sample in samples])
    differences = [
        abs(value - expected)
        for sample, (ours, _), ((theirs, *_), _) in zip(samples, ours_R_N[0], theirs_R_N[0], strict=True)
        for value, expected in [(ours, theirs), (our_odlength(sample), theirs * length_factor(sample))]
    ]
    check_equal(max(differences), "mAP or odLength of one image")
    ours_N, theirs_N = (
        [statistics.median(seconds for _, seconds in rounds) for rounds in zip(*timed_R_N, strict=True)]
        for timed_R_N in (ours_R_N, theirs_R_N)
    )
    return {
        "ours_us": 1e6 * statistics.mean(ours_N),
        "theirs_us": 1e6 * statistics.mean(theirs_N),
        "speedup": sum(theirs_N) / sum(ours_N),
        "speedup_median": statistics.median(theirs / ours for ours, theirs in zip(ours_N, theirs_N, strict=True)),
        "speedup_least": min(theirs / ours for ours, theirs in zip(ours_N, theirs_N, strict=True)),
        "largest_difference": max(differences),
        "gold_boxes": statistics.mean(len(sample.gold) for sample in samples),
        "found_boxes": statistics.mean(len(sample.found) for sample in samples),
    }


def compare_data_set(images: Sequence[Image]) -> dict[str, float]:
    """Time both on all images at once, in turn, and check that they say the same.

    Raises:
        SystemExit: they do not.
    """
    rounds = [(timed(our_statistics, images), timed(pycocotools_statistics, images)) for _ in range(ROUNDS)]
    (ours, _), (theirs, _) = rounds[0]
    difference = max(abs(value - expected) for value, expected in zip(ours, theirs, strict=True))
    check_equal(difference, "one of the twelve statistics of the data set")
    ours_s, theirs_s = (statistics.median(turn[side][1] for turn in rounds) for side in (0, 1))
    return {
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "speedup": theirs_s / ours_s,
        "largest_difference": difference,
        "images": len(images),
        "gold_boxes": sum(len(image.gold) for image in images),
        "found_boxes": sum(len(image.found) for image in images),
    }


def check_equal(difference: float, what: str) -> None:
    """Fail if our number and pycocotools' are not the same."""
    if difference > TOLERANCE:
        raise SystemExit(f"{what} differs from pycocotools by {difference}")


def our_map(sample: Image) -> float:
    """As the reward calls it."""
    return mean_average_precision(
        [item.box for item in sample.found],
        [item.label for item in sample.found],
        [item.box for item in sample.gold],
        [item.label for item in sample.gold],
    )


def our_odlength(sample: Image) -> float:
    """The reward itself, of an answer that says what was found."""
    record = Record(id="0", task="ovd", problem="", images=("",), answer=None)
    return odlength_reward(
        RewardInput("", split_tags(""), Thinking.REQUIRED, sample.found, sample.gold, FRAMES, record)
    )


def length_factor(sample: Image) -> float:
    """min(1, gold boxes / predicted boxes), which makes odLength of mAP."""
    return min(1.0, len(sample.gold) / len(sample.found))


def our_statistics(images: Sequence[Image]) -> tuple[float, ...]:
    """COCO's twelve numbers, labels as they are."""
    found = [(i, item) for i, image in enumerate(images) for item in image.found]
    gold = [(i, item) for i, image in enumerate(images) for item in image.gold]
    scores_N = np.array([score for image in images for score in image.scores])
    return astuple(coco_statistics(Detections(*columns(found), scores_N), GroundTruth(*columns(gold))))


def columns(items: Sequence[tuple[int, LabelledBox]]) -> tuple[Any, Any, Any]:
    """Numbers of the images, labels and boxes as arrays."""
    return (
        np.array([image for image, _ in items]),
        np.array([item.label for _, item in items]),
        np.array([item.box for _, item in items]),
    )


def pycocotools_statistics(images: Sequence[Image]) -> tuple[float, ...]:
    """COCO's twelve numbers; it prints them, too."""
    items = [item for image in images for item in image.gold + image.found]
    categories = {label: i for i, label in enumerate(dict.fromkeys(item.label for item in items))}
    gold = [annotation(i, item, categories) | {"iscrowd": 0} for i, image in enumerate(images) for item in image.gold]
    found = [
        annotation(i, item, categories) | {"score": score}
        for i, image in enumerate(images)
        for item, score in zip(image.found, image.scores, strict=True)
    ]
    truth: Any = COCO()  # its type stubs know files only
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": i, "name": label} for label, i in categories.items()],
        "annotations": [item | {"id": i} for i, item in enumerate(gold, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(map(float, evaluation.stats))


def annotation(image: int, item: LabelledBox, categories: dict[str, int]) -> dict[str, Any]:
    """A box as COCO writes it: x, y, width, height."""
    x1, y1, x2, y2 = item.box
    wh = (x2 - x1, y2 - y1)
    return {"image_id": image, "category_id": categories[item.label], "bbox": [x1, y1, *wh], "area": wh[0] * wh[1]}


def timed(function: Callable[[A], Any], argument: A) -> tuple[Any, float]:
    """(result, seconds)."""
    start = time.process_time()
    result = function(argument)
    return result, time.process_time() - start


# ---- every reward --------------------------------------------------------------------------------------------------


def measure_reward(name: str, rng: random.Random, samples: int, boxes: int) -> dict[str, float]:
    """Completions a second with one reward: medians over rounds, each on completions of its own."""
    task = get_task(TASK_OF_REWARD[name])
    groups = max(1, (samples // 10 if name == "math" else samples) // GROUP)

    def draw(n: int) -> list[Group]:
        return [draw_group(task.name, rng, boxes) for _ in range(n)]

    def whole(group: Group) -> None:
        attempts = [Attempt(text, record, FRAMES, task, TEMPLATE) for record, text in group]
        judge(attempts, BoxFormat.INPUT_PIXELS, {name: 1.0})

    def alone(givens: Sequence[RewardInput[Any]]) -> None:
        for given in givens:
            REWARDS[name](given)

    def read(record: Record, text: str) -> RewardInput[Any]:
        tagged = split_tags(text)
        parsed = task.parse(tagged.answer or "", record)
        assert isinstance(parsed, Parsed)
        value = task.to_pixels(parsed.value, FRAMES, BoxFormat.INPUT_PIXELS)
        return RewardInput(text, tagged, Thinking.REQUIRED, value, task.gold(record), FRAMES, record)

    clock = time.perf_counter if name == "math" else time.process_time
    whole(draw(1)[0])  # starts the helper process of mathematics
    judge_s, function_s = [], []
    for _ in range(ROUNDS):
        judge_s.append(seconds_each(whole, draw(groups), clock))
        function_s.append(seconds_each(alone, [[read(*sample) for sample in group] for group in draw(groups)], clock))
    return {"judge": 1 / statistics.median(judge_s), "function": 1 / statistics.median(function_s)}


def seconds_each(function: Callable[[Any], object], groups: Sequence[Any], clock: Callable[[], float]) -> float:
    """Mean seconds for one completion of the groups."""
    start = clock()
    for group in groups:
        function(group)
    return (clock() - start) / (len(groups) * GROUP)


# ---- printing ------------------------------------------------------------------------------------------------------


def show(one_image: dict[str, float], data_set: dict[str, float], per_second: dict[str, dict[str, float]]) -> None:
    """All three tables."""
    console = Console()
    table = Table("", "µs a completion", title="mAP of one image")
    table.add_row("vlm_r1", f"{one_image['ours_us']:.1f}")
    table.add_row("pycocotools", f"{one_image['theirs_us']:.1f}")
    table.add_row("speedup (totals / median / least)", speedups(one_image))
    table.add_row("largest difference of mAP and odLength", f"{one_image['largest_difference']:.1e}")
    console.print(table)
    table = Table("", "ms", title=f"COCO's twelve statistics of {data_set['images']} images")
    table.add_row("vlm_r1", f"{1e3 * data_set['ours_s']:.1f}")
    table.add_row("pycocotools", f"{1e3 * data_set['theirs_s']:.1f}")
    table.add_row("speedup", f"{data_set['speedup']:.0f} ×")
    table.add_row("largest difference of the twelve", f"{data_set['largest_difference']:.1e}")
    console.print(table)
    table = Table(
        "reward", "task", "judge", "function alone", "target of judge", title="completions a second, one core"
    )
    for name, rates in per_second.items():
        row = [f"{rates[part]:,.0f}" for part in ("judge", "function")]
        table.add_row(name, TASK_OF_REWARD[name], *row, verdict(name, rates["judge"]))
    console.print(table)


def verdict(name: str, rate: float) -> str:
    """`5,000: pass`, `5,000: FAIL`, or nothing where there is no target."""
    target = TARGETS.get(name)
    return "" if target is None else f"{target:,}: {'pass' if rate >= target else 'FAIL'}"


def speedups(one_image: dict[str, float]) -> str:
    """`240 × / 250 × / 150 ×`."""
    return " / ".join(f"{one_image[key]:.0f} ×" for key in ("speedup", "speedup_median", "speedup_least"))


if __name__ == "__main__":
    main()
