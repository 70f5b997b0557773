"""ms-swift's grounding lines: `messages` with the placeholders `<ref-object>` and `<bbox>`, and their values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vlm_r1.data.coordinates import Coordinates
from vlm_r1.data.formats.base import Example, Format, Row, make_example, shown
from vlm_r1.data.formats.turns import find_gold, read_turns
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import AnswerValue

_REF, _BOX = "<ref-object>", "<bbox>"
_UNITS: dict[str, Coordinates] = {"real": "pixels", "norm1": "norm_1"}
_ONLY_BOXES = re.compile(r"(?:<bbox>[\s,;]*)+")
_ONLY_PAIRS = re.compile(r"(?:<ref-object>[\s:]*<bbox>[\s,;]*)+")


def _recognises(row: Row) -> bool:
    return {"messages", "objects"} <= row.keys()


def _read(row: Row) -> Example:
    """Read `messages`, `images` and `objects`: {"ref": texts, "bbox": boxes or points, "bbox_type": "real" or "norm1"}.

    Placeholders take the refs and boxes in order: earlier turns, the question, the answer. An answer of boxes alone
    becomes a box or a list of boxes; pairs of ref and box become a list of labelled boxes; JSON is parsed; another text
    stays a text. Each ref and each box must have its placeholder. `image_id` is ignored, since these tasks have one
    image.
    """
    turns = read_turns(row["messages"])
    history = turns.context.history
    asked = "".join([*(turn.text for turn in history), turns.question])
    if _BOX in asked:
        where = "question" if _BOX in turns.question else "message of an earlier turn"
        raise DataError(
            f"the {where} holds {_BOX}, but each model family writes boxes in coordinates of its own; wanted boxes in "
            "the answer alone"
        )
    gold, used = find_gold(row, turns)
    refs, boxes, coordinates = _objects(row["objects"])
    left = iter(refs)
    history = tuple(turn._replace(text=_fill(turn.text, _REF, left)) for turn in history)
    question = _fill(turns.question, _REF, left)
    written = gold if isinstance(gold, str) else ""
    _check_none_is_left("box", boxes, written.count(_BOX), _BOX)
    _check_none_is_left("ref", refs, asked.count(_REF) + written.count(_REF), _REF)
    answer = _answer(gold, left, iter(boxes)) if isinstance(gold, str) else gold
    keys = ("messages", "objects", *used)
    context = replace(turns.context, history=history)
    return make_example(row, question, answer, keys, context=context, coordinates=coordinates)


def _check_none_is_left(what: str, found: list[Any], n_places: int, placeholder: str) -> None:
    if len(found) > n_places:
        plural = {"box": "boxes", "ref": "refs"}[what] if len(found) > 1 else what
        raise DataError(f'{len(found)} {plural} in "objects" for {n_places} {placeholder}; wanted one for each')


def _objects(objects: Any) -> tuple[list[str], list[Any], Coordinates | None]:
    """Return refs, boxes and their unit; all empty if `objects` is null."""
    if objects is None:
        return [], [], None
    fields = objects if is_object(objects) else {}
    refs, boxes, unit = fields.get("ref") or list[str](), fields.get("bbox") or list[Any](), fields.get("bbox_type")
    lists = is_list(refs) and is_list(boxes) and is_object(objects)
    if not lists or not all(isinstance(ref, str) for ref in refs) or unit not in (None, *_UNITS):
        raise DataError(
            f'"objects" is {shown(objects)}; wanted {{"ref": [texts], "bbox": [boxes], "bbox_type": "real" or "norm1"}}'
        )
    return refs, boxes, None if unit is None else _UNITS[unit]


def _answer(text: str, refs: Iterator[str], boxes: Iterator[Any]) -> AnswerValue:
    if _ONLY_BOXES.fullmatch(text.strip()):
        found = [_next(boxes, _BOX) for _ in range(text.count(_BOX))]
        return found[0] if len(found) == 1 else found
    if _ONLY_PAIRS.fullmatch(text.strip()):
        pairs = [(_next(refs, _REF), _next(boxes, _BOX)) for _ in range(text.count(_BOX))]
        return [{"bbox_2d": box, "label": ref} for ref, box in pairs]
    is_json = text.lstrip()[:1] in ("[", "{")
    quoted = (json.dumps(ref, ensure_ascii=False)[1:-1] for ref in refs) if is_json else refs
    filled = _fill(_fill(text, _REF, quoted), _BOX, (json.dumps(box) for box in boxes))
    try:
        return json.loads(filled) if is_json else filled
    except (ValueError, RecursionError):
        return filled


def _fill(text: str, placeholder: str, values: Iterator[str]) -> str:
    first, *rest = text.split(placeholder)
    return first + "".join(_next(values, placeholder) + piece for piece in rest)


def _next(values: Iterator[Any], placeholder: str) -> Any:
    try:
        return next(values)
    except StopIteration:
        raise DataError(f'there are more {placeholder} in the messages than there are entries in "objects"') from None


MS_SWIFT = Format("messages, objects", _recognises, _read)
