"""Ours against the original VLM-R1's rewards: equal, or different by a rule of docs/parity.md.

A rule says which cases it is about, by their texts alone, and what ours gives there: the original's own reward of a
mended text, or 0. So every difference is explained, and its size too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vlm_r1.official import OFFICIAL, official_score
from vlm_r1.scoring.rows import score_rows
from vlm_r1.scoring.settings import Scoring

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "../shared/reference/rewards_golden.jsonl"
TOLERANCE = 1e-6

needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the original's reward values are not here")

Case = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """What ours does otherwise.

    Attributes:
        cases: the rewards it is about, and how many cases of the reference differ by it.
        applies: whether a completion is one of the rule's.
        mended: the completion to which the original gives what ours gives to this one; None: ours gives 0.
    """

    cases: Mapping[str, int]
    applies: Callable[[str], object]
    mended: Callable[[str], str] | None = None


INNERMOST = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
BLOCKS = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)
NUMBERS = re.compile(r"\[\s*\d[\d., ]*\]")
FENCED = re.compile(r"```json(.*?)```", re.DOTALL)


def answer(text: str) -> str:
    """What ours takes for the answer: the last one in tags, else the whole text."""
    return (INNERMOST.findall(text) or [text])[-1]


def in_answer(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: text.replace(answer(text), change(answer(text)))


def boxes(text: str) -> list[list[str]]:
    return [re.findall(r"[\d.]+", found) for found in NUMBERS.findall(answer(text))]


def items(text: str) -> list[dict[str, Any]]:
    fenced = FENCED.search(answer(text))
    return json.loads(fenced[1]) if fenced and fenced[1].strip() else []


# In this order: a case belongs to the first rule that applies. Names, rewards and counts stand in docs/parity.md too.
RULES: Mapping[str, Rule] = {
    "tags once": Rule(
        {"rec_format/qwen": 8, "rec_format/internvl": 9, "rec_format/glm": 11, "format": 7},
        lambda text: text.count("<answer>") > 1,
    ),
    "nothing outside": Rule(
        {"rec_format/qwen": 12, "rec_format/internvl": 14, "rec_format/glm": 15},
        lambda text: not BLOCKS.fullmatch(text),
    ),
    "one box": Rule(
        {"rec_iou/raw_pixels": 1, "rec_format/qwen": 2, "rec_format/internvl": 2, "rec_format/glm": 2},
        lambda text: len({tuple(box) for box in boxes(text)}) > 1,
    ),
    "decimals": Rule(
        {"rec_iou/qwen2.5-vl": 8, "rec_iou/raw_pixels": 1, "rec_format/qwen": 6, "rec_format/internvl": 6},
        lambda text: any("." in number for box in boxes(text) for number in box),
        in_answer(lambda text: re.sub(r"\.0\b", "", text)),
    ),
    "bare list": Rule(
        {"rec_format/qwen": 3},
        lambda text: boxes(text) and "{" not in answer(text),
        in_answer(lambda text: f'{{"bbox_2d": {text}}}'),
    ),
    "an answer is a box": Rule({"rec_format/glm": 6}, lambda text: not boxes(text)),
    "answer tags": Rule({"weighted_sum": 3}, lambda text: "<think>" in text and "<answer>" not in text),
    "whole items": Rule(
        {"od_ap": 3, "od_ap50": 3, "od_length": 3, "weighted_sum": 3},
        lambda text: any("bbox_2d" not in item or "label" not in item for item in items(text)),
    ),
    "empty fence": Rule({"od_ap": 1, "od_ap50": 1, "od_length": 1}, lambda text: not answer(text).strip("`json \n")),
    "no fence": Rule(
        {"od_ap": 4, "od_ap50": 4, "od_length": 4, "weighted_sum": 3},
        lambda text: answer(text).startswith("["),
        in_answer(lambda text: f"```json\n{text}\n```"),
    ),
    "empty list": Rule({"weighted_sum": 1}, lambda text: items(text) == [], in_answer(lambda text: "None")),
    "letter in brackets": Rule(
        {"mcq": 2, "default": 2}, lambda text: "(A)" in text, lambda text: text.replace("(A)", "A")
    ),
    "two letters": Rule({"mcq": 2}, lambda text: "A or B" in text),
    "whole words": Rule({"yes_no": 2}, lambda text: not re.search(r"\b(yes|no)\b", text.lower())),
    "number in a sentence": Rule(
        {"numeric": 2},
        lambda text: "The answer is" in text,
        in_answer(lambda text: text.removeprefix("The answer is ")),
    ),
    "no number": Rule({"numeric": 4}, lambda text: not re.fullmatch(r"[\d. ]+", answer(text))),
    "bare formula": Rule(
        {"math": 4},
        lambda text: answer(text).removeprefix("The answer is ") in ("x^2+1", "x^2+1.", "$12\\pi$"),
        in_answer(
            lambda text: text.strip("$") if "pi" in text else f"${text.removeprefix('The answer is ').strip('.')}$"
        ),
    ),
    "white space": Rule({"all_match": 2}, lambda text: "  " in text, lambda text: " ".join(text.split())),
}


def reference() -> list[Case]:
    return [json.loads(line) for line in REFERENCE.read_text(encoding="utf-8").splitlines()]


def official(case: Case, completion: str) -> float | None:
    sizes = case.get("image_size"), case.get("model_input_size")
    return official_score(case["reward"], completion, case.get("solution"), *sizes)


def equal(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else abs(a - b) <= TOLERANCE


def rule_of(case: Case) -> str | None:
    """The first rule about the case's reward that applies to its completion."""
    about = (name for name, rule in RULES.items() if case["reward"] in rule.cases)
    return next((name for name in about if RULES[name].applies(case["completion"])), None)


@needs_reference
def test_official_equals_the_original_on_every_case():
    cases = reference()
    assert len(cases) == 1452
    assert [case for case in cases if not equal(official(case, case["completion"]), case["official"])] == []


@needs_reference
def test_ours_equals_the_original_but_for_the_rules():
    cases = reference()
    scores = score_rows([(f"golden:{i}", case) for i, case in enumerate(cases, start=1)], Scoring())
    counts: Counter[tuple[str, str]] = Counter()
    unexplained: list[Case] = []
    for case, ours in zip(cases, scores, strict=True):
        if equal(ours.score, case["official"]):
            continue
        name = rule_of(case)
        mended = RULES[name].mended if name else None
        expected = official(case, mended(case["completion"])) if mended else 0.0
        if name and equal(ours.score, expected):
            counts[name, case["reward"]] += 1
        else:
            unexplained.append({**case, "score": ours, "rule": name})
    assert unexplained == []
    assert counts == {(name, reward): n for name, rule in RULES.items() for reward, n in rule.cases.items()}


def test_docs_list_every_rule_with_its_counts():
    page = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+) \| (\d+) \|", page, flags=re.MULTILINE)
    stated = {name.strip(): (re.findall(r"`([^`]+)` (\d+)", rewards), int(total)) for name, rewards, total in rows}
    assert stated == {
        name: ([(reward, str(n)) for reward, n in rule.cases.items()], sum(rule.cases.values()))
        for name, rule in RULES.items()
    }


def test_tests_that_docs_name_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/parity.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


# ---- each rule by hand, without the reference -----------------------------------------------------------------------

BOX = [0, 0, 10, 10]
DOG = {"bbox_2d": BOX, "label": "dog"}
DOGS = json.dumps([DOG])


# rule → reward, completion, solution, what ours gives, what the original gives
BY_HAND: Mapping[str, tuple[str, str, Any, float, float | None]] = {
    "tags once": ("format", "<think><answer></think><answer>x</answer>", None, 0, 1),
    "nothing outside": ("rec_format/qwen", '<think></think><answer>{"b": [0, 0, 9, 9]}</answer> ok', None, 0, 1),
    "one box": ("rec_iou/raw_pixels", "<answer>[0, 0, 10, 10] or [1, 1, 2, 2]</answer>", BOX, 0, 1),
    "decimals": ("rec_iou/raw_pixels", "<answer>[0.0, 0.0, 10.0, 10.0]</answer>", BOX, 1, 0),
    "bare list": ("rec_format/qwen", "<think></think><answer>[0, 0, 9, 9]</answer>", None, 1, 0),
    "an answer is a box": ("rec_format/glm", "<think></think><answer>left</answer>", None, 0, 1),
    "answer tags": ("weighted_sum", f"<think></think>```json{DOGS}```", [DOG], 0, 1),
    "whole items": ("od_ap", f'<answer>```json[{json.dumps(DOG)}, {{"label": "dog"}}]```</answer>', [DOG], 0, 1),
    "empty fence": ("od_ap", "<answer>```json\n```</answer>", [], 0, 1),
    "no fence": ("od_ap", f"<answer>{DOGS}</answer>", [DOG], 1, 0),
    "empty list": ("weighted_sum", "<answer>```json[]```</answer>", [], 1, 0),
    "letter in brackets": ("mcq", "<answer>(A)</answer>", "A", 1, 0),
    "two letters": ("mcq", "A or B?", "B", 0, 1),
    "whole words": ("yes_no", "I know none", "no", 0, 1),
    "number in a sentence": ("numeric", "<answer>The answer is 3.</answer>", 3, 1, None),
    "no number": ("numeric", "three", 3, 0, None),
    "bare formula": ("math", "x^2+1", "$x^2+1$", 1, 0),
    "white space": ("all_match", "no  defect", "No Defect", 1, 0),
}


@pytest.mark.parametrize("rule", RULES)
def test_by_hand(rule):
    reward, completion, solution, ours, theirs = BY_HAND[rule]
    case = {"reward": reward, "completion": completion} | ({} if solution is None else {"solution": solution})
    (score,) = score_rows([("case", case)], Scoring())
    assert (score.score, official(case, completion)) == (ours, None if theirs is None else pytest.approx(theirs))
    assert rule_of(case) == rule


SOLUTIONS = {"rec_": [0, 0, 3, 3], "od": [], "weighted_sum": [], "repetition": [], "mcq": "A", "yes_no": "no"}


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_reward_of_the_original_has_a_meaning(name):
    solution = next((value for key, value in SOLUTIONS.items() if name.startswith(key)), "3")
    row = {"reward": name, "completion": "<answer>3</answer>", "solution": solution}
    (score,) = score_rows([("case", row | {"image_size": [8, 8], "model_input_size": [8, 8]})], Scoring())
    assert score.score is not None, score.reason
