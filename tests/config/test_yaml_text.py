"""YAML within bounds; what is refused stands in tests/config/test_load.py too, as a user meets it."""

from __future__ import annotations

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
