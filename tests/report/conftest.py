"""Run folders for the page: real files, written through the package's own writers, from a made-up training run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from testing_held_out import write_held_out
from vlm_r1.runtime.metrics_log import append_metrics
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.types import AnswerValue, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason

COLOURS = {"red": "#d94436", "green": "#2f9e58", "blue": "#2f6fd0", "yellow": "#e0b12c"}


def make_group(
    problem: str,
    gold: AnswerValue,
    answers: list[tuple[str, AnswerValue, float, str | None]],
    images: tuple[str, ...] = (),
    sizes: tuple[tuple[int, int], ...] = (),
    task: str = "rec",
    record_id: str = "0",
) -> Group:
    """A group from (text, parsed answer, accuracy, reason of a parse failure) of each completion."""
    record = Record(record_id, task, problem, images, gold, source=f"train.jsonl:{record_id}")
    encoded = EncodedPrompt((1, 2), {}, tuple(ImageFrame(wh, wh) for wh in sizes), f"<|user|>{problem}")
    rewards = [accuracy + (reason is None) for _, _, accuracy, reason in answers]
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / max(1, len(rewards) - 1))
    rollouts = []
    for (text, answer, accuracy, reason), reward in zip(answers, rewards, strict=True):
        parts = {"accuracy": accuracy, "format": float(reason is None)}
        score = Score(reward, parts, answer, reason, {"iou": accuracy, "accuracy_iou50": float(accuracy >= 0.5)})
        completion = Completion.sampled(range(n := max(1, len(text) // 3)), (0.0,) * n, text, StopReason.STOP)
        rollouts.append(Rollout(completion, score, (reward - mean) / (std + 1e-4)))
    return Group(record, encoded, tuple(rollouts))


def scene(path: Path, rng: random.Random, side: int) -> tuple[str, list[float]]:
    """Draw three shapes; return a phrase for the first and its box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side), "#f4f1ea")
    draw, target = ImageDraw.Draw(image), None
    for colour in rng.sample(sorted(COLOURS), 3):
        width = rng.uniform(0.2, 0.4) * side
        x, y = rng.uniform(0, side - width), rng.uniform(0, side - width)
        shape = rng.choice(("circle", "square"))
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + width, y + width), fill=COLOURS[colour])
        target = (f"the {colour} {shape}", [round(v, 1) for v in (x, y, x + width, y + width)])  # the last one, on top
    assert target is not None
    image.save(path)
    return target


def guess(gold: list[float], skill: float, rng: random.Random) -> tuple[str, AnswerValue, float, str | None]:
    """A completion whose box is the nearer to the truth the higher `skill` in 0 to 1."""
    if rng.random() > 0.75 + 0.25 * skill:
        return "<think>I look at the picture. It is somewhere", None, 0.0, "no_answer_tag"
    spread = (1 - skill) * 14 + 1
    x1, y1, x2, y2 = (v + rng.gauss(0, spread) for v in gold)
    box = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
    inner = max(0, min(box[2], gold[2]) - max(box[0], gold[0])) * max(0, min(box[3], gold[3]) - max(box[1], gold[1]))
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, gold)) - inner
    text = f"<think>I look for it and see it there.</think><answer>{[round(v) for v in box]}</answer>"
    return text, box, inner / area, None


def grpo_metrics(step: int, skill: float, rng: random.Random) -> dict[str, float | str]:
    noise = rng.gauss(0, 0.05)
    accuracy = 0.2 + 0.5 * skill + noise
    row: dict[str, float | str] = {"step": step, "stage": "grpo", "reward/mean": accuracy + 0.8 + 0.18 * skill}
    row |= {"reward/std": 0.3, "rewards/accuracy/mean": accuracy, "rewards/format/mean": 0.8 + 0.18 * skill}
    row |= {"metrics/accuracy_iou50/mean": accuracy + rng.gauss(0, 0.04), "metrics/iou/mean": accuracy}
    row |= {"groups/no_signal": abs(rng.gauss(0.05, 0.04)), "completions/mean_length": 24 + 3 * skill + rng.gauss(0, 1)}
    row |= {"completions/truncated": max(0.0, 0.1 - 0.1 * skill), "loss": rng.gauss(0, 0.02), "entropy": 1.4 - skill}
    row |= {"kl": 0.02 * skill + abs(rng.gauss(0, 0.002)), "grad_norm": abs(rng.gauss(0.8, 0.3)), "learning_rate": 2e-4}
    row |= {"time/sample_s": 0.4, "time/score_s": 0.02, "time/update_s": 0.31, "time/step_s": 0.8}
    row |= {"tokens/sample": 3100, "tokens/update": 5400, "tokens_per_s/sample": 7750}
    if skill < 0.8:
        row["parse_failures/no_answer_tag"] = rng.randint(0, 20)
        row["parse_failures/wrong_arity"] = rng.randint(0, 5)
    if step == 3:
        row["grad_norm"] = math.nan
    return row


def write_head(folder: Path, max_steps: int) -> None:
    """config.yaml and environment.json."""
    folder.mkdir(parents=True)
    config = {
        "output_dir": str(folder),
        "seed": 7,
        "model": {"path": "checkpoints/tiny-qwen2.5-vl"},
        "data": {"train": [{"path": "train.jsonl", "task": "rec"}]},
        "grpo": {"num_generations": 8},
        "training": {"max_steps": max_steps, "prompts_per_step": 16},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"packages": {"torch": "2.13.0"}, "cpu": {"model": "Some CPU", "cores": 2}, "gpus": []}
    (folder / "environment.json").write_text(json.dumps(environment))


def write_evaluations(folder: Path, max_steps: int) -> None:
    """eval/ before, during and after, and summary.json."""
    summary = {"before": {}, "after": {}, "seconds": {"warm_start": 100.4, "train": 180.2, "evaluate": 9.1}, "seed": 7}
    (folder / "eval").mkdir()
    during = [(f"step-{step:06d}", step) for step in range(max_steps // 4, max_steps, max_steps // 4)]
    for moment, step in [("before", 0), *during, ("after", max_steps)]:
        for dataset, first, gain in (("in_domain", 0.25, 0.36), ("out_of_domain", 0.18, 0.17)):
            mean = first + gain * math.sqrt(step / max_steps)
            metrics = {"accuracy_iou50": {"mean": mean, "ci95": [mean - 0.04, mean + 0.04]}}
            metrics["iou"] = {"mean": mean * 0.9, "ci95": [mean * 0.9 - 0.02, mean * 0.9 + 0.02]}
            tree = {"name": f"{moment}-{dataset}", "task": "rec", "step": step, "n": 512, "seed": 0, "metrics": metrics}
            (folder / "eval" / f"{moment}-{dataset}.json").write_text(json.dumps(tree))
            if moment in summary:
                values = {"accuracy_iou50": mean, "mean_iou": mean * 0.9, "ci95": [mean - 0.04, mean + 0.04], "n": 512}
                summary[moment][dataset] = values
    (folder / "summary.json").write_text(json.dumps(summary))


def write_grpo_run(folder: Path, max_steps: int = 40, rollout_steps: tuple[int, ...] = (1, 20, 40)) -> Path:
    """A finished GRPO run with everything docs/runs.md names but the checkpoints; metrics end before a torn line."""
    rng = random.Random(0)
    write_head(folder, max_steps)
    for step in range(1, max_steps + 1):
        append_metrics(folder / "metrics.jsonl", grpo_metrics(step, math.sqrt(step / max_steps), rng))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "sta')
    for step in rollout_steps:
        groups = []
        for index in range(6):
            path, side = folder.parent / "images" / f"{step}-{index}.png", (56, 70, 84)[index % 3]
            phrase, gold = scene(path, rng, side)
            answers = [guess(gold, math.sqrt(step / max_steps), rng) for _ in range(8)]
            problem, images, sizes = f"<image>{phrase}", (str(path),), ((side, side),)
            groups.append(make_group(problem, gold, answers, images, sizes, record_id=str(index)))
        write_rollouts(rollouts_path(folder, step), step, groups)
    write_evaluations(folder, max_steps)
    return folder


def write_sft_run(folder: Path, max_steps: int = 30) -> Path:
    """A supervised run that is still going on: no rollouts, no summary."""
    rng = random.Random(1)
    write_head(folder, 100)
    for step in range(1, max_steps + 1):
        row = {"step": step, "stage": "sft", "loss": 3 / math.sqrt(step) + rng.gauss(0, 0.05), "entropy": 1.2}
        row |= {"grad_norm": 1.0, "learning_rate": 1e-3 * (1 - step / 100), "completions/mean_length": 22.0}
        row |= {"time/update_s": 0.1, "time/step_s": 0.12}
        append_metrics(folder / "metrics.jsonl", row)
    return folder


def hostile_group(text: str, image: str) -> Group:
    """Every field that a model or a data file fills, filled with the same hostile text."""
    answers = [(text, [10.0, 20.0, 30.0, 40.0], 0.5, None), (text, text, 0.0, text[:200])]
    gold: AnswerValue = [{"bbox_2d": [1, 2, 3, 4], "label": text}]
    group = make_group(f"<image>{text}", gold, answers, (image,), ((64, 48),), record_id=text)
    return replace(group, record=replace(group.record, source=text))


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group


@pytest.fixture
def hostile() -> Callable[[str, str], Group]:
    return hostile_group


@pytest.fixture
def grpo_run(tmp_path: Path) -> Path:
    return write_grpo_run(tmp_path / "run")


@pytest.fixture
def sft_run(tmp_path: Path) -> Path:
    return write_sft_run(tmp_path / "sft")


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[list[Group]], Path]:
    """A run folder with nothing but a config and one step of the given groups."""

    def write(groups: list[Group]) -> Path:
        write_head(tmp_path / "run", 1)
        write_rollouts(rollouts_path(tmp_path / "run", 1), 1, groups)
        return tmp_path / "run"

    return write


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps with two groups of four completions each; record 0 comes at every step."""
    folder, rng = tmp_path_factory.mktemp("used") / "run", random.Random(0)
    folder.mkdir()
    for step in range(1, 13):
        append_metrics(folder / "metrics.jsonl", grpo_metrics(step, step / 12, rng))
        answers = [(f"answer {k} of step {step}", [10.0 + k, 10.0, 30.0 + k, 30.0], 1 - k / 10, None) for k in range(3)]
        answers.append(("nothing", None, 0.0, "no_answer_tag"))
        groups = [
            make_group(f"<image>thing {n}", [10, 10, 30, 30], answers, ("/no.png",), ((64, 48),), record_id=str(n))
            for n in (0, step)
        ]
        write_rollouts(rollouts_path(folder, step), step, groups)
    write_held_out(folder, {"before": [8, 20, 0, *[8] * 9], "step-000006": [4] * 12, "after": [8, 0, 20, *[4] * 9]})
    return folder


VOID = {"meta", "br", "img", "link", "input"}


@dataclass
class Element:
    """A parsed HTML element with the text inside it, its descendants' included."""

    tag: str
    attributes: dict[str, str | None]
    ancestors: tuple[Element, ...]
    text: str = ""

    def has_class(self, name: str) -> bool:
        return name in (self.attributes.get("class") or "").split()

    def inside(self, name: str) -> bool:
        return any(ancestor.has_class(name) or ancestor.attributes.get("id") == name for ancestor in self.ancestors)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[Element] = []
        self.elements: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"<{self.open[-1].tag}> is closed by </{tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@pytest.fixture
def parse() -> Callable[[Path], list[Element]]:
    """Read a page as elements in order; a page whose elements are not closed in order fails."""

    def read(page: Path) -> list[Element]:
        parser = _Parser()
        parser.feed(page.read_text(encoding="utf-8"))
        parser.close()
        assert not parser.open
        return parser.elements

    return read
