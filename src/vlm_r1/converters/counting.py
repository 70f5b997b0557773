"""CountBench and PixMo-Count → counting: a question and a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from vlm_r1.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.converters.files import integer_in, location, numbers_in, read_json, shown, take
from vlm_r1.converters.pictures import NOT_FOUND, UNREADABLE, Images, Unusable
from vlm_r1.data.hub import store_image
from vlm_r1.data.images import image_formats
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.files import read_bytes, read_text
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import AnswerValue

NO_IMAGE = "no image: its address was dead when the file was made"
REMOTE = "image kept as a URL"
_SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
QUESTION = "How many {label} are there in the image?"


@dataclass(frozen=True)
class CountbenchOptions:
    """The file of the questions."""

    questions: str | None = option(
        None, "CountBenchQA's countbench_paired_questions.json; needed unless the file has a column `question`"
    )


@dataclass(frozen=True)
class PixmoCountOptions:
    """PixMo-Count has no options: all records have the same question."""


def convert_countbench(job: Job, options: CountbenchOptions) -> Conversion:
    """Convert a Parquet or JSON file with `number`, `text`, and `image` (embedded) or `image_url`: one record a row.

    The caption in `text` gives the number away, so the question comes from a column `question` or from CountBenchQA.

    Raises:
        DataError: the source has another layout, or there are no questions.
        ConfigError: --images is given, but the images are embedded.
    """
    rows = _rows(job.source)
    questions = _questions(Path(options.questions).expanduser(), len(rows)) if options.questions else None
    if questions is None and rows and "question" not in rows[0]:
        raise DataError(
            f"{job.source}: no column `question`, and the captions name the number. Give CountBenchQA's questions by "
            "--questions"
        )

    def line(i: int, row: Any) -> Line | Unusable:
        question = questions[i] if questions else take(row, "question", str, job.source, i)
        number = _count(row, "number", job.source, i)
        caption = row.get("text")
        extra: dict[str, AnswerValue] = {"caption": clean_text(caption)} if isinstance(caption, str) else {}
        return _line(job, i, row, clean_text(question), number, extra)

    return Conversion("counting", _root(job, rows), _lines(job, rows, line))


def convert_pixmo_count(job: Job, options: PixmoCountOptions) -> Conversion:
    """Convert a Parquet or JSON file with `label`, `count`, `points` and `image` or `image_url`: one record a row.

    Raises:
        DataError: the source has another layout.
        ConfigError: --images is given, but the images are embedded.
    """
    rows = _rows(job.source)

    def line(i: int, row: Any) -> Line | Unusable:
        label = clean_text(take(row, "label", str, job.source, i))
        count = _count(row, "count", job.source, i)
        points = _points(row.get("points"))
        return _line(job, i, row, QUESTION.format(label=label), count, {"points": points} if points else {})

    return Conversion("counting", _root(job, rows), _lines(job, rows, line))


def _lines(
    job: Job, rows: list[dict[str, Any]], line: Callable[[int, dict[str, Any]], Line | Unusable]
) -> Iterator[Line]:
    """Yield the records of all usable rows; the others are counted."""
    for i, row in enumerate(job.track(rows)):
        try:
            made = line(i, row)
        except DataError as error:
            made = Unusable("cannot be read", str(error))
        if isinstance(made, Unusable):
            job.tally.drop("row", made.reason, example=made.example or location(job.source, i))
        else:
            yield made


def _count(row: Any, key: str, *where: object) -> int:
    """Read a count, which a table may hold as an integer, a float or a text."""
    count = integer_in(row.get(key))
    if count is None:
        return take(row, key, int, *where)  # raises an error that shows the value
    if count < 0:
        raise DataError(f"{location(*where, key)}: got {count}, wanted a number of things")
    return count


def _root(job: Job, rows: list[dict[str, Any]]) -> Path:
    """The folder of the images; embedded ones are written next to the output."""
    embedded = any("image" in row and not isinstance(row["image"], str) for row in rows)
    if embedded and job.images:
        raise ConfigError(
            f"--images has no effect: the images of {job.source} are embedded, and are written next to --out"
        )
    return job.images or job.out.parent


def _line(job: Job, index: int, row: Any, question: str, number: int, extra: dict[str, AnswerValue]) -> Line | Unusable:
    """Make the record of a row, unless it has no image."""
    image = _image(job, index, row)
    if isinstance(image, Unusable):
        return image
    return Line(f"{job.source.stem}-{index}", image, question, number, extra)


def _image(job: Job, index: int, row: Any) -> str | Unusable:
    """The path of a row's image: written next to the output if embedded, else found in --images, else its URL."""
    if "image" in row and not isinstance(row["image"], str):
        return extract(job, row["image"])
    if isinstance(row.get("image"), str):
        found = Images(job.images or job.out.parent).find(row["image"], job.tally)
        return found or Unusable(NOT_FOUND, f"{(job.images or job.out.parent) / row['image']}")
    url = take(row, "image_url", str, job.source, index)
    if job.images is None:
        job.tally.note(REMOTE, example=url)
        return url
    names = [name for name in (row.get("image_sha256"), url.partition("?")[0].rpartition("/")[2]) if name]
    images = Images(job.images)
    found = (images.find(f"{name}{suffix}", job.tally) for name in names for suffix in _SUFFIXES)
    return next(filter(None, found), Unusable(NOT_FOUND, url))


def extract(job: Job, embedded: Any) -> str | Unusable:
    """Write the embedded bytes as they are to `<output>_images/5f/5f….jpg`, named by their content.

    So an older output keeps its images, also where this conversion fails or is killed.
    """
    data = embedded.get("bytes") if is_object(embedded) else None
    if not isinstance(data, bytes):
        return Unusable(NO_IMAGE)
    try:
        with Image.open(BytesIO(data), formats=image_formats()) as image:
            suffix = {"JPEG": "jpg"}.get(image.format or "", (image.format or "img").lower())
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return Unusable(UNREADABLE)
    stored = store_image(data, f".{suffix}", job.out.parent / f"{job.out.stem}_images")
    return Path(stored).relative_to(job.out.parent).as_posix()


def _rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet, JSON Lines or JSON file."""
    if path.suffix == ".parquet":
        return _parquet(path)
    rows = _json_lines(path) if path.suffix == ".jsonl" else read_json(path)
    if not is_list(rows) or not all(is_object(row) for row in rows):
        raise DataError(f"{path}: got {shown(rows)}, wanted a list of objects")
    return rows


def _json_lines(path: Path) -> list[Any]:
    try:
        lines = read_text(path, "utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the file: {getattr(error, 'strerror', error)}") from error
    return [_json_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _json_line(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}. Wanted one JSON object on the line") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file: Any = BytesIO(read_bytes(path))
        return parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot read the Parquet file: {error}") from error


def _questions(path: Path, n_rows: int) -> list[str]:
    """One question for each row, in order."""
    rows = read_json(path)
    if not is_list(rows) or len(rows) != n_rows:
        got = f"{len(rows)} questions" if is_list(rows) else shown(rows)
        raise DataError(f"{path}: got {got}, wanted a list of one question for each of the {n_rows} rows")
    return [take(row, "question", str, path, i) for i, row in enumerate(rows)]


def _points(value: Any) -> list[AnswerValue]:
    """Return [[x, y], …] in pixels from a list of {"x", "y"} or from {"x": […], "y": […]}, without what is no point."""
    if is_object(value):
        xs, ys = value.get("x"), value.get("y")
        value = [{"x": x, "y": y} for x, y in zip(xs, ys, strict=False)] if is_list(xs) and is_list(ys) else None
    found = [numbers_in([p.get("x"), p.get("y")], 2) for p in value if is_object(p)] if is_list(value) else []
    return [[round(x, 2) for x in point] for point in found if point]


COUNTBENCH = Converter(
    name="countbench",
    summary="CountBench (with CountBenchQA's questions) → counting",
    layout="train-*.parquet with embedded images, and countbench_paired_questions.json",
    options=CountbenchOptions,
    convert=convert_countbench,
    gives_sizes=False,
)

PIXMO_COUNT = Converter(
    name="pixmo-count",
    summary="PixMo-Count → counting",
    layout="train-*.parquet; images by URL, or in --images under their SHA-256 or their own name",
    options=PixmoCountOptions,
    convert=convert_pixmo_count,
    gives_sizes=False,
)
