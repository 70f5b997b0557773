"""The check of a data file: reads every row, decodes every image and judges every gold answer, as training would."""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.curation.data_warnings import file_notes, relabelling_loss, row_warnings
from vlm_r1.curation.hints import WrittenBox, orientation_hint, task_hint
from vlm_r1.curation.statistics import find_duplicates, find_leakage, guess_coordinates
from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.images import GREATEST_GREY, SWAPS_SIDES, image_hash, image_orientation, is_remote, load_image
from vlm_r1.data.records import RecordFile
from vlm_r1.data.reward_keys import unused_reward_keys
from vlm_r1.data.rows import Problem
from vlm_r1.errors import ConfigError, DataError, RewardError
from vlm_r1.parsing.gold_boxes import boxes_in
from vlm_r1.rewards.model import is_reward_model
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.judge import ACCURACY, Attempt, byte_ids, check_gold, check_rewards, judge
from vlm_r1.tasks.plain import PlainTask
from vlm_r1.tasks.templates import Template, build_prompt, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record, Score

_FULL_MARKS = 1 - 1e-6
_ROUNDED_MARKS = 0.5
"""Least accuracy of a gold box with fractional coordinates, since a model can only write it rounded."""

_UNKNOWN_WH = (1, 1)
"""Size used for an image that is not read: boxes in original pixels are converted without a size."""

FORMAT = "format"

Progress = Callable[[Iterator[Any], int, str], Iterable[Any]]
"""Wraps an iterator, given its length and a name, to show a progress bar."""


@dataclass
class Pictures:
    """Properties of the images of a file, by path.

    Attributes:
        sizes_wh: upright width and height in pixels.
        hashes: hash of the pixels.
        greys: greatest value, for images of 16 bits only.
    """

    sizes_wh: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    greys: dict[str, int] = field(default_factory=dict[str, int])

    def measure(self, path: str, access: Access = NOWHERE) -> tuple[int, int]:
        """Decode a whole image, since the file may be shorter than its header says; returns its (width, height)."""
        image = load_image(path, access)
        self.sizes_wh[path], self.hashes[path] = image.size, image_hash(image)
        if GREATEST_GREY in image.info:
            self.greys[path] = image.info[GREATEST_GREY]
        return image.size


@dataclass(frozen=True)
class DataCheck:
    """The findings about one data file.

    Attributes:
        format: name of the format in which the rows were read.
        judged: usable records with the score of their gold answer.
        pictures: their images; empty if images were not read.
        problems: rows that cannot be used.
        low: records whose gold answer does not earn full marks.
        left_out: records whose reward returns None for the gold answer.
        access: remote images that may be fetched for a page about the file.
        unreadable: why the file as a whole cannot be read, which is the one problem then; None: it can.
        chosen: how many records were looked at, e.g. "1,000 of 50,000 records (random:1000)".
        coordinates: advice if the boxes do not look like pixels; None if they do.
        duplicates: sentences about records that occur twice.
        leakage: sentences about pictures shared with other files, by file name.
        warnings: probable mistakes in usable rows, by kind.
        notes: sentences about the file as a whole.
        hints: options that the data ask for.
        unused_keys: sentences about keys that may mean a reward, but are not used: nothing need be wrong.
        first: source of the first record, and its question as it will be asked; empty texts if there is no record.
    """

    format: str
    judged: list[tuple[Record, Score]]
    pictures: Pictures
    problems: list[Problem]
    low: list[Problem]
    coordinates: str | None
    duplicates: list[str]
    leakage: dict[str, str]
    warnings: dict[str, list[Problem]] = field(default_factory=dict[str, list[Problem]])
    notes: list[str] = field(default_factory=list[str])
    hints: list[str] = field(default_factory=list[str])
    unused_keys: list[str] = field(default_factory=list[str])
    first: tuple[str, str] = ("", "")
    left_out: list[Problem] = field(default_factory=list[Problem])
    access: Access = NOWHERE
    chosen: str = ""
    unreadable: Problem | None = None

    @property
    def is_ready(self) -> bool:
        """True if a model can learn from every row."""
        all_left_out = bool(self.left_out) and len(self.left_out) == len(self.judged)
        return not (self.problems or self.low or self.coordinates or all_left_out)


def check_data(
    source: DataSource,
    template: Template,
    *,
    images: bool,
    against: Iterable[DataSource] = (),
    allowed: Allowed = NOTHING,
    seed: int = 0,
    progress: Progress = lambda found, total, name: found,
) -> DataCheck:
    """Read a file row by row; judge each gold answer by the functions that judge in training.

    Args:
        images: whether all image files are decoded.
        against: files that should share no picture with this one, e.g. the test set.
        allowed: what rows may name.
        seed: seeds a random `sampling_strategy`.
        progress: wraps an iterator, given its length and a name, to show a progress bar.

    Raises:
        ConfigError: unknown format.
        DataError: the file cannot be read at all, or one of `against` cannot.
        RewardError: the reward fails on every gold answer.
    """
    task = get_task(source.task)
    try:
        file = RecordFile(source, allowed, seed=seed)
    except DataError as error:
        problem = Problem(source.path, str(error))
        return DataCheck(source.format, [], Pictures(), [problem], [], None, [], {}, unreadable=problem)
    pictures = Pictures()
    scanned = progress(file.scan(pictures.measure if images else None), len(file), source.path)
    judged, problems, refused = _judge_all(scanned, pictures, task, template)
    records = [record for record, _ in judged]
    coordinates, hints = _advice(source, file, pictures, [*records, *refused], refused)
    return DataCheck(
        format=file.format,
        judged=judged,
        pictures=pictures,
        problems=problems,
        low=_low(judged, pictures, task, template),
        coordinates=coordinates,
        duplicates=find_duplicates(records, pictures.hashes),
        leakage={
            other.path: sentence
            for other in against
            if (sentence := _leakage(records, pictures, RecordFile(other, allowed), progress))
        },
        left_out=[_left_out(record, task) for record, score in judged if score.parts[ACCURACY] is None],
        access=file.access,
        chosen=file.describe(),
        warnings=_warnings(records, task, template),
        notes=file_notes(records, task, template, pictures.greys),
        hints=hints,
        unused_keys=unused_reward_keys(records),
        first=(records[0].source, _conversation(records[0], task, template)) if records else ("", ""),
    )


def _conversation(record: Record, task: Task[Any, Any], template: Template) -> str:
    """Return a record's question as it is asked, after its system message and earlier turns, if it has some."""
    before = [f"{message['role']}: {message['content']}" for message in record.context]
    question = build_prompt(task, record, template).text
    return "\n".join([*before, f"user: {question}" if before else question])


def _leakage(records: Sequence[Record], pictures: Pictures, other: RecordFile, progress: Progress) -> str | None:
    """Return a sentence if another file shows a picture of these records."""
    other_pictures = Pictures()
    scanned = progress(other.scan(other_pictures.measure), len(other), other.source.path)
    others = [found for found in scanned if isinstance(found, Record)]
    return find_leakage(records, pictures.hashes, others, other_pictures.hashes)


def _warnings(records: Sequence[Record], task: Task[Any, Any], template: Template) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for record in records:
        for kind, message in row_warnings(record, task, template):
            found.setdefault(kind, []).append(Problem(record.source, message))
    return found


def _low(
    judged: Sequence[tuple[Record, Score]], pictures: Pictures, task: Task[Any, Any], template: Template
) -> list[Problem]:
    return [
        problem
        for record, score in judged
        for problem in (*_low_scores(record, score, task), *_relabelling_losses(record, pictures, task, template))
    ]


def _relabelling_losses(record: Record, pictures: Pictures, task: Task[Any, Any], template: Template) -> list[Problem]:
    message = relabelling_loss(record, task, template, _frames(record, pictures))
    return [Problem(record.source, message)] if message else []


def _judge_all(
    scanned: Iterable[Record | Problem], pictures: Pictures, task: Task[Any, Any], template: Template
) -> tuple[list[tuple[Record, Score]], list[Problem], list[Record]]:
    """Judge all gold answers; returns the usable records with their scores, the problems, and the records refused here.

    Raises:
        RewardError: the reward failed on every gold answer, so the reward is wrong and not the data.
        ConfigError: a reward takes a column that no line has.
    """
    judged: list[tuple[Record, Score]] = []
    problems: list[Problem] = []
    refused: list[Record] = []
    failed: list[tuple[Record, RewardError]] = []
    for found in scanned:
        if isinstance(found, Problem):
            problems.append(found)
            continue
        try:
            judged.append((found, judge_gold(found, _frames(found, pictures), task, template)))
        except (DataError, ConfigError, RewardError) as error:
            problems.append(Problem(found.source, str(error).removeprefix(f"{found.source}: ")))
            refused.append(found)
            failed += [(found, error)] if isinstance(error, RewardError) else []
    check_rewards({ACCURACY: 1.0}, [record for record, _ in (*judged, *failed)])
    if failed and not judged:
        raise failed[0][1]
    return judged, problems, refused


def judge_gold(record: Record, frames: tuple[ImageFrame, ...], task: Task[Any, Any], template: Template) -> Score:
    """Score the completion that a perfect model would write.

    No tokenizer is loaded, so rewards that take token ids get one id for each byte of the text.

    Raises:
        DataError: the record cannot be asked, or its gold answer cannot be used.
        ConfigError: it names an unknown reward.
        RewardError: its reward raises, or returns something that is not a reward.
    """
    build_prompt(task, record, template)
    if all(frame.original_wh != _UNKNOWN_WH for frame in frames):
        check_gold(record, frames)
    text = gold_completion(task, record, frames, BoxFormat.ORIGINAL_PIXELS, template)
    attempt = Attempt(text, record, frames, task, template, completion_ids=byte_ids(text))
    return judge([attempt], BoxFormat.ORIGINAL_PIXELS, {ACCURACY: 1.0, FORMAT: 1.0})[0]


def _frames(record: Record, pictures: Pictures) -> tuple[ImageFrame, ...]:
    sizes = [pictures.sizes_wh.get(path, _UNKNOWN_WH) for path in record.images]
    return tuple(ImageFrame(original_wh=wh, input_wh=wh) for wh in sizes)


def _low_scores(record: Record, score: Score, task: Task[Any, Any]) -> list[Problem]:
    """Return a problem if the gold answer does not earn full marks, and an empty list if it does."""
    fractions = any(edge != round(edge) for box, _ in task.boxes(task.gold(record)) for edge in box)
    reward = record.reward or task.reward
    wanted = {ACCURACY: _ROUNDED_MARKS if fractions else _FULL_MARKS, FORMAT: _FULL_MARKS}
    if is_reward_model(reward):  # its scores have no full marks
        del wanted[ACCURACY]
    earned = {name: value for name, value in score.parts.items() if value is not None}
    low = [f"{name} {earned[name]:.3g}" for name, least in wanted.items() if earned.get(name, 1.0) < least]
    if not low:
        return []
    reason = f" ({score.reason})" if score.reason else ""
    message = (
        f'the gold answer {record.answer!r:.80} scores {", ".join(low)}{reason} by the reward "{reward}"; wanted 1'
    )
    return [Problem(record.source, message)]


def _left_out(record: Record, task: Task[Any, Any]) -> Problem:
    return Problem(record.source, f'the reward "{record.reward or task.reward}" returns None for its gold answer')


def _advice(
    source: DataSource, file: RecordFile, pictures: Pictures, records: Sequence[Record], refused: Sequence[Record]
) -> tuple[str | None, list[str]]:
    """Return advice about the unit of the boxes, and hints; of what is not known nothing is said.

    Args:
        records: all that could be read.
        refused: those that cannot be used.
    """
    task = get_task(source.task)
    hints = [hint] if source.task in TASKS and (hint := task_hint(records, refused, task)) else []
    if source.coordinates != "pixels" or not pictures.sizes_wh or isinstance(task, PlainTask):
        return None, hints
    boxes = _written_boxes(file, pictures)
    if any(not one.fits and one.fits_swapped for one in boxes):
        boxes = _with_orientation(file, pictures)
        if hint := orientation_hint(boxes):
            hints.append(hint)
            boxes = [replace(one, wh=one.wh[::-1]) if one.swaps else one for one in boxes]
    return guess_coordinates([(one.box, one.wh) for one in boxes]), hints


def _written_boxes(
    file: RecordFile, pictures: Pictures, swaps: Callable[[str], bool] = lambda path: False
) -> list[WrittenBox]:
    """The boxes of all rows as written, also of unusable ones, each with the size of its image."""
    boxes: list[WrittenBox] = []
    for record in (found for found in file.scan(None) if isinstance(found, Record)):
        if sizes_wh := [pictures.sizes_wh[path] for path in record.images if path in pictures.sizes_wh]:
            widths, heights = zip(*sizes_wh, strict=True)
            wh = (max(widths), max(heights))  # of several images, since a box may lie on any
            turned = len(record.images) == 1 and swaps(record.images[0])
            boxes += [WrittenBox(box, wh, turned) for box in boxes_in(record.answer)]
    return boxes


def _with_orientation(file: RecordFile, pictures: Pictures) -> list[WrittenBox]:
    """The same boxes, with the EXIF orientation of the images on this disk looked up."""

    @cache
    def swaps(path: str) -> bool:
        try:
            return not is_remote(path) and image_orientation(path) in SWAPS_SIDES
        except DataError:
            return False

    return _written_boxes(file, pictures, swaps)
