"""Names out of data: what they may be, in all their spellings, and that nothing is imported to find out."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.registry import LONGEST_NAME, exactly, name_from_data, resolve
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.names import reward_from_data

ALLOWED = ("my.judges:Judge", "my.judges:Other(size=3, kind='a')", "my.judges:Plain()")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("iou", "iou", id="ours"),
        pytest.param("iou_threshold(at=0.75)", "iou_threshold(at=0.75)", id="with_an_option"),
        pytest.param("iou_threshold()", "iou_threshold()", id="empty_options"),
        pytest.param("my.judges:Judge", "my.judges:Judge", id="allowed"),
        pytest.param("my.judges:Judge(size=3)", "my.judges:Judge(size=3)", id="allowed_with_any_options"),
        pytest.param("my.judges:Other( kind='a',size=3 )", ALLOWED[1], id="allowed_options_in_another_spelling"),
        pytest.param("my.judges:Plain", ALLOWED[2], id="allowed_without_options"),
    ],
)
def test_what_rows_may_name(name, expected):
    assert reward_from_data(name, ALLOWED) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("subprocess:Popen(args=['touch', 'x'])", "is code, .* --allow-reward subprocess:Popen on", id="a"),
        pytest.param("my.judges:Judge2", r"data.allowed_rewards: \['my.judges:Judge2'\] in a recipe", id="not_listed"),
        pytest.param("my.judges:Other", "is code", id="listed_with_options_only"),
        pytest.param("my.judges:Other(size=4, kind='a')", "is code", id="other_options"),
        pytest.param("my.judges:Plain(size=4)", "is code", id="options_where_none_are_listed"),
        pytest.param("my.judges:judge", "is code", id="another_case"),
        pytest.param("my.judges.Judge", "unknown reward", id="a_dot_for_the_colon"),
        pytest.param("iouu", 'unknown reward "iouu". Did you mean "iou"', id="unknown"),
        pytest.param("іou", r'unknown reward "\\u0456ou"', id="a_letter_that_looks_like_i"),
        pytest.param("os：system", "unknown reward", id="a_wide_colon"),
        pytest.param("οs:system", "unknown reward", id="a_module_in_greek"),
        pytest.param("iou ", "unknown reward", id="a_space_behind"),
        pytest.param(" iou", "unknown reward", id="a_space_before"),
        pytest.param("my.judges :Judge", "unknown reward", id="a_space_within"),
        pytest.param("my.judges:Judge\n", "unknown reward", id="a_line_break"),
        pytest.param("\x1b[2Jiou", r'unknown reward "\\u001b\[2Jiou"', id="control_characters"),
        pytest.param("\ud83d", r'unknown reward "\\ud83d"', id="half_a_pair"),
        pytest.param("\0", r'unknown reward "\\u0000"', id="nul"),
        pytest.param("(", "cannot be read", id="a_bracket_alone"),
        pytest.param("()", r'unknown reward "\(\)"', id="brackets_alone"),
        pytest.param(":", 'unknown reward ":"', id="a_colon_alone"),
        pytest.param("::", "unknown reward", id="colons"),
        pytest.param("os:", "unknown reward", id="no_attribute"),
        pytest.param(":system", "unknown reward", id="no_module"),
        pytest.param(".os:system", "unknown reward", id="a_relative_module"),
        pytest.param("os:path.join", "unknown reward", id="a_dotted_attribute"),
        pytest.param("iou(1)", "options are written name=value", id="option_without_a_name"),
        pytest.param("iou_threshold(**{'at': 1})", "written once, as name=value", id="stars"),
        pytest.param("iou_threshold(at=0.1, at=0.2)", "written once", id="twice"),
        pytest.param("iou_threshold(at=0.1)(at=0.2)", "options are written", id="called_twice"),
        pytest.param("iou_threshold(at=open('x'))", "cannot be read", id="a_call"),
        pytest.param("iou_threshold(at=10**10**10)", "cannot be read", id="a_power"),
        pytest.param("iou_threshold(at=" + "9" * 900 + ")", "at is 9", id="a_huge_number"),
        pytest.param("iou_threshold(at=" + "[" * 300 + "]" * 300 + ")", "cannot be read", id="deep"),
        pytest.param("iou_threshold(at=" + "-" * 900 + "1)", "cannot be read", id="deep_signs"),
        pytest.param("iou_threshold(at=" + "1+" * 400 + "1)", "cannot be read", id="deep_sums"),
        pytest.param("iou_threshold(at={[]: 1})", "cannot be read", id="no_key"),
        pytest.param("iou_threshold(at='x')", "at is 'x'; wanted a number, like 0.5", id="wrong_type"),
        pytest.param("iou_threshold(at=2)", "at is 2; wanted 0 ≤ at < 1", id="out_of_range"),
        pytest.param("iou_threshold(to=2)", "has no option to", id="unknown_option"),
        pytest.param("x" * 1_000_000, "has 1,000,000 characters; wanted at most 1,000", id="long"),
        pytest.param("iou_threshold(at='" + "x" * 1_000_000 + "')", "1,000,0.. characters", id="long_option"),
        pytest.param("a" * LONGEST_NAME, "unknown reward", id="as_long_as_allowed"),
    ],
)  # fmt: skip
def test_what_rows_may_not_name(name, message):
    with pytest.raises(DataError, match=message) as caught:
        reward_from_data(name, ALLOWED)
    assert len(str(caught.value)) < 1500
    assert "my.judges" not in sys.modules


@pytest.mark.parametrize("name", [None, True, 3, 1e300, [], ["iou"], {"name": "iou"}, [[[]]] * 100_000])
def test_a_name_is_a_text(name):
    with pytest.raises(DataError, match="wanted a name, as a text") as caught:
        name_from_data("reward", name, REWARDS)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["task", "template"])
def test_only_rewards_have_options(kind):
    with pytest.raises(DataError, match=f'unknown {kind} "rec'):
        name_from_data(kind, "rec(a=1)", ["rec"])
    with pytest.raises(DataError, match=f"allow it: --allow-{kind} a:B on the command line") as caught:
        name_from_data(kind, "a:B", ["rec"])
    assert "recipe" not in str(caught.value)


@given(st.text(max_size=40) | st.from_regex(r"[a-z_.:]{1,8}\([a-z=0-9\[\]{}'\",+*-]{0,20}\)?", fullmatch=True))
def test_any_text_is_a_name_of_ours_or_a_data_error(text):
    before = set(sys.modules)
    try:
        found = reward_from_data(text)
    except DataError:
        found = None
    assert found is None or found.partition("(")[0].strip() in REWARDS
    assert set(sys.modules) == before


def test_entries_that_allow_a_name_exactly():
    assert exactly(["a:B", "a:B(c=1)", "iou", None, "", "a:", "a:B(", "a:B(c=d)"]) == ["a:B()", "a:B(c=1)"]


@pytest.mark.parametrize(
    "name", [":", "::", "os:", ":system", ".os:system", "os :system", "os:path.join", "o s:x", "\0:x"]
)
def test_what_reads_like_no_name_is_not_imported(name):
    with pytest.raises(ConfigError, match=r"reads like no package\.module:Name"):
        resolve("reward", name, {})


def test_a_row_asks_the_environment_for_nothing() -> None:
    allowed = ("my_rewards:Judge",)
    assert reward_from_data('my_rewards:Judge(url="x")', allowed) == 'my_rewards:Judge(url="x")'
    for option in ('api_key="$HF_TOKEN"', 'api_key="${HF_TOKEN}"', 'headers={"Authorization": "$HF_TOKEN"}'):
        name = f"my_rewards:Judge({option})"
        with pytest.raises(DataError, match="takes a value from the environment"):
            reward_from_data(name, allowed)
        assert reward_from_data(name, (name,)) == name, "the recipe names just this"
