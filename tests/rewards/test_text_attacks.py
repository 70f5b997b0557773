"""What hostile completions score under the rewards of texts, numbers, choices, form and length; and in what time."""

import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

FRAMES = (ImageFrame((640, 480), (640, 480)),)
FORM = ("format", "tags", "one_answer", "json_format")
ANY_ANSWER = dict.fromkeys((*FORM, "repetition", "cosine_length", "overlong"), 1.0)

# reward → a task whose answers it compares, and a gold answer
COMPARES = {
    "count": ("counting", 3),
    "count_relative": ("counting", 3),
    "numeric(tolerance=0.5)": ("vqa", "3"),
    "choice": ("choice", "B"),
    "yes_no": ("yes_no", "yes"),
    "exact_match": ("vqa", "the dog"),
    "edit_ratio": ("vqa", "the dog"),
    "anls": ("document", "the dog"),
    "default": ("vqa", "the dog"),
    "math": ("math", "3"),
}
RANGES = {"repetition": (-1, 0), "cosine_length": (-0.5, 1), "overlong": (-1, 0)}


def _parts(text, reward, n_tokens=100):
    task, gold = COMPARES[reward]
    problem = "<image>B or A: is it the dog? Answer yes or no."
    record = Record("1", task, problem, ("a.png",), gold, reward=reward, source="f.jsonl:7")
    attempt = Attempt(text, record, FRAMES, get_task(task), TEMPLATES["r1"], n_tokens)
    return judge([attempt], BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0, **ANY_ANSWER})[0].parts


def _answer(answer):
    return f"<think>t</think><answer>{answer}</answer>"


RIGHT = {"counting": "3", "choice": "B", "yes_no": "yes", "math": "3"}


def _right(reward):
    task, gold = COMPARES[reward]
    return RIGHT.get(task, str(gold))


@pytest.mark.parametrize("reward", COMPARES)
def test_the_right_answer_gets_everything(reward):
    parts = _parts(_answer(_right(reward)), reward)
    assert [parts[name] for name in ("accuracy", "format", "tags", "one_answer")] == [1.0] * 4


@pytest.mark.parametrize("reward", COMPARES)
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("<think>the answer is <answer>{}</answer></think>", id="inside_the_thinking"),
        pytest.param("<think>{}</think>", id="in_the_thought_alone"),
        pytest.param("{}", id="without_tags"),
        pytest.param("<think>t</think><answer>{}", id="never_closed"),
        pytest.param("<answer>{}</answer><think>t", id="before_an_endless_thought"),
        pytest.param("<think>t</think><ANSWER>{}</ANSWER>", id="tags_in_capitals"),
        pytest.param("<think>t</think><answer></answer>{}", id="after_an_empty_answer"),
    ],
)
def test_an_answer_in_another_place_is_none(attack, reward):
    parts = _parts(attack.format(_right(reward)), reward)
    assert parts["accuracy"] == parts["format"] == 0.0


@pytest.mark.parametrize(
    ("reward", "answer", "accuracy"),
    [
        # two answers: one of them is right
        pytest.param("count", "3 or 4", 0.0, id="count_two"),
        pytest.param("count_relative", "2, 3, 4", 0.0, id="count_relative_three"),
        pytest.param("numeric(tolerance=0.5)", "3 or 30", 0.0, id="numeric_two"),
        pytest.param("choice", "A or B", 0.0, id="choice_two"),
        pytest.param("choice", "A B C D", 0.0, id="choice_all"),
        pytest.param("yes_no", "yes and no", 0.0, id="yes_no_both"),
        pytest.param("exact_match", "the cat or the dog", 0.0, id="exact_match_two"),
        pytest.param("anls", "the cat or the dog", 0.0, id="anls_two"),  # d = 11/18
        pytest.param("edit_ratio", "the cat or the dog", 14 / 25, id="edit_ratio_pays"),  # 1 − 11/(18 + 7)
        pytest.param("default", "the cat or the dog", 14 / 25, id="default_pays"),
        pytest.param("math", "$3$ or $4$", 0.0, id="math_two"),
        # part of a word, or of a number
        pytest.param("yes_no", "yesterday", 0.0, id="yes_no_within_a_word"),
        pytest.param("choice", "Big dogs", 0.0, id="choice_within_a_word"),
        pytest.param("count", "3,4", 0.0, id="count_within_a_number"),
        pytest.param("count", "1.3", 0.0, id="count_tail_of_a_fraction"),
        # the prompt, or the template, copied
        pytest.param("choice", "B or A: is it the dog? Answer yes or no.", 0.0, id="choice_prompt"),
        pytest.param("yes_no", "B or A: is it the dog? Answer yes or no.", 0.0, id="yes_no_prompt"),
        pytest.param("exact_match", "B or A: is it the dog? Answer yes or no.", 0.0, id="exact_match_prompt"),
        pytest.param("anls", "B or A: is it the dog? Answer yes or no.", 0.0, id="anls_prompt"),
        # digits and letters that only look alike
        pytest.param("count", "３", 0.0, id="count_full_width"),
        pytest.param("count", "٣", 0.0, id="count_arabic"),
        pytest.param("count_relative", "③", 0.0, id="count_relative_circled"),
        pytest.param("numeric(tolerance=0.5)", "3\u0660", 0.0, id="numeric_arabic_zero"),
        pytest.param("math", "３", 0.0, id="math_full_width"),
        pytest.param("choice", "Ｂ", 0.0, id="choice_full_width"),
        pytest.param("yes_no", "ｙｅｓ", 0.0, id="yes_no_full_width"),
        # no numbers, and numbers beyond all bounds
        pytest.param("count", "NaN", 0.0, id="count_nan"),
        pytest.param("count_relative", "inf", 0.0, id="count_relative_inf"),
        pytest.param("count_relative", "1e308", 0.0, id="count_relative_1e308"),
        pytest.param("numeric(tolerance=0.5)", "1e999", 0.0, id="numeric_overflow"),
        pytest.param("numeric(tolerance=0.5)", "9" * 5000, 0.0, id="numeric_digits"),
        pytest.param("math", "nan", 0.0, id="math_nan"),
    ],
)
def test_tricks_with_the_answer(reward, answer, accuracy):
    assert _parts(_answer(answer), reward)["accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_two_answer_blocks_are_one_answer_and_no_form():
    parts = _parts("<think>t</think><answer>4</answer><answer>3</answer>", "count")
    assert [parts[name] for name in ("accuracy", "format", "tags", "one_answer")] == [1.0, 0.0, 0.0, 0.0]


MB = 10**6
HOSTILE = {
    "brackets": "[" * MB,
    "nested_json": '{"a":' * (MB // 5),
    "open_tags": "<answer>" * (MB // 8),
    "close_tags": "</answer>" * (MB // 9),
    "thoughts": "<think></think>" * (MB // 15),
    "half_tags": "<answe<" * (MB // 7),
    "regex_bait": _answer("a" * MB + "!"),
    "spaces": _answer(" " * MB),
    "digits": _answer("1" * MB),
    "separators": _answer("1,111" * (MB // 5)),
    "letters": _answer("A " * (MB // 2)),
    "verdicts": _answer("not " * (MB // 4)),
    "words": _answer("word " * (MB // 5)),
    "capitals_of_two_bytes": _answer("É " * (MB // 2)),
    "fence": _answer("```json\n" + "[" * MB + "```"),
    "formula": _answer("\\frac{" * (MB // 6)),
    "nul": "\0" * MB,
}


def _timed(text, reward):
    """The parts, and the processor time of the quickest of three runs: other processes share the machine."""
    runs = []
    for _ in range(3):
        start = time.process_time()
        parts = _parts(text, reward)
        runs.append(time.process_time() - start)
    return parts, min(runs)


@pytest.mark.parametrize("reward", COMPARES)
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_megabyte_earns_nothing_in_fifty_milliseconds(attack, reward):
    parts, seconds = _timed(HOSTILE[attack], reward)
    assert parts["accuracy"] == parts["format"] == 0.0
    assert seconds < 0.05


@pytest.mark.parametrize("reward", COMPARES)
@pytest.mark.parametrize("piece", ["A ", "1,111", "not ", "e.g.", "[", '{"a":', "```", "\\frac{", "the d"])
def test_the_longest_answer_that_is_read_takes_fifty_milliseconds(piece, reward):
    parts, seconds = _timed(_answer((piece * 20_000)[:20_000]), reward)
    assert parts["accuracy"] < 0.1
    assert seconds < 0.05


def test_ten_megabytes_take_ten_times_as_long():
    parts, seconds = _timed("[" * 10 * MB, "default")
    assert parts["accuracy"] == 0.0
    assert seconds < 0.5


PIECES = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "3",
    "B",
    "yes",
    "no",
    "the dog",
    " ",
    "[",
    "```json",
    ",",
    "\0",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join), st.integers(0, 9999)
)
def test_every_text_has_a_reward_within_bounds(text, n_tokens):
    for reward in set(COMPARES) - {"math"}:  # its answers are bounded by its type, a bool
        for name, part in _parts(text, reward, n_tokens).items():
            low, high = RANGES.get(name, (0, 1))
            assert math.isfinite(part)
            assert low <= part <= high
