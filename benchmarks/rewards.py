"""How fast completions are judged: mAP against pycocotools image by image, and every reward by itself.

  OMP_NUM_THREADS=1 python -m benchmarks.rewards [--samples 300] [--boxes 10] [--json FILE]

Two tables, and one JSON line with the same numbers:

* `map`: microseconds for each completion of our `mean_average_precision`, and of what it stands for, a pycocotools
  evaluation of that one image (COCO objects, loadRes with every score 1.0, evaluate, accumulate, summarize). The two
  take turns over several rounds; of each sample the median counts. The program fails if any mAP, or odLength made of
  it, differs by more than 1e-9.
* `per_second`: completions that one core judges in a second with each reward: `judge`, from the text to the whole
  Score, metrics included; and `function`, the reward function alone on an answer that has been read. Completions
  come in groups of 8 for a record, as in training, and no text is judged twice. Mathematics is compared by a process
  of its own, one question at a time, and gets a tenth of the samples.

Seconds are processor time of this process, which a busy machine disturbs less than the clock; for mathematics, whose
work is done elsewhere, they are the clock's.

Each sample has gold boxes and predictions: where one side is empty, pycocotools has no number (or cannot load the
predictions), and our own rule holds, which the tests cover. Coordinates are quarters of a pixel, exact in binary, so
that width and height, which COCO wants, round nothing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from vlm_r1.geometry.average_precision import mean_average_precision
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS, RewardInput
from vlm_r1.rewards.detection import odlength_reward
from vlm_r1.runtime.run_folder import environment
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import Box, BoxFormat, ImageFrame, Parsed, Record

Objects = tuple[LabelledBox, ...]
Sample = tuple[Record, str]  # a record, and one completion of it

TASK_OF_REWARD = {  # every reward under its first name
    "iou": "rec",
    "map": "ovd",
    "ap50": "ovd",
    "odlength": "ovd",
    "format": "rec",
    "exact_match": "vqa",
    "count": "counting",
    "math": "math",
}
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(644, 476)),)
LABELS = ("person", "red car", "traffic light", "dog")
THOUGHT = (
    "The question asks for what stands on the left. There are two that look alike, and the nearer one is meant. " * 2
)
GROUP = 8
ROUNDS = 5
TOLERANCE = 1e-9


def main() -> None:
    """Measure, print two tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300, help="images compared, and completions judged a round")
    parser.add_argument("--boxes", type=int, default=10, help="most gold boxes of an image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    against_coco = compare_with_pycocotools([draw_detection(rng, args.boxes) for _ in range(args.samples)])
    per_second = {name: measure_reward(name, rng, args.samples, args.boxes) for name in TASK_OF_REWARD}
    show(against_coco, per_second)
    sizes = {"samples": args.samples, "boxes": args.boxes, "seed": args.seed, "rounds": ROUNDS}
    line = {"map": against_coco, "per_second": per_second, **sizes, "environment": environment()}
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line), encoding="utf-8")


# ---- against pycocotools -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detection:
    """What is on one image, and what was found; neither is empty."""

    gold: Objects
    found: Objects


def compare_with_pycocotools(samples: Sequence[Detection]) -> dict[str, float]:
    """Time both on every sample, in turn, and check that they say the same.

    Raises:
        SystemExit: they do not.
    """
    ours_R_N, theirs_R_N = [], []
    for _ in range(ROUNDS):
        ours_R_N.append([timed(our_map, sample) for sample in samples])
        with contextlib.redirect_stdout(io.StringIO()):
            theirs_R_N.append([timed(pycocotools_map, sample) for sample in samples])
    differences = [
        abs(value - expected)
        for sample, (ours, _), (theirs, _) in zip(samples, ours_R_N[0], theirs_R_N[0], strict=True)
        for value, expected in [(ours, theirs), (our_odlength(sample), theirs * length_factor(sample))]
    ]
    if max(differences) > TOLERANCE:
        raise SystemExit(f"mAP or odLength differs from pycocotools by {max(differences)}")
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


def our_map(sample: Detection) -> float:
    """As the reward calls it."""
    return mean_average_precision(
        [item.box for item in sample.found],
        [item.label for item in sample.found],
        [item.box for item in sample.gold],
        [item.label for item in sample.gold],
    )


def pycocotools_map(sample: Detection) -> float:
    """COCO's first number, of one image, every score 1.0; it prints all twelve."""
    categories = {label: i for i, label in enumerate(dict.fromkeys(item.label for item in sample.gold + sample.found))}
    truth: Any = COCO()  # its type stubs know files only
    truth.dataset = {
        "info": {},
        "images": [{"id": 1}],
        "categories": [{"id": i, "name": label} for label, i in categories.items()],
        "annotations": [coco_annotation(i, item, categories) | {"iscrowd": 0} for i, item in enumerate(sample.gold, 1)],
    }
    truth.createIndex()
    found = [coco_annotation(i, item, categories) | {"score": 1.0} for i, item in enumerate(sample.found, 1)]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def coco_annotation(number: int, item: LabelledBox, categories: dict[str, int]) -> dict[str, Any]:
    """A box as COCO writes it: x, y, width, height."""
    x1, y1, x2, y2 = item.box
    wh = (x2 - x1, y2 - y1)
    area = wh[0] * wh[1]
    return {"id": number, "image_id": 1, "category_id": categories[item.label], "bbox": [x1, y1, *wh], "area": area}


def our_odlength(sample: Detection) -> float:
    """The reward itself, of an answer that says what was found."""
    record = Record(id="0", task="ovd", problem="", images=("",), answer=None)
    return odlength_reward(RewardInput("", split_tags(""), True, sample.found, sample.gold, FRAMES, record))


def length_factor(sample: Detection) -> float:
    """min(1, gold boxes / predicted boxes), which makes odLength of mAP."""
    return min(1.0, len(sample.gold) / len(sample.found))


def timed(function: Callable[[Detection], float], sample: Detection) -> tuple[float, float]:
    """(result, seconds)."""
    start = time.process_time()
    result = function(sample)
    return result, time.process_time() - start


# ---- every reward --------------------------------------------------------------------------------------------------


def measure_reward(name: str, rng: random.Random, samples: int, boxes: int) -> dict[str, float]:
    """Completions a second with one reward: medians over rounds, each on completions of its own."""
    task = get_task(TASK_OF_REWARD[name])
    template = TEMPLATES["r1"]
    groups = max(1, (samples // 10 if name == "math" else samples) // GROUP)

    def whole(sample: Sample) -> None:
        record, text = sample
        judge(text, record, FRAMES, BoxFormat.INPUT_PIXELS, task=task, template=template, rewards={name: 1.0})

    def read(sample: Sample) -> RewardInput[Any]:
        record, text = sample
        tagged = split_tags(text)
        parsed = task.parse(tagged.answer or "")
        assert isinstance(parsed, Parsed)
        value = task.to_pixels(parsed.value, FRAMES, BoxFormat.INPUT_PIXELS)
        return RewardInput(text, tagged, True, value, task.gold(record), FRAMES, record)

    clock = time.perf_counter if name == "math" else time.process_time
    judge_s, function_s = [], []
    seconds_each(whole, draw_completions(task.name, rng, 1, boxes), clock)  # starts the helper process of mathematics
    for _ in range(ROUNDS):
        judge_s.append(seconds_each(whole, draw_completions(task.name, rng, groups, boxes), clock))
        given = [read(sample) for sample in draw_completions(task.name, rng, groups, boxes)]
        function_s.append(seconds_each(REWARDS[name], given, clock))
    return {"judge": 1 / statistics.median(judge_s), "function": 1 / statistics.median(function_s)}


def seconds_each(function: Callable[[Any], object], arguments: Sequence[Any], clock: Callable[[], float]) -> float:
    """Mean seconds of a call."""
    start = clock()
    for argument in arguments:
        function(argument)
    return (clock() - start) / len(arguments)


# ---- data ----------------------------------------------------------------------------------------------------------


def draw_detection(rng: random.Random, most_boxes: int) -> Detection:
    """Up to so many gold boxes of 1 to 4 labels; most are found, more or less exactly; some more are listed.

    Ties: one gold box in ten stands there twice, and one prediction in ten; in one image of ten a prediction overlaps
    two gold boxes equally.
    """
    labels = rng.sample(LABELS, rng.randint(1, len(LABELS)))
    gold = [LabelledBox(rng.choice(labels), draw_box(rng)) for _ in range(rng.randint(1, most_boxes))]
    gold += [item for item in gold if rng.random() < 0.1]
    found = list(find(gold, rng))
    found += [LabelledBox(rng.choice(LABELS), draw_box(rng)) for _ in range(rng.randint(not found, 3))]
    found += [item for item in found if rng.random() < 0.1]
    if rng.random() < 0.1:  # half way between two gold boxes, which overlap it equally
        x1, y1, x2, y2 = gold[0].box
        gold.append(LabelledBox(gold[0].label, (x1 + 8, y1, x2 + 8, y2)))
        found.append(LabelledBox(gold[0].label, (x1 + 4, y1, x2 + 4, y2)))
    rng.shuffle(found)
    return Detection(tuple(gold), tuple(found))


def find(gold: Sequence[LabelledBox], rng: random.Random) -> Sequence[LabelledBox]:
    """Most of the gold boxes, shifted by nothing, a little or much, and now and then under another label."""
    chosen = [item for item in gold if rng.random() < 0.85]
    return [
        LabelledBox(item.label if rng.random() < 0.9 else rng.choice(LABELS), shift(item.box, rng)) for item in chosen
    ]


def draw_box(rng: random.Random) -> Box:
    """20 to 200 pixels wide and high, on an image of 640 × 480."""
    x1, y1 = quarter(rng.uniform(0, 440)), quarter(rng.uniform(0, 280))
    return (x1, y1, x1 + quarter(rng.uniform(20, 200)), y1 + quarter(rng.uniform(20, 200)))


def shift(box: Box, rng: random.Random) -> Box:
    """Move and resize a box by up to 0, 4 or 8 pixels an edge, less than half of what it is wide."""
    most = rng.choice((0, 4, 8))
    x1, y1, x2, y2 = (edge + quarter(rng.uniform(-most, most)) for edge in box)
    return (x1, y1, x2, y2)


def quarter(value: float) -> float:
    """To the nearest quarter, a number that is exact in binary."""
    return round(4 * value) / 4


def draw_completions(task: str, rng: random.Random, groups: int, most_boxes: int) -> list[Sample]:
    """For each group a record and 8 different completions of it, some right and some wrong."""
    return [sample for _ in range(groups) for sample in DRAW[task](rng, most_boxes)]


def group_of(task: str, gold: Any, answers: Sequence[str]) -> list[Sample]:
    """The answers as completions of one record."""
    record = Record(id="0", task=task, problem="<image>which?", images=("a.png",), answer=gold, source="data.jsonl:1")
    return [(record, f"<think>{THOUGHT}</think><answer>{answer}</answer>") for answer in answers]


def draw_rec(rng: random.Random, _: int) -> list[Sample]:
    """One box, written as Qwen2.5-VL does."""
    gold = draw_box(rng)
    written = [[round(edge) for edge in shift(gold, rng)] for _ in range(GROUP)]
    return group_of("rec", list(gold), [f'{{"bbox_2d": {box}}}' for box in written])


def draw_ovd(rng: random.Random, most_boxes: int) -> list[Sample]:
    """Fenced JSON of some boxes; the predictions of all eight are drawn anew."""
    gold = draw_detection(rng, most_boxes).gold
    answers = []
    for _ in range(GROUP):
        found = [*find(gold, rng), LabelledBox(rng.choice(LABELS), draw_box(rng))]
        items = [{"bbox_2d": [round(edge) for edge in item.box], "label": item.label} for item in found]
        answers.append(f"```json\n{json.dumps(items)}\n```")
    return group_of("ovd", [{"bbox_2d": list(item.box), "label": item.label} for item in gold], answers)


def draw_vqa(rng: random.Random, _: int) -> list[Sample]:
    """A short label."""
    return group_of("vqa", rng.choice(LABELS), [f"  {rng.choice(LABELS).title()}." for _ in range(GROUP)])


def draw_counting(rng: random.Random, _: int) -> list[Sample]:
    """A number in a sentence."""
    return group_of("counting", rng.randint(0, 20), [f"There are {rng.randint(0, 20)}." for _ in range(GROUP)])


def draw_math(rng: random.Random, _: int) -> list[Sample]:
    """A fraction, expanded: right if the factor is the same above and below."""
    above, below = rng.randint(1, 10**6), rng.randint(2, 10**6)
    factors = [(rng.randint(2, 999), rng.randint(0, 1)) for _ in range(GROUP)]
    answers = [f"$\\frac{{{above * k}}}{{{below * (k + off)}}}$" for k, off in factors]
    return group_of("math", f"\\frac{{{above}}}{{{below}}}", answers)


DRAW: dict[str, Callable[[random.Random, int], list[Sample]]] = {
    "rec": draw_rec,
    "ovd": draw_ovd,
    "vqa": draw_vqa,
    "counting": draw_counting,
    "math": draw_math,
}


# ---- printing ------------------------------------------------------------------------------------------------------


def show(against_coco: dict[str, float], per_second: dict[str, dict[str, float]]) -> None:
    """Both tables."""
    console = Console()
    table = Table("", "µs a completion", title="mAP of one image")
    table.add_row("vlm_r1", f"{against_coco['ours_us']:.1f}")
    table.add_row("pycocotools", f"{against_coco['theirs_us']:.1f}")
    table.add_row("speedup (totals / median / least)", speedups(against_coco))
    table.add_row("largest difference of mAP and odLength", f"{against_coco['largest_difference']:.1e}")
    console.print(table)
    table = Table("reward", "task", "judge", "function alone", title="completions a second, one core")
    for name, rates in per_second.items():
        table.add_row(name, TASK_OF_REWARD[name], f"{rates['judge']:,.0f}", f"{rates['function']:,.0f}")
    console.print(table)


def speedups(against_coco: dict[str, float]) -> str:
    """`240 × / 250 × / 150 ×`."""
    return " / ".join(f"{against_coco[key]:.0f} ×" for key in ("speedup", "speedup_median", "speedup_least"))


if __name__ == "__main__":
    main()
