"""What a format is: how one line of somebody's data becomes a question, its images and its gold answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.data.coordinates import Coordinates
from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import read_gold
from vlm_r1.types import IMAGE_TOKEN, AnswerValue

Row = Mapping[str, Any]
"""One JSON object of a data file."""

_EVERYWHERE = ("id", "image", "images", "accu_reward_method")
"""Keys that mean the same in every format."""


@dataclass(frozen=True)
class Example:
    """What a format reads out of a row.

    Attributes:
        problem: the question, with one `<image>` for each image.
        images: as written: paths relative to the image root, absolute paths or URLs.
        answer: the gold answer, tags taken off.
        thought: gold reasoning, if there is any.
        reward: name of the accuracy reward, if the row names one.
        coordinates: unit of the boxes, if the row states it.
        columns: the keys that were not used, with their values.
    """

    problem: str
    images: tuple[str, ...]
    answer: AnswerValue
    thought: str | None = None
    reward: str | None = None
    coordinates: Coordinates | None = None
    columns: Mapping[str, AnswerValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A way to lay out a row.

    Attributes:
        wants: the keys that make it up, for people to read, e.g. "problem, solution"; images are understood.
        recognises: whether a row has these keys; nothing is said about their values.
        read: a row that has the keys → Example, or a DataError that says what is wrong with the values.
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
    extra: Row | None = None,
) -> Example:
    """Put an example together from what a format has found, and from the keys that mean the same in every format.

    Args:
        row: the whole row.
        problem: the question, with or without `<image>`.
        gold: the gold answer; a text may carry tags.
        used: the format's own keys, which are no columns.
        names: image paths, if they do not stand under `image` or `images`.
        coordinates: unit of the boxes, if the row states it.
        extra: columns besides those of the row.

    Raises:
        DataError: the question is no text, there is no answer, or images and `<image>` marks do not match.
    """
    if not isinstance(problem, str):
        raise DataError(f"the question is {shown(problem)}, wanted a text")
    images = image_names(row) if names is None else names
    thought, answer = split_gold(gold)
    return Example(
        problem=_place_images(problem, len(images)),
        images=images,
        answer=answer,
        thought=thought,
        reward=_reward(row),
        coordinates=coordinates,
        columns={**(extra or {}), **{k: v for k, v in row.items() if k not in used and k not in _EVERYWHERE}},
    )


def image_names(row: Row) -> tuple[str, ...]:
    """The paths under `image` or `images`: one, a list of them, or none at all.

    Raises:
        DataError: both keys are there, or something else than paths.
    """
    values = {key: row[key] for key in ("image", "images") if row.get(key) not in (None, [])}
    if len(values) > 1:
        raise DataError('both "image" and "images" are there; wanted one of them')
    for key, value in values.items():
        items = value if isinstance(value, list) else [value]
        # {"path": …} is how `datasets` writes an image that it has not embedded
        paths = [item.get("path") if isinstance(item, dict) else item for item in items]
        names = tuple(path for path in paths if isinstance(path, str) and path)
        if len(names) < len(items):
            raise DataError(f'"{key}" is {shown(value)}, wanted a path, a list of paths, or no such key')
        return names
    return ()


def split_gold(value: Any) -> tuple[str | None, AnswerValue]:
    """Thought and answer, the tags of a text taken off.

    Raises:
        DataError: there is no answer.
    """
    thought = None
    if isinstance(value, str):
        thought, value = read_gold(value)
    if value is None or value == "":
        raise DataError("there is no answer; wanted a text, number, list or object")
    return thought, value


def shown(value: Any) -> str:
    """A value as JSON, cut to 80 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _place_images(question: str, n_images: int) -> str:
    """Give the question one `<image>` for each image; without any, images come first (as in the original VLM-R1)."""
    marks = question.count(IMAGE_TOKEN)
    if marks == 0:
        return IMAGE_TOKEN * n_images + question
    if marks != n_images:
        raise DataError(
            f"{marks} {IMAGE_TOKEN} in the question for {n_images} image{'s' * (n_images != 1)}; "
            f"wanted one {IMAGE_TOKEN} for each image, or none at all (then the images come first)"
        )
    return question


def _reward(row: Row) -> str | None:
    reward = row.get("accu_reward_method")
    if reward is not None and not isinstance(reward, str):
        raise DataError(f'"accu_reward_method" is {shown(reward)}, wanted the name of a reward, or no such key')
    return reward
