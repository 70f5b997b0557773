"""YAML within bounds; what is refused stands in tests/config/test_load.py too, as a user meets it."""

from __future__ import annotations

import datetime
import re
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.config.yaml_text import MAX_NODES, NO_YAML, read_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    assert read_yaml(yaml.safe_dump(value)) == yaml.safe_load(yaml.safe_dump(value))


@given(st.text(alphabet=":-[]{}&*!<#\\\"'|>%@?, \nab1\ud83d\0", max_size=40))
def test_any_text_is_read_as_pyyaml_does_or_refused(text: str) -> None:
    try:
        read = read_yaml(text)
    except NO_YAML:
        return
    assert repr(read) == repr(yaml.safe_load(text))


def test_aliases_and_merges_are_read_within_the_bound() -> None:
    assert read_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    many = "a: &a [1, 2]\nb: [" + ", ".join(["*a"] * (MAX_NODES // 3 + 1)) + "]"
    with pytest.raises(ValueError, match="its aliases make"):
        read_yaml(many)


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else '1'}]" for i in range(30)]
    start = time.process_time()
    with pytest.raises(ValueError, match="its aliases make"):
        read_yaml("\n".join(levels))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: !!timestamp abc", "line 2: 'abc' is no timestamp; put a text into quotes"),
        ("a: 2001-99-99", "line 1: '2001-99-99' is no timestamp; put a text into quotes"),
        ("a: !!int abc", "line 1: 'abc' is no int; put a text into quotes"),
        ("a: !!float ''", "line 1: '' is no float; put a text into quotes"),
        ("a: !!bool x", "line 1: 'x' is no bool; put a text into quotes"),
        ("!!timestamp abc: 1", "line 1: 'abc' is no timestamp; put a text into quotes"),
        ("a: " + "[" * 3000, "its lists and mappings are nested too deeply"),
    ],
)
def test_a_value_that_is_not_of_its_kind_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_yaml(text)


def test_control_values_of_their_kind_are_read() -> None:
    day = datetime.date(2001, 1, 2)
    assert read_yaml("[!!timestamp 2001-01-02, !!int '7', !!float 1, !!bool yes, abc]") == [day, 7, 1.0, True, "abc"]
