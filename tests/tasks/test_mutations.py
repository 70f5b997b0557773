"""Good answers with a few characters replaced: what a half-trained policy really writes, and worse. None may raise."""

from __future__ import annotations

import random

import pytest

from testing_tasks import GOLD, WRITTEN
from vlm_r1.parsing.boxes import parse_box
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

R1 = TEMPLATES["r1"]
FRAMES = (ImageFrame((64, 60), (56, 56)),)
PIECES = [
    *"[](){}<>,.:;-+eE0123456789\"'\\/` ",
    *map(chr, range(33)),
    *("\x7f", "\x85", "\xa0", "\u2028", "\u3000", "\ud800", "\u0663", "\uff11"),
    *(
        "1" * 5000,
        "9" * 400,
        "1e999",
        "NaN",
        "Infinity",
        "null",
        "true",
        "None",
        "```",
        "```json",
        "[" * 3000,
        "{" * 3000,
    ),
    *("<think>", "</think>", "<answer>", "</answer>", "\\u0000", "\\ud800", '"label"', '"bbox_2d"'),
]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(PIECES) + text[place + rng.choice((0, 0, 1, 3)) :]
    return text


@pytest.mark.parametrize("name", TASKS)
def test_mutated_answers_are_judged(name: str) -> None:
    rng, task = random.Random(0), get_task(name)
    record = Record("1", name, "<image>what", ("x.png",), GOLD[name], source="f.jsonl:1")
    rewards = {"accuracy": 1.0, "format": 1.0}
    scores = [
        score
        for _ in range(150 if name == "math" else 5000)
        for score in judge(
            [Attempt(mutated(f"<think>so</think><answer>{WRITTEN[name]}</answer>", rng), record, FRAMES, task, R1)],
            BoxFormat.INPUT_PIXELS,
            rewards,
        )
    ]
    assert all(0 <= part <= 1 for score in scores for part in score.parts.values())
    read = sum(score.reason is None for score in scores) / len(scores)
    assert 0.05 < read < 0.95, "both outcomes occur, or the mutations prove little"


@pytest.mark.parametrize(
    "place", ["[{}1, 2, 3, 4]", "[1{}, 2, 3, 4]", "[1,{} 2, 3, 4]", "[1, 2, 3, 4{}]", "{}[1, 2, 3, 4]"]
)
def test_any_character_may_stand_anywhere_in_a_box(place: str) -> None:
    for code in (*range(0x3100), 0xD800, 0xFEFF, 0xFF11, 0x1D7CE):
        parse_box(place.format(chr(code)))
