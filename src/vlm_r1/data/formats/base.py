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
from vlm_r1.types import AnswerValue, Turn

__all__ = ["Context", "Example", "Format", "Row", "find_answer", "has_answer", "make_example", "shown", "split_gold"]

Row = Mapping[str, Any]
"""One JSON object of a data file."""

_EVERYWHERE = ("id", "accu_reward_method")
"""Keys that mean the same in every format, like those of pictures."""

ANSWER_KEYS = ("completion", "solution", "answer", "ground_truth")
"""Keys of the answer if no message gives it; the first one present counts."""

_MORE_ANSWER_KEYS = ("response", "label", "output", "target", "gt", "gold", "gt_answer", "gold_answer", "answers")
"""Synonyms of these keys, of which a row has one."""


@dataclass(frozen=True)
class Context:
    """What a row has around its question.

    Attributes:
        names: image paths of all its messages; empty if they are elsewhere in the row.
        system: the system message, or None.
        history: earlier turns, oldest first.
    """

    names: tuple[str, ...] = ()
    system: str | None = None
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Example:
    """The content of a row, in the same form for all formats.

    Attributes:
        problem: the question, with one `<image>` for each image.
        images: paths relative to the image root, absolute paths, URLs or data URIs, as written in the row; those of
            earlier turns first.
        answer: the gold answer without tags.
        thought: gold reasoning, if there is any.
        reward: name of the accuracy reward, if the row names one.
        coordinates: unit of the boxes, if the row states it.
        system: a system message.
        columns: the keys that were not used, with their values.
        history: earlier turns, oldest first, with one `<image>` for each of their images.
    """

    problem: str
    images: tuple[str, ...]
    answer: AnswerValue
    thought: str | None = None
    reward: str | None = None
    coordinates: Coordinates | None = None
    system: str | None = None
    columns: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])
    history: tuple[Turn, ...] = ()


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
    context: Context = Context(),
    coordinates: Coordinates | None = None,
) -> Example:
    """Make an example from the findings of a format and from the keys that mean the same in every format.

    Args:
        row: the whole row.
        problem: the question, with or without `<image>`.
        gold: the gold answer; a text may carry tags.
        used: the format's own keys, which do not become columns.
        context: system message, earlier turns and image paths of messages; the system message also becomes a column.
        coordinates: unit of the boxes, if the row states it.

    Raises:
        DataError: the question is not a text, or empty; there is no answer; images and `<image>` marks do not match; or
            the row has a picture, video or sound that would not be read.
    """
    if not isinstance(problem, str):
        raise DataError(f"the question is {shown(problem)}, wanted a text")
    found, image_keys = find_images(row)
    names, system = context.names, context.system
    if names and found and not same_pictures(names, found):
        raise DataError(
            f'pictures stand in the message and under "{image_keys[0]}"; wanted them in one of these places'
        )
    history, problem, images = _place_images(context.history, problem, names or found)
    if not problem.strip():
        raise DataError("the question is empty")
    check_marks(system or "", "the system's message")
    thought, answer = split_gold(gold)
    for text in (problem, *(turn.text for turn in history)):
        check_filled(text, "the question")
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
        history=history,
    )


_TURN_ENDS = "\0\n\0"
"""Stands between the texts of the user while their images are placed."""


def _place_images(
    history: tuple[Turn, ...], question: str, names: tuple[str, ...]
) -> tuple[tuple[Turn, ...], str, tuple[str, ...]]:
    """Call `place_images` for the user's texts together: without marks all pictures come before the first of them."""
    asked = [turn.text for turn in history if turn.role == "user"]
    if any(_TURN_ENDS in text for text in (*asked, question)):
        raise DataError("a message holds NUL characters; remove them")
    placed, images = place_images(_TURN_ENDS.join([*asked, question]), names)
    *texts, question = placed.split(_TURN_ENDS)
    left = iter(texts)
    return tuple(turn._replace(text=next(left)) if turn.role == "user" else turn for turn in history), question, images


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
