"""The base of all converters: output lines, the tally of kept and dropped things, and the atomic writer."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vlm_r1.errors import DataError, brief
from vlm_r1.runtime.atomic import sync
from vlm_r1.types import IMAGE_TOKEN, AnswerValue

T = TypeVar("T")

SAME_ID = "record whose id another one has too"

NOTE = "note"
"""First half of the key of a note's example in `Tally.examples`, where a dropped thing has its kind."""


@dataclass(frozen=True)
class Line:
    """One line of the output (docs/data.md), before it is JSON.

    Attributes:
        id: unique and stable: it comes from the annotations, never from the order of a run, e.g. "refcoco-unc-1234".
        image: relative to the image root, e.g. "COCO_train2014_000000581857.jpg"; or a URL.
        question: the bare question, without `<image>`, e.g. "the man on the left"; tasks wrap it.
        answer: the gold answer of the task, boxes xyxy in pixels of the upright image.
        extra: further keys, e.g. {"size": [640, 480]}.
    """

    id: str
    image: str
    question: str
    answer: AnswerValue
    extra: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])

    def text(self) -> str:
        """The JSON object, without the end of the line."""
        turns = [
            {"from": "human", "value": f"{IMAGE_TOKEN}{self.question}"},
            {"from": "gpt", "value": self.answer},
        ]
        row = {"id": self.id, "image": self.image, "conversations": turns, **self.extra}
        return json.dumps(row, ensure_ascii=False, allow_nan=False)


@dataclass
class Tally:
    """Counts of the things that a conversion kept, dropped and changed.

    Attributes:
        kept: things that are in the output, e.g. {"record": 10, "box": 34}.
        dropped: things that are not in the output, with the reason, e.g. {("box", "crowd region"): 2}.
        notes: changes and warnings, e.g. {"box clipped to its image": 1}.
        examples: the first example of each dropped kind and of each note, if it has one. Keys are (what, reason) or
            (NOTE, note).
    """

    kept: Counter[str] = field(default_factory=Counter[str])
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    notes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def drop(self, what: str, reason: str, n: int = 1, example: str = "") -> None:
        """Count n things that are not in the output; n = 0 adds no entry."""
        if n:
            self.dropped[what, reason] += n
            self._show((what, reason), example)

    def note(self, text: str, n: int = 1, example: str = "") -> None:
        """Count n things that differ from the source; n = 0 adds no entry."""
        if n:
            self.notes[text] += n
            self._show((NOTE, text), example)

    def _show(self, key: tuple[str, str], example: str) -> None:
        if example and key not in self.examples:
            self.examples[key] = brief(example)


class Track(Protocol):
    """Passes items on, and may show how many are left."""

    def __call__(self, items: Sequence[T], /) -> Iterable[T]: ...


@dataclass(frozen=True)
class Job:
    """The input of a converter.

    Attributes:
        source: the folder or file to read.
        out: the JSONL file that will be written; embedded images are written next to it.
        images: folder of the images; None: the converter looks where the published layout has them.
        verify: whether sizes in the annotations are compared with those of the image files.
        tally: filled by the converter.
        track: wraps the items of the source to show progress.
    """

    source: Path
    out: Path
    images: Path | None = None
    verify: bool = False
    tally: Tally = field(default_factory=Tally)
    track: Track = iter


@dataclass(frozen=True)
class Conversion:
    """The result of a converter that has read the annotations of its source.

    Attributes:
        task: name of the task that asks and judges the lines, e.g. "ovd".
        image_root: folder to which the lines' image paths are relative.
        lines: an iterator; each line is made when it is written.
    """

    task: str
    image_root: Path
    lines: Iterable[Line]


@dataclass(frozen=True)
class Converter:
    """A published format and the function that reads it.

    Attributes:
        name: its name on the command line, e.g. "refcoco".
        summary: a few words about the output, for `--help`.
        layout: a few words about the files that the source must hold, for `--help`.
        options: frozen dataclass whose fields, made by `option`, become the options of the command.
        convert: reads a source; raises DataError if it is not in this format.
        gives_sizes: whether the annotations give sizes of the images that are compared by --verify-images alone.
        example: source and options of a command, for `--help`.
    """

    name: str
    summary: str
    layout: str
    options: type[Any]
    convert: Callable[[Job, Any], Conversion]
    gives_sizes: bool = True
    example: str = "SOURCE"


def option(default: T, help: str, choices: Sequence[str] | None = None) -> T:
    """A field of a converter's options, with the text of its `--help`.

    Fields are str, int, float, bool, `tuple[int, int]` (written 1:3) or one of these or None.
    """
    return field(default=default, metadata={"help": help, "choices": choices})


def run_conversion(converter: Converter, job: Job, options: Any) -> Conversion:
    """Convert a source into `job.out`, which is replaced at the end; if anything fails, it is left as it was.

    Raises:
        DataError: the source is not in the format, nothing could be kept, or the file cannot be written.
    """
    conversion = converter.convert(job, options)
    job.tally.kept["record"] = _write(job.out, conversion.lines, job.tally)
    return conversion


def _write(path: Path, lines: Iterable[Line], tally: Tally) -> int:
    """Write the lines to a temporary file that becomes `path`; returns their number."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link in a stranger's folder may lead to any file
        n = _write_lines(temporary, lines, tally)
        if n == 0:
            raise DataError(f"{path}: not written: no record is left. Dropped: {_reasons(tally)}")
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: {error.strerror or error}. Wanted a readable source and a writable --out"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return n


def _write_lines(path: Path, lines: Iterable[Line], tally: Tally) -> int:
    n, ids = 0, set[str]()
    with open(path, "wb") as file:
        for line in lines:
            file.write(_encoded(line))
            tally.note(SAME_ID, line.id in ids, line.id)
            ids.add(line.id)
            n += 1
    return n


def _encoded(line: Line) -> bytes:
    try:
        return f"{line.text()}\n".encode()
    except ValueError as error:  # NaN, half a surrogate pair
        raise DataError(
            f"record {line.id}: cannot be written as JSON: {error}. Correct its texts and numbers"
        ) from error


def _reasons(tally: Tally) -> str:
    """The reasons in one text, e.g. "5 × image: not found (e.g. a.jpg)", the commonest first."""
    reasons: list[str] = []
    for (what, reason), n in tally.dropped.most_common():
        example = tally.examples.get((what, reason))
        reasons.append(f"{n} × {what}: {reason}" + (f" (e.g. {example})" if example else ""))
    return ", ".join(reasons) or "nothing"


def clean_text(text: str) -> str:
    """Return a text with single spaces, without `<image>` and without lone surrogates, which a data line may not hold.

    >>> clean_text("  the man\\n in <image> blue ")
    'the man in blue'
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.replace(IMAGE_TOKEN, " ").split())
