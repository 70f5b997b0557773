"""What is said when somebody's reward fails: one line that names function, record, error and place."""

from __future__ import annotations

import sys

import pytest

from vlm_r1.errors import ConfigError, RewardError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.types import Record, Thinking


def given(text: str = "a") -> RewardInput:
    record = Record("1", "vqa", "?", (), "x", source="f.jsonl:1")
    return RewardInput(text, split_tags(text), Thinking.FREE, None, "x", (), record)


BROKEN = """
def raises(completions, **columns):
    texts = [completion[0]["content"] for completion in completions]
    return [1 / 0 if text == "b" else 1.0 for text in texts]


def ours(given):
    return helper(given)


def helper(given):
    raise KeyError("two\\nlines")


def no_number(completions, **columns):
    return ["1"] * len(completions)


def takes_a_list(reward_inputs):
    return [score for score in reward_inputs]


def make(size):
    return lambda completions, **columns: [size] * len(completions)


async def later(given):
    raise TimeoutError("nobody answers")


class Made:
    __call__ = lambda self, given: 1.0
    __init__ = lambda self, size: 1 / 0


class Textless:
    __repr__ = __float__ = lambda self: 1 / 0


def textless(given):
    return Textless()


def tuple_of_two(given):
    return 1.0, True
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    (tmp_path / "broken_rewards.py").write_text(BROKEN.lstrip(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("broken_rewards", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "raises",
            'f.jsonl:1 and 1 other completions: reward "broken_rewards:raises" raised ZeroDivisionError: division by '
            "zero (broken_rewards.py:3)",
            id="the_line_in_their_file",
        ),
        pytest.param(
            "ours",
            "f.jsonl:1: reward \"broken_rewards:ours\" raised KeyError: 'two\\nlines' (broken_rewards.py:11)",
            id="the_deepest_line_of_their_file",
        ),
        pytest.param(
            "no_number",
            "f.jsonl:1: reward \"broken_rewards:no_number\" returned '1'; wanted a finite number: mend the function "
            "(broken_rewards.py:14)",
            id="what_is_no_reward",
        ),
        pytest.param(
            "takes_a_list",
            "f.jsonl:1: reward \"broken_rewards:takes_a_list\" raised TypeError: 'RewardInput' object is not iterable "
            "(broken_rewards.py:19). Was it written for another framework? See docs/reward_adapters.md",
            id="of_another_framework",
        ),
        pytest.param(
            "tuple_of_two",
            'f.jsonl:1: reward "broken_rewards:tuple_of_two" returned (1.0, True); wanted a finite number. Was it '
            "written for another framework? See docs/reward_adapters.md (broken_rewards.py:43)",
            id="a_tuple_as_nemo_rl_returns_it",
        ),
        pytest.param(
            "textless",
            'the result: reward "broken_rewards:textless" raised ZeroDivisionError: division by zero '
            "(broken_rewards.py:36)",
            id="a_result_whose_text_fails",
        ),
        pytest.param(
            "later",
            'f.jsonl:1 and 1 other completions: reward "broken_rewards:later" raised TimeoutError: nobody answers '
            "(broken_rewards.py:27)",
            id="async",
        ),
    ],
)
def test_a_failure_is_one_line_that_names_function_record_and_place(name, message, broken):
    spec = f"broken_rewards:{name}"
    with pytest.raises(RewardError) as caught:
        call_reward(spec, resolve_reward(spec, {}), [given("a"), given("b")])
    assert str(caught.value) == message
    assert "\n" not in message


def test_a_failure_of_ours_keeps_its_traceback():
    reward = resolve_reward("mine", {"mine": lambda given: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        call_reward("mine", reward, [given()])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("broken_rewards:Made(size=1)", "cannot be made: ZeroDivisionError", id="a_class_that_raises"),
        pytest.param("broken_rewards:absent", "cannot be imported: module .* has no attribute", id="absent"),
        pytest.param("builtins:isinstance", "takes .*and can never be called", id="two_arguments"),
    ],
)
def test_what_cannot_be_made_is_one_line(spec, message, broken):
    with pytest.raises(ConfigError, match=message):
        resolve_reward(spec, {})


def test_a_maker_without_its_options_is_told_to_name_them(broken):
    spec = "broken_rewards:make"
    with pytest.raises(RewardError, match=r"if it makes the reward, name it with its options"):
        call_reward(spec, resolve_reward(spec, {}), [given()])
