"""Which functions are taken for what, by their signatures alone."""

from __future__ import annotations

import functools
import inspect

import pytest

from vlm_r1.errors import ConfigError
from vlm_r1.rewards import REWARDS
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


MADE: list[str] = []


class NoFunction:
    """Like `subprocess.Popen`: making one is what it is for."""

    def __init__(self, args=()):
        MADE.append("NoFunction")


class OtherFunction(NoFunction):
    def __call__(self, predict_str, ground_truth):
        return 1.0


class Given(NoFunction):
    def __call__(self, given, *, size=1):
        return 1.0


class HasWrapped(NoFunction):
    __call__ = functools.wraps(OfTrl.__call__)(lambda *args, **kwargs: [1.0])


class Inherits(Given):
    pass


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(NoFunction, "is a class whose objects are no functions, so none was made", id="no_call"),
        pytest.param(OtherFunction, r"whose objects take \(predict_str, ground_truth\), so none", id="other_call"),
        pytest.param(Inherits, None, id="inherited"),
        pytest.param(HasWrapped, None, id="wrapped"),
    ],
)
def test_a_class_is_checked_before_an_object_of_it_is_made(found, message):
    MADE.clear()
    if message is None:
        resolve_reward("c(args=('touch', 'x'))", {"c": found})
        assert MADE == ["NoFunction"]
        return
    with pytest.raises(ConfigError, match=message):
        resolve_reward("c(args=('touch', 'x'))", {"c": found})
    assert MADE == []


def test_a_program_is_no_reward_even_if_the_user_names_it(tmp_path):
    with pytest.raises(ConfigError, match="no functions, so none was made"):
        resolve_reward(f"subprocess:Popen(args=['touch', {str(tmp_path / 'made')!r}])", {})
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "raise SystemExit", "1 / 0"])
def test_what_exits_while_it_is_imported_or_made_is_one_line(body, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"exits_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(body)
    (tmp_path / f"{name}_made.py").write_text(f"class Made:\n    def __init__(self):\n        {body}\n")
    with (tmp_path / f"{name}_made.py").open("a") as file:
        file.write("    def __call__(self, given):\n        return 1.0\n")
    with pytest.raises(ConfigError, match=r"cannot be imported: (SystemExit|ZeroDivisionError)"):
        resolve_reward(f"{name}:f", {})
    with pytest.raises(ConfigError, match=r"cannot be made: (SystemExit|ZeroDivisionError)"):
        resolve_reward(f"{name}_made:Made", {})


OURS_WITH_OPTIONS = {
    name: {p.name: p.default for p in inspect.signature(function).parameters.values() if p.default is not p.empty}
    for name, function in REWARDS.items()
    if name != "reward_model"  # its options are texts: tests/rewards/test_model.py
}
WRONG = [
    "'x'",
    "None",
    "True",
    "[]",
    "{}",
    "10**400",
    "-1e300",
    "1e999",
    "b'1'",
    "(1,)",
    "9" * 400,
    "1j",
    "'" + "x" * 500 + "'",
]


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, options in OURS_WITH_OPTIONS.items() for option in options]
)
def test_options_of_our_rewards_are_checked_with_their_name(name, option):
    """The default is good; whatever is no number of its kind is refused, before any completion is there."""
    resolve_reward(f"{name}({option}={OURS_WITH_OPTIONS[name][option]!r})", REWARDS)
    for value in WRONG:
        with pytest.raises(ConfigError) as caught:
            resolve_reward(f"{name}({option}={value})", REWARDS)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "spec",
    [
        "iou_threshold(at=1)", "iou_power(exponent=0)", "giou(near=2)", "diou(near=-1)", "ciou(near=1.5)",
        "set_f1(at=0)", "weighted_sum(at=2)", "weighted_sum(label=-1)", "weighted_sum(position=0, completeness=0)",
        "numeric(tolerance=-1)", "numeric(relative=-0.1)", "anls(threshold=2)", "point_distance(scale=0)",
        "point_distance(near=2)", "cosine_length(max_tokens=0)", "cosine_length(correct=(1,))",
        "cosine_length(wrong=('a', 'b'))", "overlong(buffer=0)", "overlong(buffer=600)", "overlong(max_tokens=100)",
        "repetition(ngram=0)", "repetition(ngram=101)", "repetition(ngram=1000000000)", "iou(at=0.5)",
    ],
)  # fmt: skip
def test_values_of_options_are_checked_with_their_name(spec):
    with pytest.raises(ConfigError, match=f'reward "{spec.partition("(")[0]}'):
        resolve_reward(spec, REWARDS)
