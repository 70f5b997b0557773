"""Rewards of the original VLM-R1, from its own functions on the same texts; where we differ, by which rule."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rewards_golden.jsonl"
FRAMES = (ImageFrame((640, 480), (640, 480)),)

pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="the original's reward values are not here")


def _cases(reward):
    cases = map(json.loads, REFERENCE.read_text(encoding="utf-8").splitlines())
    return [case for case in cases if case["reward"] == reward]


def _score(case, task):
    record = Record("1", task, "<image>?", ("a.png",), case["solution"], reward=case["reward"], source="f.jsonl:7")
    text, template = case["completion"], TEMPLATES["r1"]
    attempt = Attempt(text, record, FRAMES, get_task(task), template)
    return judge([attempt], BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0})[0]


@pytest.mark.parametrize("reward", ["od_ap", "od_ap50", "od_length"])
def test_detection(reward):
    differing = Counter()
    for case in _cases(reward):
        score = _score(case, "ovd")
        if score.reward != pytest.approx(case["official"], abs=1e-6):
            differing[score.reason or ("unfenced" if "```json" not in case["completion"] else "unexplained")] += 1
    assert differing == {
        "unfenced": 4,  # JSON without a fence is an answer; the original took it for "None"
        "item_without_box": 3,  # refused as a whole; the original counted the item in the length only
        "no_box": 1,  # an empty fence is no answer; the original took it for "None"
    }


def test_math():
    differing = Counter()
    for case in _cases("math"):
        score = _score(case, "math")
        if score.reward != pytest.approx(case["official"], abs=1e-6):
            differing[score.reason or f"{score.answer} for {case['solution']}"] += 1
    assert differing == {
        "no_answer_tag": 4,  # an answer without tags was asked for in tags
        "x^2+1 for $x^2+1$": 1,  # the original reads no formula without dollar signs
        "$12\\pi$ for 12\\pi": 1,
    }
