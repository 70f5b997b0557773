"""Open-vocabulary detection records: the names that a question asks for, and the boxes of those in the image.

The gold answer must be complete: a model that boxes an object which is present but not annotated would be punished for
being right. So a question asks for a category only if every object of it in the image has its box. It neither asks for
a category nor uses it as a negative in three cases: the category has a crowd region (COCO boxes some ten of a crowd's
people and marks the rest as one region), it has a box that cannot be used, or it is known not to be exhaustive (LVIS).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol, TypeVar

from vlm_r1.converters.base import Line, Tally, option
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.pictures import Images, Picture, Unusable, as_json, usable_box
from vlm_r1.errors import ConfigError
from vlm_r1.parsing.names import list_names, needs_quotes
from vlm_r1.types import AnswerValue, Box

CROWD = "crowd region"
INCOMPLETE = "its category is not boxed completely in the image"
TWICE = "annotated twice, with the same category and box"
NOTHING_TO_ASK = "nothing to ask"
QUOTED = "question with a name in quotes, since it holds a comma"
NONE = "None"


@dataclass(frozen=True)
class CompleteOptions:
    """Options of all formats whose images must be annotated completely."""

    unknown_images: str = option(
        "error", "boxes of images that the file does not list; drop: it lists a part on purpose", ("error", "drop")
    )


@dataclass(frozen=True)
class AskingOptions:
    """Limits and negatives of the questions."""

    negatives: tuple[int, int] = option((0, 0), "how many absent names are added to each question, e.g. 2 or 1:3")
    max_per_category: int | None = option(None, "categories with more boxes in an image are not asked there")
    too_many: str = option("category", "what is dropped above --max-per-category", ("category", "image"))
    max_boxes: int | None = option(None, "images with more boxes are dropped")
    seed: int = option(0, "names the random choice of negatives; each record has its own stream")

    def __post_init__(self) -> None:
        if self.too_many == "image" and self.max_per_category is None:
            raise ConfigError("--too-many has no effect without --max-per-category; give that too")


@dataclass(frozen=True)
class DetectionOptions(AskingOptions, CompleteOptions):
    """Options of data sets that say of each image which categories are absent."""


@dataclass(frozen=True)
class CategoryOptions(AskingOptions):
    """Options of data sets in which the absent categories of an image are all known."""

    mode: str = option(
        "positive",
        "positive: the categories present; all: every category; one-box: those with exactly one box",
        ("positive", "all", "one-box"),
    )
    task: str = option(
        "ovd", "ovd: an image is one record; rec: a category with exactly one box in its image is one", ("ovd", "rec")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "all" and self.negatives != (0, 0):
            raise ConfigError("--mode all asks every category, so --negatives has no effect; leave one of them out")
        if self.task == "rec" and (self.mode != "positive" or self.negatives != (0, 0)):
            raise ConfigError(
                "--task rec asks for one thing that is there, so --mode and --negatives have no effect; leave them out"
            )


@dataclass(frozen=True)
class CocoOptions(CategoryOptions, CompleteOptions):
    """Options of COCO's files."""

    policy: str | None = option(
        None, "limits of the authors' evaluation sets", ("coco_filtered", "coco_pos_2", "coco_pos_3")
    )


POLICIES: Mapping[str, Mapping[str, Any]] = {
    "coco_filtered": {"max_per_category": 10},
    "coco_pos_2": {"max_per_category": 1, "too_many": "image"},
    "coco_pos_3": {"max_boxes": 10},
}
"""The authors' evaluation sets (findings of 2025-03-24, section 2.1), also called COCO_pos_1, 2 and 3. The first leaves
out categories with more than 10 boxes; the second has images in which each category has only one box; the third allows
at most 10 boxes over all categories. We read these as limits for one image, since over all of val2017 nearly every
category has more than 10 boxes."""


Options = TypeVar("Options", bound=CocoOptions)


def with_policy(options: Options) -> Options:
    """Return the options with the limits of their policy.

    Raises:
        ConfigError: an option would have no effect: a limit together with a policy.
    """
    if options.policy is None:
        return options
    plain = AskingOptions()
    if (options.max_per_category, options.too_many, options.max_boxes) != (None, plain.too_many, None):
        raise ConfigError(
            f"--policy {options.policy} sets the limits; leave --max-per-category, --too-many and --max-boxes out"
        )
    return replace(options, **POLICIES[options.policy])


@dataclass(frozen=True)
class Contents:
    """The objects of one image.

    Attributes:
        present: name → all its boxes, none missing, e.g. {"cat": [(10, 20, 110, 220)]}.
        incomplete: names that are or may be present without all their boxes.
    """

    present: Mapping[str, list[Box]]
    incomplete: frozenset[str]


class Annotated(Protocol):
    """An image with its objects, as a file of annotations describes it."""

    @property
    def name(self) -> str:
        """Path of its file as the annotations write it."""
        ...

    @property
    def wh(self) -> tuple[int, int] | None:
        """Its width and height in the annotations, or None."""
        ...

    @property
    def unusable(self) -> Unusable | None:
        """Why it cannot be used, or None."""
        ...


def usable_picture(image: Annotated, images: Images, tally: Tally) -> Picture | None:
    """The picture of an image; None (and counted) if the image or its annotations cannot be used."""
    picture = image.unusable or images.picture(image.name, image.wh, tally)
    if isinstance(picture, Unusable):
        tally.drop("image", picture.reason, example=picture.example)
        return None
    return picture


def contents_of(
    objects: Iterable[CocoObject], picture: Picture, tally: Tally, incomplete: Iterable[str] = ()
) -> Contents:
    """Sort the objects of an image into names that may be asked for and names that may not; count dropped boxes."""
    present: dict[str, list[Box]] = {}
    not_asked = set(incomplete)
    for item in objects:
        box = Unusable(CROWD) if item.crowd else item.box
        box = box if isinstance(box, Unusable) else usable_box(box, picture, tally)
        example = f"{item.label} in {picture.name}" if picture.name else ""
        if isinstance(box, Unusable):
            tally.drop("box", box.reason, example=example)
            not_asked.add(item.label)
        elif box in present.setdefault(item.label, []):
            tally.drop("box", TWICE, example=example)
        else:
            present[item.label].append(box)
    for label in sorted(not_asked & set(present)):
        tally.drop("box", INCOMPLETE, len(present.pop(label)), f"{label} in {picture.name}" if picture.name else "")
    return Contents(present, frozenset(not_asked))


def apply_limits(contents: Contents, options: AskingOptions, tally: Tally) -> Contents | Unusable:
    """Apply the limits on boxes: returns the contents without crowded categories, or why the image is dropped."""
    most = options.max_per_category
    crowded = [label for label, boxes in contents.present.items() if most is not None and len(boxes) > most]
    if crowded and options.too_many == "image":
        return Unusable(f"a category with more than {most} box{'es' * (most != 1)}")
    present = {label: boxes for label, boxes in contents.present.items() if label not in crowded}
    n_boxes = sum(map(len, present.values()))
    if options.max_boxes is not None and n_boxes > options.max_boxes:
        return Unusable(f"more than {options.max_boxes} boxes")
    n_crowded = sum(len(contents.present[label]) for label in crowded)
    tally.drop("box", f"one of more than {most} of its category in the image", n_crowded)
    return Contents(present, contents.incomplete | set(crowded))


def detection_line(
    line: Line,
    contents: Contents,
    absent: Sequence[str],
    options: AskingOptions,
    tally: Tally,
    harder: Sequence[str] = (),
) -> Line | None:
    """Fill in question, answer and `targets`; None if there is nothing to ask.

    Args:
        line: id, image and extra keys.
        contents: the names asked for and their boxes.
        absent: names known not to be in the image; negatives are drawn from them, by a random stream of the record.
        options: their `negatives` and `seed` are used.
        tally: counts the boxes kept, or the image dropped.
        harder: absent names that are taken before the others.
    """
    rng = Random(f"{options.seed}/{line.id}")
    n = rng.randint(*options.negatives)
    negatives = _draw(harder, n, rng)
    negatives += _draw(absent, n - len(negatives), rng)
    targets = [*contents.present, *negatives]
    if negatives:
        rng.shuffle(targets)  # otherwise a name's place in the list would reveal whether it is present
    return line_asking(line, targets, contents.present, tally)


def _draw(names: Sequence[str], n: int, rng: Random) -> list[str]:
    """Draw n different names, or all if there are fewer."""
    return rng.sample(names, min(n, len(names)))


def line_asking(line: Line, targets: Sequence[str], present: Mapping[str, list[Box]], tally: Tally) -> Line | None:
    """Make the record that asks for these names; its answer has the boxes of those present, or is "None"."""
    if not targets:
        tally.drop("image", NOTHING_TO_ASK, example=line.image)
        return None
    answer: list[AnswerValue] = [
        {"bbox_2d": as_json(box), "label": label} for label, boxes in present.items() for box in boxes
    ]
    tally.kept["box"] += len(answer)
    tally.kept["record with the answer None"] += not answer
    quoted = [name for name in targets if needs_quotes(name)]
    tally.note(QUOTED, bool(quoted), ", ".join(quoted))
    extra = {**line.extra, "targets": list(targets)}
    return replace(line, question=list_names(targets), answer=answer or NONE, extra=extra)
