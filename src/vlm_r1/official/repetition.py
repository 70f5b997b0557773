"""The original's reward against repetition."""

from __future__ import annotations

import json
from typing import Any

from json_repair import repair_json

from vlm_r1.official.gold import Gold
from vlm_r1.official.texts import END_FENCE, FENCE, between, find_in_order
from vlm_r1.parsing.json_values import is_list

_NGRAM_WORDS = 6
_OBJECTS = (r"\[\s*\{", '"bbox_2d"', '"label"', r"\}\s*\]")


def repetition(completion: str, gold: Gold) -> float | None:
    """`repetition`: −(1 − distinct / all) for the labelled boxes of the first list in the text, or else for 6-grams.

    A list that is not JSON is repaired first. White space separates words, in lower case; fewer than six words have no
    repetition.
    """
    text = _list_text(completion)
    try:
        data = _load(text) if text else None
        if data and is_list(data):
            return _penalty([f"{item['bbox_2d']}_{item['label']}" for item in data if _is_object(item)])
    except (TypeError, ValueError, RecursionError):  # items that are numbers; integers of 5,000 digits; deep nesting
        return None
    words = completion.lower().split()
    return _penalty(list(zip(*(words[i:] for i in range(_NGRAM_WORDS)), strict=False)))


def _list_text(completion: str) -> str | None:
    """The content of the first ```json fence, else of any fence, else the first list of objects with box and label."""
    for inside in between(completion, FENCE, END_FENCE):
        return inside.strip()
    for inside in between(completion, END_FENCE, END_FENCE):
        if inside.strip():
            return inside.strip()
        break
    where = find_in_order(completion, *_OBJECTS)
    return completion[where[0] : where[1]] if where else None


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return json.loads(str(repair_json(text)))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _is_object(item: Any) -> bool:
    return "bbox_2d" in item and "label" in item


def _penalty(items: list[Any]) -> float:
    return -(1 - len(set(items)) / len(items)) if items else 0.0
