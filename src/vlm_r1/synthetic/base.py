"""The base of the synthetic worlds: settings, examples, and the shifts out of domain.

A world is a frozen dataclass. Its fields are the options, `draw` makes an example, and `misjudge` gives the answer of a
mediocre teacher for the warm-up of a model. A new world is a file with such a class, and one line in `WORLDS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from PIL import Image

from vlm_r1.errors import ConfigError
from vlm_r1.registry import suggestion
from vlm_r1.synthetic.placement import Thing
from vlm_r1.types import AnswerValue

SHIFTS = ("sizes", "kinds", "crowding")
"""Shifts out of the training domain: unseen image sizes, unseen target kinds, more objects than in training."""

ALL_SHIFTS = "all"
"""All three of `SHIFTS` at once."""

_MAX_ATTEMPTS = 2000

K = TypeVar("K", bound=tuple[str, ...])
T = TypeVar("T")
W = TypeVar("W", bound="World[Any]")


@dataclass(frozen=True)
class SizeRange:
    """A range of image sizes; width and height are drawn uniformly and independently.

    Attributes:
        low_wh, high_wh: (width, height) in pixels, both included, e.g. (48, 48) and (64, 64).
    """

    low_wh: tuple[int, int]
    high_wh: tuple[int, int]


Size = tuple[int, int] | SizeRange
"""(width, height) in pixels, or a range of them."""


class Picture(Protocol):
    """The description of a picture; it is a value, so that scenes can be compared and tested without pixels."""

    @property
    def wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    @property
    def things(self) -> tuple[Thing[Any], ...]:
        """The things in it; if the question asks for one, it is the first."""
        ...

    def paint(self) -> Image.Image:
        """Draw the picture in RGB."""
        ...


@dataclass(frozen=True)
class Example:
    """Pictures and a question about them.

    Attributes:
        pictures: one picture, or several of the same size.
        question: the question without `<image>` marks, e.g. "the small red circle".
        answer: the gold answer in the form of a data file, e.g. [10, 20, 30, 40].
        facts: further facts for studies, e.g. {"asks_by": "size"}.
    """

    pictures: tuple[Picture, ...]
    question: str
    answer: AnswerValue
    facts: Mapping[str, AnswerValue]


@dataclass(frozen=True)
class World(ABC, Generic[K]):
    """A distribution of examples; the defaults of a subclass are its training world, "medium".

    Attributes:
        image_sizes: image sizes, all equally likely.
        target_kinds: kinds that questions ask for.
        other_kinds: kinds of the other things in a picture.
        min_objects, max_objects: least and greatest number of things in a picture.
        thought: kind of the teacher's thought, one of `thoughts`.
    """

    image_sizes: tuple[Size, ...]
    target_kinds: tuple[K, ...]
    other_kinds: tuple[K, ...]
    min_objects: int
    max_objects: int
    thought: str

    task: ClassVar[str]
    """Name of the task that asks and judges its records."""
    all_kinds: ClassVar[tuple[Any, ...]]
    held_out_kinds: ClassVar[tuple[Any, ...]]
    """Kinds that the training world never draws, and that questions ask for out of domain."""
    levels: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Fields of each difficulty that differ from the defaults."""
    thoughts: ClassVar[tuple[str, ...]] = ("question", "none")

    def __post_init__(self) -> None:
        check_name("thought", self.thought, self.thoughts)

    @property
    def most_objects(self) -> int:
        """The largest number of things in a picture."""
        return self.max_objects

    @abstractmethod
    def draw(self, rng: Random) -> Example:
        """Draw an example; the same state of `rng` gives the same example."""

    @abstractmethod
    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give the answer of a mediocre teacher, so that reinforcement learning can still improve on it."""

    def think(self, rng: Random, example: Example, answer: AnswerValue) -> str:
        """Write the teacher's thought before that answer; it may be empty."""
        return example.question if self.thought == "question" else ""


def shifted(world: W, shift: str = ALL_SHIFTS) -> W:
    """Return the same world out of domain.

    Args:
        world: the training world.
        shift: one of `SHIFTS`, or `ALL_SHIFTS` for all three. "sizes" stretches the first image size to unseen wide and
            tall ones; "kinds" asks for `held_out_kinds` among all kinds; "crowding" draws one thing more than the
            training maximum.

    Raises:
        ConfigError: there is no such shift.
    """
    check_name("shift", shift, (*SHIFTS, ALL_SHIFTS))
    more = world.most_objects + 1
    changes = {
        "sizes": {"image_sizes": _unseen_sizes(world.image_sizes)},
        "kinds": {"target_kinds": world.held_out_kinds, "other_kinds": world.all_kinds},
        "crowding": {"min_objects": more, "max_objects": more},
    }
    chosen = SHIFTS if shift == ALL_SHIFTS else (shift,)
    return replace(world, **{field: value for name in chosen for field, value in changes[name].items()})


def draw_size(rng: Random, sizes: Sequence[Size]) -> tuple[int, int]:
    """Draw one of the sizes; of a range, any size within it."""
    size = rng.choice(sizes)
    if isinstance(size, SizeRange):
        width, height = map(rng.randint, size.low_wh, size.high_wh)
        return width, height
    return size


def smallest_wh(size: Size) -> tuple[int, int]:
    """Return the size itself, or the lower end of a range."""
    return size.low_wh if isinstance(size, SizeRange) else size


def keep_trying(attempt: Callable[[], T | None], wh: tuple[int, int], world: World[Any]) -> T:
    """Return the first result that is not None; attempts in which things do not fit are discarded.

    Raises:
        ConfigError: no attempt succeeded.
    """
    for _ in range(_MAX_ATTEMPTS):
        found = attempt()
        if found is not None:
            return found
    raise ConfigError(
        f"{type(world).__name__}: in {_MAX_ATTEMPTS} attempts no picture of {wh[0]}x{wh[1]} pixels with "
        f"{world.min_objects} to {world.max_objects} objects could be drawn. Ask for larger images or fewer objects"
    )


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless the name is known."""
    if name not in known:
        raise ConfigError(f'unknown {what} "{name}". {suggestion(name, known)}Known: {", ".join(known)}')


def _unseen_sizes(sizes: Sequence[Size]) -> tuple[Size, ...]:
    """Stretch the first size in width and in height: by 1.5, 2, 2.5, … until the sizes contain neither result."""
    width, height = smallest_wh(sizes[0])
    stretched = (((width * halves // 2, height), (width, height * halves // 2)) for halves in count(3))
    return next(pair for pair in stretched if not any(_covers(size, wh) for size in sizes for wh in pair))


def _covers(size: Size, wh: tuple[int, int]) -> bool:
    if isinstance(size, SizeRange):
        return all(low <= side <= high for low, side, high in zip(size.low_wh, wh, size.high_wh, strict=True))
    return size == wh
