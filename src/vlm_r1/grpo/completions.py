"""The table of a step for the trackers: what was asked, what was answered, what it earned, and where its boxes lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from vlm_r1.data.access import Access
from vlm_r1.data.images import load_image
from vlm_r1.errors import DataError
from vlm_r1.questions.drawing import Mark, draw_marks
from vlm_r1.report.drawing import first_image, marks_of
from vlm_r1.report.excerpt import excerpt
from vlm_r1.training.steps import TrainingRun
from vlm_r1.training.tracking import Row
from vlm_r1.types import AnswerValue, Group, Rollout

MAX_GROUPS = 4
MAX_COMPLETIONS = 8
"""The first groups of a step, and the first completions of each, are sent."""

_LONGEST_TEXT = 2000  # characters
_LONGEST_SIDE_PX = 512


def log_completions(run: TrainingRun, groups: Sequence[Group]) -> None:
    """Send the table of the step that is about to end to the trackers, if it is due."""
    steps, step = run.config.training.log_completions_steps, run.learner.step + 1
    if run.tracking.trackers and steps and step % steps == 0 and groups:
        run.tracking.log_table("completions", list(completion_rows(groups, run.env.access)), step)


def completion_rows(groups: Sequence[Group], access: Access) -> Iterator[Row]:
    """Yield a row for each of the first completions of the first groups; each says of how many it is one.

    Args:
        groups: with scores and advantages, without pixels.
        access: where pictures may lie.
    """
    for index, group in enumerate(groups[:MAX_GROUPS]):
        picture = _first_picture(group, access)
        for number, rollout in enumerate(group.rollouts[:MAX_COMPLETIONS]):
            score = rollout.score
            yield {
                "group": f"{index + 1} of {len(groups)}",
                "completion": f"{number + 1} of {len(group.rollouts)}",
                "record": Path(group.record.source).name,
                "prompt": _short(group.encoded.text),
                "answer": _short(rollout.completion.text),
                "reward": score.reward,
                **{f"reward/{name}": value for name, value in score.parts.items()},
                "advantage": rollout.advantage,
                "picture": _with_boxes(picture, group, rollout) if isinstance(picture, Image.Image) else picture,
            }


def _first_picture(group: Group, access: Access) -> Image.Image | str | None:
    """Read the first picture of the question, once for all completions; return why not if it cannot be read."""
    record = group.record
    if not record.question_images:
        return None
    try:
        return load_image(record.images[first_image(record)], access)
    except DataError as error:
        return _short(str(error))


def _with_boxes(picture: Image.Image, group: Group, rollout: Rollout) -> Image.Image:
    """Draw gold boxes (green) and those of the answer (red) on a copy of a small size."""
    record = group.record
    first = first_image(record)
    gold = [Mark(box, label, 2) for box, label in _on(record.answer, first, len(record.images))]
    said = [Mark(box, label, 0) for box, label in _on(rollout.score.answer, first, len(record.images))]
    drawn = draw_marks(picture, [*gold, *said])
    drawn.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    return drawn


def _on(answer: AnswerValue, first: int, n_images: int) -> Iterator[tuple[tuple[float, float, float, float], str]]:
    for (box, image), label in marks_of(answer, first):
        if image % n_images == first:
            yield box, label


def _short(text: str) -> str:
    cut = excerpt(text, _LONGEST_TEXT)
    return f"{cut.head} … ({cut.left_out:,} characters left out) … {cut.tail}" if cut.left_out else cut.head
