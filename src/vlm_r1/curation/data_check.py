"""A data file as training would meet it: every row read, every image decoded, every gold answer judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.config.schema import DataSource
from vlm_r1.curation.data_warnings import file_notes, relabelled, row_warnings
from vlm_r1.curation.statistics import find_duplicates, find_leakage, guess_coordinates
from vlm_r1.data.images import GREATEST_GREY, image_hash, load_image
from vlm_r1.data.records import RecordFile
from vlm_r1.data.rows import Problem
from vlm_r1.errors import ConfigError, DataError, RewardError
from vlm_r1.parsing.gold_boxes import boxes_in
from vlm_r1.tasks import get_task
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.judge import ACCURACY, Attempt, byte_ids, check_gold, check_rewards, judge
from vlm_r1.tasks.plain import PlainTask
from vlm_r1.tasks.templates import Template, build_prompt, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record, Score

_FULL_MARKS = 1 - 1e-6
_ROUNDED_MARKS = 0.5
"""Least accuracy of a gold box with fractions of a pixel, which a model can only write rounded."""

_UNKNOWN_WH = (1, 1)
"""Stands for the size of an image that is not looked at: boxes in original pixels convert without it."""

FORMAT = "format"


@dataclass
class Pictures:
    """What is known of the images of a file: upright size and hash of the pixels, by path.

    `greys`: greatest value of those of 16 bits.
    """

    sizes_wh: dict[str, tuple[int, int]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    greys: dict[str, int] = field(default_factory=dict)

    def measure(self, path: str) -> tuple[int, int]:
        """Decode an image whole, since a header may promise more than the file holds."""
        image = load_image(path)
        self.sizes_wh[path], self.hashes[path] = image.size, image_hash(image)
        if GREATEST_GREY in image.info:
            self.greys[path] = image.info[GREATEST_GREY]
        return image.size


@dataclass(frozen=True)
class DataCheck:
    """What was found.

    Attributes:
        format: name of the format that the rows were read in.
        judged: records that can be used, with the score of their gold answer.
        pictures: their images; empty if none was looked at.
        problems: rows that cannot be used.
        low: records whose gold answer does not earn full marks.
        left_out: records that their own reward leaves out, by None.
        coordinates: what the boxes look like, if not like pixels.
        duplicates: sentences about records that occur twice.
        leakage: sentences about pictures shared with other files, by their name.
        warnings: what is doubtful in rows that can be used, by kind.
        notes: sentences about the file as a whole.
        first: where the first record stands, and its question as it will be asked; empty if there is none.
    """

    format: str
    judged: list[tuple[Record, Score]]
    pictures: Pictures
    problems: list[Problem]
    low: list[Problem]
    coordinates: str | None
    duplicates: list[str]
    leakage: dict[str, str]
    warnings: dict[str, list[Problem]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    first: tuple[str, str] = ("", "")
    left_out: list[Problem] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether every row can be learnt from."""
        all_left_out = bool(self.left_out) and len(self.left_out) == len(self.judged)
        return not (self.problems or self.low or self.coordinates or all_left_out)


def check_data(
    source: DataSource,
    template: Template,
    *,
    images: bool,
    against: Iterable[DataSource] = (),
    progress: Callable[[Iterator[Any], int, str], Iterable[Any]] = lambda found, total, name: found,
) -> DataCheck:
    """Read a file row by row; judge each gold answer by the functions that judge in training.

    Args:
        images: decode all image files.
        against: files that should share no picture with this one, e.g. the test set.
        progress: is given what is iterated, its length and a name, for a progress bar.

    Raises:
        ConfigError: unknown format.
        DataError: the file cannot be read at all, or one of `against` cannot.
        RewardError: the reward fails on every gold answer.
    """
    task = get_task(source.task)
    try:
        file = RecordFile(source)
    except DataError as error:
        problem = Problem(source.path, str(error))
        return DataCheck(source.format, [], Pictures(), [problem], [], None, [], {})
    pictures = Pictures()
    scanned = progress(file.scan(pictures.measure if images else None), len(file), source.path)
    judged, problems = _judge_all(scanned, pictures, task, template)
    records = [record for record, _ in judged]
    leakage = {}
    for other in against:
        other_pictures, other_file = Pictures(), RecordFile(other)
        scanned = progress(other_file.scan(other_pictures.measure), len(other_file), other.path)
        others = [found for found in scanned if isinstance(found, Record)]
        if sentence := find_leakage(records, pictures.hashes, others, other_pictures.hashes):
            leakage[other.path] = sentence
    return DataCheck(
        format=file.format,
        judged=judged,
        pictures=pictures,
        problems=problems,
        low=[
            problem
            for record, score in judged
            for problem in (*_disagreement(record, score, task), *_relabelled(record, pictures, task, template))
        ],
        coordinates=_guess(source, file, pictures),
        duplicates=find_duplicates(records, pictures.hashes),
        leakage=leakage,
        left_out=[_left_out(record, task) for record, score in judged if score.parts[ACCURACY] is None],
        warnings=_warnings(records, task, template),
        notes=file_notes(records, task, template, pictures.greys),
        first=(records[0].source, build_prompt(task, records[0], template).text) if records else ("", ""),
    )


def _warnings(records: Sequence[Record], task: Task[Any, Any], template: Template) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for record in records:
        for kind, message in row_warnings(record, task, template):
            found.setdefault(kind, []).append(Problem(record.source, message))
    return found


def _relabelled(record: Record, pictures: Pictures, task: Task[Any, Any], template: Template) -> list[Problem]:
    message = relabelled(record, task, template, _frames(record, pictures))
    return [Problem(record.source, message)] if message else []


def _judge_all(
    scanned: Iterable[Record | Problem], pictures: Pictures, task: Task[Any, Any], template: Template
) -> tuple[list[tuple[Record, Score]], list[Problem]]:
    """The records with the score of their gold answer, and what cannot be used.

    Raises:
        RewardError: not one gold answer could be judged, because its reward fails: not the data is wrong.
        ConfigError: a reward takes a column that no line has.
    """
    judged: list[tuple[Record, Score]] = []
    problems: list[Problem] = []
    failed: list[tuple[Record, RewardError]] = []
    for found in scanned:
        if isinstance(found, Problem):
            problems.append(found)
            continue
        try:
            judged.append((found, judge_gold(found, _frames(found, pictures), task, template)))
        except (DataError, ConfigError, RewardError) as error:
            problems.append(Problem(found.source, str(error).removeprefix(f"{found.source}: ")))
            failed += [(found, error)] if isinstance(error, RewardError) else []
    check_rewards({ACCURACY: 1.0}, [record for record, _ in (*judged, *failed)])
    if failed and not judged:
        raise failed[0][1]
    return judged, problems


def judge_gold(record: Record, frames: tuple[ImageFrame, ...], task: Task[Any, Any], template: Template) -> Score:
    """The score of the completion that a perfect model would write.

    No tokenizer is loaded, so rewards that take token ids are handed one for each byte of the text.

    Raises:
        DataError: the record cannot be asked, or its gold answer not be used.
        ConfigError: it names an unknown reward.
        RewardError: its reward raises, or returns what is none.
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


def _disagreement(record: Record, score: Score, task: Task[Any, Any]) -> list[Problem]:
    """What is wrong if the gold answer does not earn full marks; nothing if it does."""
    fractions = any(edge != round(edge) for box in task.boxes(task.gold(record)) for edge in box)
    wanted = {ACCURACY: _ROUNDED_MARKS if fractions else _FULL_MARKS, FORMAT: _FULL_MARKS}
    earned = {name: part for name, part in score.parts.items() if part is not None}
    low = [f"{name} {earned[name]:.3g}" for name, least in wanted.items() if earned.get(name, 1.0) < least]
    if not low:
        return []
    reason = f" ({score.reason})" if score.reason else ""
    reward = record.reward or task.reward
    message = (
        f'the gold answer {record.answer!r:.80} scores {", ".join(low)}{reason} by the reward "{reward}"; wanted 1'
    )
    return [Problem(record.source, message)]


def _left_out(record: Record, task: Task[Any, Any]) -> Problem:
    return Problem(record.source, f'the reward "{record.reward or task.reward}" returns None for its gold answer')


def _guess(source: DataSource, file: RecordFile, pictures: Pictures) -> str | None:
    """Look at the boxes as they are written, of rows that cannot be used too; not if their unit is stated."""
    if source.coordinates != "pixels" or not pictures.sizes_wh or isinstance(get_task(source.task), PlainTask):
        return None
    boxes = []
    for found in file.scan(None):
        if isinstance(found, Record) and found.images and found.images[0] in pictures.sizes_wh:
            wh = pictures.sizes_wh[found.images[0]]
            boxes += [(box, wh) for box in boxes_in(found.answer)]
    return guess_coordinates(boxes)
