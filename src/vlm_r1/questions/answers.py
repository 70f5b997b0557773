"""Questions about pictures become records, and what the model writes becomes answers: as in an evaluation."""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_r1.data.formats.media import check_marks
from vlm_r1.data.images import load_image
from vlm_r1.data.tokens import GROUNDING_TOKENS, control_tokens_in
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.questions.drawing import Mark, draw_marks
from vlm_r1.registry import quoted
from vlm_r1.report.drawing import as_text, marks_of
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.remote import RemoteModel
from vlm_r1.runtime.atomic import replacing
from vlm_r1.sampling import Sampler, SamplingParams
from vlm_r1.sampling.base import completion_seed
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.tasks import get_task
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Completion, EncodedPrompt, PlacedBox, Record

BATCH = 8
"""Questions that are answered at once: more are not much faster, and answers are shown as they come."""


@dataclass(frozen=True)
class Answer:
    """What a model said about pictures.

    Attributes:
        question: as it was given.
        task: the task that asked and read.
        images: paths of the pictures.
        image_sizes: (width, height) of each upright picture in pixels.
        text: what the model wrote.
        thought: the text between its thinking tags; None: it has no closed thought.
        answer: what was read, boxes and points in pixels of the upright pictures; None: nothing could be read.
        reason: why nothing could be read, e.g. "no_box"; None if something was.
        template: name of the template that asked.
        tokens: length of the text in tokens.
        stop_reason: "stop"; "length" if the text was cut off; "refused" if a server gave none on purpose.
        seconds: how long the model took, of a batch its share.
    """

    question: str
    task: str
    images: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]
    text: str
    thought: str | None
    answer: AnswerValue
    reason: str | None
    template: str
    tokens: int
    stop_reason: str
    seconds: float

    @property
    def marks(self) -> list[tuple[PlacedBox, str]]:
        """The boxes of the answer with their labels, in order; a point is a box without sides."""
        last = len(self.images) - 1
        return [
            (PlacedBox(box, last if at == -1 else at), label)
            for (box, at), label in marks_of(self.answer)
            if -1 <= at <= last
        ]

    @property
    def row(self) -> dict[str, Any]:
        """A line of `--json` (docs/ask.md)."""
        is_point = isinstance(self.answer, list) and len(self.answer) == 2
        points = [{"point": list(box[:2]), "image": at} for (box, at), _ in self.marks if is_point]
        boxes = [
            {"box": list(box), "label": label or None, "image": at} for (box, at), label in self.marks if not is_point
        ]
        sizes = [list(size) for size in self.image_sizes]
        own = {**vars(self), "images": list(self.images), "image_sizes": sizes, "seconds": round(self.seconds, 3)}
        return {**own, "boxes": boxes, "points": points}

    def picture(self, image: int = 0) -> Image.Image:
        """Return one of the pictures, upright, with the boxes of the answer.

        Raises:
            DataError: it cannot be read any more.
        """
        own = [Mark(box, label) for (box, at), label in self.marks if at == image]
        return draw_marks(load_image(self.images[image]), own)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png")
        return buffer.getvalue()

    def __str__(self) -> str:
        return as_text(self.answer) if self.reason is None else f"not read: {self.reason}"


def write_picture(path: str, answers: Sequence[Answer], file: Path) -> None:
    """Write a picture, upright, with the boxes of all answers about it; the answers to one question have one colour.

    Args:
        file: a new file, by whose ending it is written.

    Raises:
        DataError: the picture cannot be read any more.
        CheckpointError: the file cannot be written.
    """
    questions = list(dict.fromkeys(one.question for one in answers))
    marks: list[Mark] = []
    for one in answers:
        shown = one.question if len(questions) > 1 else ""
        colour = questions.index(one.question)
        marks += [Mark(box, label or shown, colour) for (box, at), label in one.marks if one.images[at] == path]
    picture = draw_marks(load_image(path), marks)
    with replacing(file) as temporary:
        picture.save(temporary, Image.registered_extensions()[file.suffix.lower()], quality=95)


def make_records(
    pictures: Sequence[Path],
    questions: Sequence[str],
    *,
    task: str,
    system: str | None = None,
    template: str | None = None,
) -> list[Record]:
    """Make a record of each question about each picture, picture by picture.

    A question with `<image>` marks is asked once, about as many pictures as it has marks: all that were given.

    Args:
        template: name of the template; None: the env's.

    Raises:
        ConfigError: marks and pictures do not match, or there is no such task.
        DataError: a question has a mark that is not read.
    """
    get_task(task)
    paths = [str(path.absolute()) for path in pictures]
    asked: list[tuple[tuple[str, ...], str]] = []
    for question in questions:
        check_marks(question, f"the question {quoted(question)}")
        if (marks := question.count(IMAGE_TOKEN)) not in (0, len(paths)):
            raise ConfigError(
                f"the question {quoted(question)} has {marks} {IMAGE_TOKEN} marks for {len(paths)} pictures; wanted "
                "one for each, or none: then it is asked about each picture by itself"
            )
    together = [question for question in questions if IMAGE_TOKEN in question]
    alone = [question for question in questions if IMAGE_TOKEN not in question]
    asked += [((path,), IMAGE_TOKEN + question) for path in paths for question in alone]
    asked += [(tuple(paths), question) for question in together]
    return [
        Record(
            str(n),
            task,
            problem,
            images,
            None,
            source=quoted(problem.replace(IMAGE_TOKEN, "")),
            template=template,
            system=system,
        )
        for n, (images, problem) in enumerate(asked, start=1)
    ]


def check_tokens(records: Sequence[Record], env: Env) -> None:
    """Refuse a question that holds a control token of the model, as training does; DataError."""
    tokens = {*env.adapter.own_tokens()} - GROUNDING_TOKENS - {""}
    for record in records:
        for place, token in control_tokens_in(record, tokens):
            raise DataError(f"{place} {record.source} holds the model's own token {token}: write it otherwise")


def answer(
    records: Sequence[Record], env: Env, sampler: Sampler, params: SamplingParams, *, seed: int = 0, batch: int = BATCH
) -> Iterator[Answer]:
    """Answer records, `batch` at once; yields the answers in order.

    Raises:
        DataError, ModelError: a picture cannot be read, or a question cannot be asked.
    """
    for start in range(0, len(records), batch):
        some = records[start : start + batch]
        began = time.perf_counter()
        encoded = [env.encode(record) for record in some]
        seeds = [[completion_seed(seed, 0, record, 0)] for record in some]
        drawn = sampler.sample(encoded, seeds, params)
        seconds = (time.perf_counter() - began) / len(some)
        for record, prompt, (completion,) in zip(some, encoded, drawn, strict=True):
            yield read(env, record, prompt, completion, seconds)


def answer_remote(records: Sequence[Record], remote: RemoteModel) -> Iterator[Answer]:
    """Answer records by a model on a server; yields the answers in order.

    Raises:
        EndpointError: a question has no answer.
        DataError, ModelError: as `answer`.
    """
    began, next_place, waiting = time.perf_counter(), 0, dict[int, Answer]()
    for place, prompt, (completion,) in remote.completions(records, range(len(records))):
        now = time.perf_counter()
        waiting[place] = read(remote.env, records[place], prompt, completion, now - began)
        began = now
        while next_place in waiting:
            yield waiting.pop(next_place)
            next_place += 1


def answer_streaming(
    record: Record, env: Env, sampler: HFSampler, params: SamplingParams, *, seed: int = 0
) -> Generator[str, None, Answer]:
    """Answer one record: yields its text so far, and returns the answer."""
    began = time.perf_counter()
    prompt = env.encode(record)
    completion = yield from sampler.stream(prompt, completion_seed(seed, 0, record, 0), params)
    return read(env, record, prompt, completion, time.perf_counter() - began)


def read(env: Env, record: Record, prompt: EncodedPrompt, completion: Completion, seconds: float) -> Answer:
    """Read a completion: what an evaluation reads from it, without a gold answer."""
    tagged, value, reason = env.read(record, prompt, completion)
    return Answer(
        question=record.problem.removeprefix(IMAGE_TOKEN) if len(record.images) == 1 else record.problem,
        task=record.task,
        images=record.images,
        image_sizes=tuple(frame.original_wh for frame in prompt.frames),
        text=completion.text,
        thought=tagged.thought,
        answer=None if reason else get_task(record.task).answer_json(value),
        reason=reason,
        template=prompt.template,
        tokens=completion.length,
        stop_reason=completion.stop_reason.value,
        seconds=seconds,
    )
