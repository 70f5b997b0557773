"""Which functions are taken for what, by their signatures alone."""

from __future__ import annotations

import functools

import pytest

from vlm_r1.errors import ConfigError
from vlm_r1.rewards.signature import resolve_reward


def ours(given, *, factor=1.0):
    return factor


def ours_with_a_default_behind(reward_inputs, format_weight=0.1):
    return format_weight


def trl(prompts, completions, **columns):
    return [1.0]


def trl_with_an_option(completions, solution, alpha=0.5, **columns):
    return [alpha]


def trl_without_completions(completion_ids, **columns):
    return [1.0]


def only_columns(**columns):
    return [1.0]


def wrapper(*args, **kwargs):
    """What a decorator without `functools.wraps` leaves to see."""
    return trl(*args, **kwargs)


@functools.wraps(trl)
def wrapped(*args, **kwargs):
    return trl(*args, **kwargs)


def only_positional(*args):
    return 1.0


def get_it(size=1.0, *, offset=0.0):
    return lambda completions, **columns: [size + offset]


def get_required(size, cut):
    return lambda given: float(size + cut)


def get_number():
    return 0.5


class OfTrl:
    def __init__(self, args=None, **kwargs):
        self.args = args

    def __call__(self, completions, solution, **kwargs):
        return [1.0]


async def later(completions, **columns):
    return [1.0]


TABLE = {f.__name__: f for f in (ours, ours_with_a_default_behind, trl, trl_with_an_option, trl_without_completions)}
TABLE |= {f.__name__: f for f in (only_columns, wrapper, only_positional, get_it, get_required, get_number)}
TABLE |= {"OfTrl": OfTrl, "later": later, "wrapped": wrapped, "bound": functools.partial(trl_with_an_option, alpha=1)}
TABLE |= {"verl": lambda predict_str, ground_truth, use_boxed=True: 1.0, "object": OfTrl()}


@pytest.mark.parametrize(
    ("spec", "takes_columns", "is_async"),
    [
        pytest.param("ours", False, False, id="ours"),
        pytest.param("ours_with_a_default_behind(format_weight=0.2)", False, False, id="ours_with_a_default_behind"),
        pytest.param("only_positional", False, False, id="only_positional"),
        pytest.param("trl", True, False, id="trl"),
        pytest.param("trl_with_an_option(alpha=0.25)", True, False, id="trl_with_an_option"),
        pytest.param("bound", True, False, id="partial_of_trl"),
        pytest.param("trl_without_completions", True, False, id="without_completions"),
        pytest.param("only_columns", True, False, id="only_columns"),
        pytest.param("wrapper", True, False, id="wrapper_that_hides_it"),
        pytest.param("wrapped", True, False, id="wrapper_that_shows_it"),
        pytest.param("get_it", True, False, id="maker_without_options"),
        pytest.param("get_it(size=2.0, offset=1.0)", True, False, id="maker_with_options"),
        pytest.param("get_required(size=1, cut=2)", False, False, id="maker_of_one_of_ours"),
        pytest.param("OfTrl", True, False, id="class"),
        pytest.param("OfTrl(args=1)", True, False, id="class_with_options"),
        pytest.param("object", True, False, id="object"),
        pytest.param("later", True, True, id="async"),
        pytest.param(
            "trl.rewards:get_soft_overlong_punishment(max_completion_len=9, soft_punish_cache=3)", True, False
        ),
        pytest.param("trl.rewards:get_cosine_scaled_reward(max_len=100)", True, False),
        pytest.param("trl.rewards:get_repetition_penalty_reward", True, False),
        pytest.param("trl.rewards:think_format_reward", True, False),
    ],
)
def test_kinds(spec, takes_columns, is_async):
    reward = resolve_reward(spec, TABLE)
    assert (reward.takes_columns, reward.is_async) == (takes_columns, is_async)
    assert reward.outside == (":" in spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            "verl", r"takes \(predict_str, ground_truth, use_boxed=True\), and can never be called", id="verl"
        ),
        pytest.param("get_required(size=1)", "takes .*, and can never be called", id="half_of_a_makers_options"),
        pytest.param("get_number", "gave 0.5 when it was called .*; wanted a function", id="maker_of_a_number"),
        pytest.param("trl_without_completions(size=1)", None, id="an_option_among_the_columns"),
        pytest.param("ours(weight=1)", "has no option weight; its options are factor", id="unknown_option"),
        pytest.param(
            "trl.rewards:get_repetition_penalty_reward(size=3)", "can.* be .*size", id="unknown_option_of_a_maker"
        ),
    ],
)
def test_what_can_never_be_called_is_refused(spec, message):
    if message is None:
        assert resolve_reward(spec, TABLE).bound == ("size",)
        return
    with pytest.raises(ConfigError, match=message):
        resolve_reward(spec, TABLE)


@pytest.mark.parametrize("spec", ["get_it", "get_it(size=2.0)", "get_required(size=1, cut=2)"])
def test_only_who_is_trusted_has_a_function_called_to_make_one(spec):
    with pytest.raises(ConfigError, match="a line of data may not have called"):
        resolve_reward(spec, TABLE, trusted=False)
    for name in ("ours", "trl", "wrapped", "OfTrl(args=1)"):
        resolve_reward(name, TABLE, trusted=False)


@pytest.mark.parametrize("spec", ["only_columns", "wrapper"])
def test_columns_of_a_line_are_not_handed_to_any_function_that_the_line_names(spec):
    """Whatever takes all keywords would get keywords of a stranger's choice."""
    with pytest.raises(ConfigError, match="would be handed the columns of the line that names it"):
        resolve_reward(spec, TABLE, trusted=False)
