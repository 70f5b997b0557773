"""Bounds of decoded rows: the quick look at the text says the same as the walk through the value."""

from __future__ import annotations

import json

import pytest

from vlm_r1.parsing.json_values import LARGEST, MAX_DEPTH, beyond_bounds, is_number


def nested(levels: int, inner: object = 1) -> object:
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("value", "odd"),
    [
        (nested(MAX_DEPTH), ""),
        (nested(MAX_DEPTH + 1), "lists or objects in more than 100 levels"),
        ([nested(60), nested(60)], ""),
        ({"a": "[" * 500}, ""),
        (LARGEST - 1, ""),
        (LARGEST, "an integer of more than 300 digits"),
        ({"a": [-LARGEST]}, "an integer of more than 300 digits"),
        ({"a": "9" * 400}, ""),
    ],
    ids=[
        "deep",
        "too deep",
        "many brackets",
        "brackets in a text",
        "large",
        "too large",
        "negative",
        "digits in a text",
    ],
)
def test_bounds(value: object, odd: str) -> None:
    assert beyond_bounds(value, json.dumps(value)) == odd


def test_a_number_is_finite_and_no_truth_value() -> None:
    assert [is_number(value) for value in (0, -1.5, True, float("inf"), 10**309, None)] == [True, True] + 4 * [False]
