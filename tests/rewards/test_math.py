import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import math_worker
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.call import Logged
from vlm_r1.rewards.math import math_reward, same_mathematics
from vlm_r1.rewards.math_process import MathProcess
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, Record, Thinking

ENDLESS = "9^{9^{9^{9}}}"
RECORD = Record("1", "math", "?", (), "1", source="f.jsonl:7")


@pytest.fixture
def checker():
    checker = MathProcess(Path(math_worker.__file__))
    yield checker
    checker.close()


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        pytest.param("42", "42", True, id="same_text"),
        pytest.param("42", "42.0", True, id="decimal"),
        pytest.param("42", "41", False, id="another_number"),
        pytest.param("\\frac{1}{2}", "1/2", True, id="fraction"),
        pytest.param("\\frac{1}{2}", "0.5.", True, id="full_stop"),
        pytest.param("\\frac{1}{2}", "The answer is $\\frac{2}{4}$.", True, id="formula_in_a_sentence"),
        pytest.param("\\frac{1}{2}", "\\boxed{0.5}", True, id="boxed"),
        pytest.param("\\frac{1}{2}", "2", False, id="part_of_a_fraction"),
        pytest.param("12\\pi", "$12\\pi$", True, id="gold_without_dollars"),
        pytest.param("12\\pi", "12", False, id="head_of_a_product"),
        pytest.param("x^2+1", "1 + x^2", True, id="order_of_terms"),
        pytest.param("1", "x^2+1", False, id="last_number_of_a_formula"),
        pytest.param("(x+1)^2", "x^2 + 2x + 1", True, id="expanded"),
        pytest.param("5", "5 cm", True, id="unit"),
        pytest.param("x=5", "5", True, id="assignment"),
        pytest.param("No solution", "No solution", True, id="words"),
        pytest.param("3", "", False, id="empty"),
        pytest.param("3", "\\frac{", False, id="broken"),
        pytest.param("3", "\ud800\0\n$", False, id="not_even_text"),
        pytest.param("1", "1" + " " * MAX_EXPRESSION_CHARS + "+0", False, id="too_long"),
    ],
)
def test_same_mathematics(gold, answer, expected):
    assert same_mathematics(gold, answer) is expected


def test_an_endless_expression_is_ended_in_any_thread_and_the_next_is_judged(checker):
    answers = []
    questions = [("2", "1+1"), ("1", ENDLESS), ("2", "1+1"), ("2", "1")]
    thread = threading.Thread(target=lambda: answers.extend(checker.ask(*question) for question in questions))
    start = time.perf_counter()
    thread.start()
    thread.join()
    assert answers == [b"1", b"", b"1", b"0"]
    assert time.perf_counter() - start < 60  # 2 s of processor time, and two starts; without the limit, for ever


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("0.5", "\\frac{1}{2}", 1.0, id="texts"),
        pytest.param(3, 3.0, 1.0, id="numbers"),
        pytest.param("3", 4, 0.0, id="text_and_number"),
        pytest.param(None, "None", 0.0, id="nothing_parsed"),
    ],
)
def test_math_reward(value, gold, expected):
    assert math_reward(RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)) == expected


@pytest.mark.parametrize("gold", [pytest.param((1.0, 2.0, 3.0, 4.0), id="box"), pytest.param(True, id="verdict")])
def test_a_gold_answer_of_another_kind_names_the_record(gold):
    with pytest.raises(DataError, match=r'^f\.jsonl:7: reward "math" compares formulas or numbers, but '):
        math_reward(RewardInput("", split_tags(""), Thinking.REQUIRED, None, gold, (), RECORD))


@pytest.mark.parametrize(
    ("task", "reward", "texts", "counts"),
    [
        pytest.param("math", None, ["1"], {"math/ended_comparisons": 0}, id="task math"),
        pytest.param("vqa", "math", [ENDLESS, "2"], {"math/ended_comparisons": 1}, id="task vqa, reward math"),
        pytest.param("vqa", "math", [""], {"math/ended_comparisons": 0}, id="nothing to compare"),
        pytest.param("vqa", "default", ["2", "1.5"], {"math/ended_comparisons": 0}, id="a formula by default"),
        pytest.param("vqa", "exact_match", ["2"], {}, id="no mathematics"),
    ],
)
def test_ended_comparisons_are_counted_where_mathematics_is_judged(task, reward, texts, counts):
    record, logged = replace(RECORD, task=task, reward=reward, answer="\\frac{3}{2}"), Logged()
    template = TEMPLATES["r1"]
    attempts = [Attempt(f"<answer>{text}</answer>", record, (), get_task(task), template) for text in texts]
    judge(attempts, BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0}, logged=logged)
    assert (logged.counts, logged) == (counts, {})
