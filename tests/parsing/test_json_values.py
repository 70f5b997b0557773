"""The kinds of decoded JSON, over everything that a decoder makes."""

from __future__ import annotations

import json

import pytest

from vlm_r1.parsing.json_values import is_list, is_object


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param('{"a": [1]}', "object", id="object"),
        pytest.param("{}", "object", id="empty object"),
        pytest.param("[{}]", "list", id="list"),
        pytest.param("[]", "list", id="empty list"),
        pytest.param('"[1]"', "other", id="text"),
        pytest.param("1.5", "other", id="number"),
        pytest.param("true", "other", id="boolean"),
        pytest.param("null", "other", id="null"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    value = json.loads(text)
    assert (is_object(value), is_list(value)) == (kind == "object", kind == "list")
