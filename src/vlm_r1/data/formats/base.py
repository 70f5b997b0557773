"""A format turns one row of a data file into a question, its images and its gold answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.data.coordinates import Coordinates
from vlm_r1.data.formats.media import check_filled, check_marks, check_unread, find_images, place_images, same_pictures
from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_object
from vlm_r1.parsing.tags import read_gold
from vlm_r1.types import AnswerValue

__all__ = ["Example", "Format", "Row", "find_answer", "has_answer", "make_example", "shown", "split_gold"]

Row = Mapping[str, Any]
"""One JSON object of a data file."""

_EVERYWHERE = ("id", "accu_reward_method")
"""Keys that mean the same in every format, like those of pictures."""

ANSWER_KEYS = ("completion", "solution", "answer", "ground_truth")
"""Keys of the answer if no message gives it; the first one present counts."""

_MORE_ANSWER_KEYS = ("response", "label", "output", "target", "gt", "gold", "gt_answer", "gold_answer", "answers")
"""Synonyms of these keys, of which a row has one."""


@dataclass(frozen=True)
class Example:
    """The content of a row, in the same form for all formats.

    Attributes:
        problem: the question, with one `<image>` for each image.
        images: paths relative to the image root, absolute paths, URLs or data URIs, as written in the row.
        answer: the gold answer without tags.
        thought: gold reasoning, if there is any.
        reward: name of the accuracy reward, if the row names one.
        coordinates: unit of the boxes, if the row states it.
        system: a system message, which goes before the question.
        columns: the keys that were not used, with their values.
    """

    problem: str
    images: tuple[str, ...]
    answer: AnswerValue
    thought: str | None = None
    reward: str | None = None
    coordinates: Coordinates | None = None
    system: str | None = None
    columns: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])


@dataclass(frozen=True)
class Format:
    """How a data file writes a record in a row.

    Attributes:
        wants: its keys, as a text for people, e.g. "problem, solution"; keys of images are left out.
        recognises: returns whether a row has these keys, whatever their values.
        read: turns a row with these keys into an Example; DataError says what is wrong with a value.
    """

    wants: str
    recognises: Callable[[Row], bool]
    read: Callable[[Row], Example]


def make_example(
    row: Row,
    problem: Any,
    gold: Any,
    used: Collection[str],
    *,
    names: tuple[str, ...] | None = None,
    coordinates: Coordinates | None = None,
    system: str | None = None,
) -> Example:
    """Make an example from the findings of a format and from the keys that mean the same in every format.

    Args:
        row: the whole row.
        problem: the question, with or without `<image>`.
        gold: the gold answer; a text may carry tags.
        used: the format's own keys, which do not become columns.
        names: image paths, if they are not under a key of the row.
        coordinates: unit of the boxes, if the row states it.
        system: the system message; it also becomes a column.

    Raises:
        DataError: the question is not a text, or empty; there is no answer; images and `<image>` marks do not match; or
            the row has a picture, video or sound that would not be read.
    """
    if not isinstance(problem, str):
        raise DataError(f"the question is {shown(problem)}, wanted a text")
    found, image_keys = find_images(row)
    if names and found and not same_pictures(names, found):
        raise DataError(
            f'pictures stand in the message and under "{image_keys[0]}"; wanted them in one of these places'
        )
    problem, images = place_images(problem, names or found)
    if not images and not problem.strip():
        raise DataError("the question is empty")
    check_marks(system or "", "the system's message")
    thought, answer = split_gold(gold)
    check_filled(problem, "the question")
    check_filled(answer, "the answer")
    check_unread({"answer": answer}, n_images=1)
    ignored = {*used, *_EVERYWHERE, *image_keys, "image", "images"}
    columns = {key: value for key, value in row.items() if key not in ignored}
    check_unread(columns, len(images))
    return Example(
        problem=problem,
        images=images,
        answer=answer,
        thought=thought,
        reward=_reward(row),
        coordinates=coordinates,
        system=system,
        columns=columns if system is None else {"system": system, **columns},
    )


def has_answer(row: Row, keys: Sequence[str] = ANSWER_KEYS) -> bool:
    """Return whether a row has one of the keys that `find_answer` reads."""
    return any(key in row for key in (*keys, *_MORE_ANSWER_KEYS, "reward_model"))


def find_answer(row: Row, keys: Sequence[str] = ANSWER_KEYS) -> tuple[Any, tuple[str, ...]]:
    """Return the gold answer and the keys that hold it: one of `keys`, or else their synonyms.

    verl's `reward_model: {"ground_truth": …}` counts as a synonym, and stays a column.

    Raises:
        DataError: there is no answer, or several synonyms have different values.
    """
    for key in keys:
        if row.get(key) is not None:
            return row[key], (key,)
    found = {key: row[key] for key in _MORE_ANSWER_KEYS if row.get(key) is not None}
    rules = row.get("reward_model")
    if is_object(rules) and rules.get("ground_truth") is not None:
        found["reward_model"] = rules["ground_truth"]
    if not found:
        raise DataError(
            f"there is no answer: no message of the assistant, and none of the keys {', '.join(keys)}; "
            f"got the keys {', '.join(row)}"
        )
    (key, value), *others = found.items()
    for other, another in others:
        if another != value:
            raise DataError(f'"{key}" and "{other}" both look like the answer; rename the right one to "answer"')
    return value, tuple(key for key in found if key != "reward_model")


def split_gold(value: Any) -> tuple[str | None, AnswerValue]:
    """Split a gold answer into thought and answer; the tags of a text are removed.

    Raises:
        DataError: there is no answer.
    """
    thought = None
    if isinstance(value, str):
        thought, value = read_gold(value)
    if value is None or value == "":
        raise DataError("there is no answer; wanted a text, number, list or object")
    return thought, value


def _reward(row: Row) -> str | None:
    reward = row.get("accu_reward_method")
    if reward is not None and not isinstance(reward, str):
        raise DataError(f'"accu_reward_method" is {shown(reward)}, wanted the name of a reward, or no such key')
    return reward
