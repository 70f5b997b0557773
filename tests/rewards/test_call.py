import asyncio
import functools
import math
import sys

import pytest

from vlm_r1.errors import ConfigError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.call import evaluate, resolve_reward
from vlm_r1.types import ImageFrame, Record, Thinking

FRAMES = (ImageFrame((640, 480), (644, 476)),)


def _given(text="", n=7, **columns):
    record = Record("1", "vqa", "<image>?", ("a.png",), "x", source=f"f.jsonl:{n}", columns=columns)
    return RewardInput(text, split_tags(text), Thinking.REQUIRED, None, "x", FRAMES, record)


def _evaluate(function, *givens):
    return evaluate("mine", resolve_reward("mine", {"mine": function}), givens or (_given(),))


@pytest.mark.parametrize("returned", [0.25, 1, True, -0.5])
def test_any_finite_number_is_a_reward(returned):
    assert _evaluate(lambda given: returned) == [float(returned)]


@pytest.mark.parametrize("returned", [math.nan, math.inf, None, "1", [1.0]])
def test_anything_else_stops_and_names_the_record(returned):
    with pytest.raises(ValueError, match=r'^f\.jsonl:7: reward "mine" returned .* wanted a finite number'):
        _evaluate(lambda given: returned)


def test_a_reward_that_raises_is_not_hidden_and_names_the_record():
    with pytest.raises(ZeroDivisionError) as caught:
        _evaluate(lambda given: 1 / 0)
    assert caught.value.__notes__ == ['f.jsonl:7: raised by reward "mine"']


def trl_length(completions, **columns):
    """TRL's signature, conversational, as for all data sets with images."""
    return [float(len(completion[0]["content"])) for completion in completions]


def trl_columns(prompts, completions, solution, difficulty, image_size, **columns):
    assert prompts == [[{"role": "user", "content": "<image>?"}]] * 2
    assert solution == ["x", "x"]
    assert image_size == [[[640, 480]]] * 2
    return [0.0 if value is None else value for value in difficulty]


async def ours_async(given):
    await asyncio.sleep(0)
    return float(len(given.text))


async def trl_async(completions, **columns):
    await asyncio.sleep(0)
    return trl_length(completions)


@pytest.mark.parametrize("function", [trl_length, ours_async, trl_async])
def test_four_kinds_of_functions_see_the_same_texts(function):
    assert _evaluate(function, _given("a"), _given("abc")) == [1.0, 3.0]


def test_trl_functions_get_the_columns_of_the_data():
    assert _evaluate(trl_columns, _given(difficulty=0.5), _given()) == [0.5, 0.0]


def test_async_answers_wait_together():
    """A barrier that only opens when all eight are inside: one after another would wait for ever."""
    inside = []

    async def meets(given):
        inside.append(given)
        while len(inside) < 8:
            await asyncio.sleep(0.001)
        return 1.0

    assert _evaluate(meets, *[_given() for _ in range(8)]) == [1.0] * 8


def test_an_event_loop_may_be_running_already():
    async def notebook():
        return _evaluate(ours_async, _given("ab"))

    assert asyncio.run(notebook()) == [2.0]


@pytest.mark.parametrize("returned", [[1.0], None, 1.0])
def test_a_batch_function_must_return_one_for_each(returned):
    with pytest.raises(ValueError, match=r'^reward "mine" returned .* for 2 completions; wanted one for each'):
        _evaluate(lambda completions, **columns: returned, _given(), _given())


def test_a_batch_function_that_raises_names_a_record():
    def broken(completions, **columns):
        raise RuntimeError("down")

    with pytest.raises(RuntimeError) as caught:
        _evaluate(broken, _given(), _given())
    assert caught.value.__notes__ == ['f.jsonl:7 and 1 other completions: raised by reward "mine"']


def scaled(given, *, factor=1.0, offset=0.0):
    return factor * len(given.text) + offset


class Constant:
    """A class from outside: made once, with its options."""

    def __init__(self, value: float = 0.5):
        self.value = value

    def __call__(self, given: RewardInput[str]) -> float:
        return self.value


class AsyncConstant(Constant):
    async def __call__(self, given):
        return self.value


TABLE = {"scaled": scaled, "constant": Constant, "async_constant": AsyncConstant, "bound": functools.partial(scaled)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("scaled", 3.0, id="defaults"),
        pytest.param("scaled()", 3.0, id="empty_options"),
        pytest.param("scaled(factor=2, offset=-1.5)", 4.5, id="options"),
        pytest.param("constant(value=0.25)", 0.25, id="class"),
        pytest.param("constant", 0.5, id="class_without_options"),
        pytest.param("async_constant(value=0.75)", 0.75, id="class_with_async_call"),
        pytest.param("bound(factor=3)", 9.0, id="partial"),
    ],
)
def test_names_may_carry_options(spec, expected):
    assert evaluate(spec, resolve_reward(spec, TABLE), [_given("abc")]) == [expected]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("scled", r'unknown reward "scled"\. Did you mean "scaled"', id="unknown_name"),
        pytest.param("scaled(fctor=2)", "has no option fctor; its options are factor, offset", id="unknown_option"),
        pytest.param("constant(size=2)", "cannot be made: .*size", id="unknown_option_of_a_class"),
        pytest.param("scaled(2)", "options are written name=value", id="without_a_name"),
        pytest.param("scaled(factor=open('x'))", "cannot be read", id="not_a_literal"),
        pytest.param("scaled(factor=2", "cannot be read", id="not_closed"),
        pytest.param("scaled(factor=2) + 1", "cannot be read", id="more_than_a_call"),
        pytest.param("no_such_package:f", "cannot be imported", id="plug_in_missing"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(spec, message):
    with pytest.raises(ConfigError, match=message):
        resolve_reward(spec, TABLE)


def test_plug_ins_come_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_rewards_for_test.py").write_text("def half(given, *, of=1.0):\n    return of / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    reward = resolve_reward("my_rewards_for_test:half(of=3)", {})
    assert evaluate("half", reward, [_given()]) == [1.5]
    sys.modules.pop("my_rewards_for_test")
