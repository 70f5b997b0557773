"""`vlm_r1.show`: an answer, or the answers of a group, drawn on their picture."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageDraw, ImageFont

from vlm_r1.data.access import NOWHERE
from vlm_r1.data.images import load_image
from vlm_r1.errors import DataError
from vlm_r1.evaluation.runner import sample_rows
from vlm_r1.evaluation.samples import Sample
from vlm_r1.parsing.messages import is_context
from vlm_r1.report.drawing import MAX_BOXES, as_text, marks_of
from vlm_r1.report.excerpt import visible
from vlm_r1.runtime.rollout_log import RolloutRow
from vlm_r1.types import IMAGE_TOKEN, Group, PlacedBox

TRUTH = "#1a9850"
ANSWERS = ("#d73027", "#4575b4", "#f46d43", "#762a83", "#8c510a", "#01665e", "#c51b7d", "#35978f")
_LEAST_SIDE_PX, _MOST_SIDE_PX = 320, 1280
_POINT_PX = 4
_FAR_PX = 1e6
_SHOWN_CHARS = 2000  # of a text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """What `show` draws: notebooks display it, with the texts below.

    Attributes:
        image: the record's pictures side by side, gold boxes green, answers in other colours; None: there are none.
        lines: the question, the truth and each answer, for people.
        colours: of the lines; "" for the default.
    """

    image: Image.Image | None
    lines: tuple[str, ...]
    colours: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, by its ending.

        Raises:
            DataError: there is no picture.
        """
        if self.image is None:
            raise DataError("this record has no picture")
        self.image.save(path)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        parts = [
            f'<pre style="margin:0;white-space:pre-wrap;color:{colour or "inherit"}">{html.escape(line)}</pre>'
            for line, colour in zip(self.lines, self.colours, strict=True)
        ]
        if self.image is not None:
            buffer = io.BytesIO()
            self.image.save(buffer, "png")
            data = base64.b64encode(buffer.getvalue()).decode()
            parts.insert(0, f'<img src="data:image/png;base64,{data}" style="max-width:100%">')
        return "\n".join(parts)


def show(answers: Any) -> Picture:
    """Draw an answer, or all answers of a group, with the truth.

    Args:
        answers: a `Sample`, a row of `LoadedRun.samples` or `LoadedRun.rollouts` (or a frame or list of such rows, of
            one record), the list that `LoadedRun.group` returns, or a `Group` of a running program.

    Returns:
        A picture, which a notebook displays and `save` writes to a file.

    Raises:
        DataError: this is none of these, or the rows belong to several records.
    """
    rows = list(_rows(answers))
    if not rows:
        raise DataError("nothing to show: wanted at least one answer")
    names = {str(row["record_id"]) for row in rows}
    if len(names) > 1:
        raise DataError(f"the answers belong to {len(names)} records, {', '.join(sorted(names)[:3])}, …; wanted one")
    first, n = rows[0], len(rows)
    colours = [ANSWERS[place % len(ANSWERS)] for place in range(n)]
    context = _context(first)
    earlier = sum(message["content"].count(IMAGE_TOKEN) for message in context)
    marks = [(TRUTH, mark) for mark in marks_of(_json(first["gold"]), earlier)]
    for row, colour in zip(rows, colours, strict=True):
        marks += [(colour, mark) for mark in marks_of(_json(row["answer"]), earlier)]
    before = [f"{message['role']}: {message['content']}" for message in context]
    lines = [*before, str(first["problem"]), f"truth: {as_text(_json(first['gold']))}", *map(_line, rows)]
    return Picture(
        _drawn(list(first["images"]), marks),
        tuple(visible(line[:_SHOWN_CHARS]) for line in lines),
        (*[""] * (len(before) + 1), TRUTH, *colours),
    )


def _rows(answers: Any) -> Iterator[Row]:
    if isinstance(answers, Sample):
        yield answers.row
    elif isinstance(answers, RolloutRow):
        yield asdict(answers)
    elif isinstance(answers, Group):
        yield from sample_rows(answers)
    elif hasattr(answers, "to_dict"):  # of pandas: a row, or a frame of rows
        found = answers.to_dict("records") if hasattr(answers, "columns") else answers.to_dict()
        yield from found if isinstance(found, list) else [found]
    elif isinstance(answers, Mapping):
        yield answers
    elif isinstance(answers, Sequence) and not isinstance(answers, str):
        for one in cast("Sequence[object]", answers):
            yield from _rows(one)
    else:
        raise DataError(f"got {type(answers).__name__}; wanted a sample, a row of samples or rollouts, or a group")


def _json(value: Any) -> Any:
    """Return a value of a frame as JSON has it: NaN, which pandas puts in the place of None, is None."""
    return None if isinstance(value, float) and value != value else value


def _context(row: Row) -> list[dict[str, str]]:
    """Return the messages before the question; a row of an older file, or a frame's gap, has none."""
    found: Any = row.get("context")
    messages: list[Any] = [*cast("Sequence[object]", found)] if isinstance(found, list | tuple) else []
    return messages if is_context(messages) else []


def _line(row: Row) -> str:
    answer, reason, reward = _json(row["answer"]), _json(row.get("reason")), _json(row.get("reward"))
    read = f"not read: {reason}" if answer is None else as_text(answer)
    earned = "" if reward is None else f"  reward {reward:.3g}"
    return f"answer: {read}{earned}\n{row['text']}"


def _drawn(paths: Sequence[str], marks: Sequence[tuple[str, tuple[PlacedBox, str]]]) -> Image.Image | None:
    """Draw the pictures side by side with their boxes; pictures that cannot be read are grey."""
    images = [_load(path) for path in paths]
    if not images:
        return None
    scales = [_scale(image) for image in images]
    sizes = [
        (round(image.width * scale), round(image.height * scale)) for image, scale in zip(images, scales, strict=True)
    ]
    canvas = Image.new("RGB", (sum(width for width, _ in sizes), max(height for _, height in sizes)), "white")
    lefts = [sum(width for width, _ in sizes[:place]) for place in range(len(sizes))]
    for image, size, left in zip(images, sizes, lefts, strict=True):
        kind = Image.Resampling.NEAREST if size[0] > image.width else Image.Resampling.LANCZOS
        canvas.paste(image.resize(size, kind), (left, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for colour, ((box, place), label) in marks[:MAX_BOXES]:
        scale, left = scales[place % len(images)], lefts[place % len(images)]
        x1, y1, x2, y2 = (min(max(side, -_FAR_PX), _FAR_PX) * scale for side in box)
        x1, x2 = x1 + left, x2 + left
        if x1 == x2 and y1 == y2:
            draw.ellipse((x1 - _POINT_PX, y1 - _POINT_PX, x2 + _POINT_PX, y2 + _POINT_PX), fill=colour)
        else:
            draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=2)
        if label:
            draw.text((min(x1, x2) + 3, min(y1, y2) + 1), visible(label[:60]), fill=colour, font=font)
    return canvas


def _load(path: str) -> Image.Image:
    try:
        return load_image(path, NOWHERE).convert("RGB")
    except DataError:
        return Image.new("RGB", (_LEAST_SIDE_PX, _LEAST_SIDE_PX), "lightgrey")


def _scale(image: Image.Image) -> float:
    longest = max(image.size)
    if longest < _LEAST_SIDE_PX:
        return float(-(-_LEAST_SIDE_PX // longest))
    return min(1.0, _MOST_SIDE_PX / longest)
