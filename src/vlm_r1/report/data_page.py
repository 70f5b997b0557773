"""A page with some records of a data file and their gold boxes, to find mistakes that statistics miss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlm_r1.config.schema import DataSource
from vlm_r1.curation.data_check import DataCheck
from vlm_r1.report.build import page_template
from vlm_r1.report.drawing import LABEL_LIMIT, DrawnBox, DrawnImage, as_text, draw, gold_boxes, shown_images
from vlm_r1.report.excerpt import Excerpt, context_of, excerpt, visible
from vlm_r1.report.images import EXACT_SIDE_PX, data_url
from vlm_r1.runtime.atomic import replacing
from vlm_r1.types import Record


@dataclass(frozen=True)
class ShownRecord:
    """One record with its images and their gold boxes, but for those that are too many to be drawn."""

    record_id: str
    source: str
    problem: str
    context: Excerpt | None
    gold: Excerpt
    images: tuple[DrawnImage, ...]
    boxes_left_out: int


def write_data_page(path: Path, source: DataSource, check: DataCheck, n_records: int) -> None:
    """Write the page with `n_records` good records, or all if there are fewer, spread evenly over the file.

    It is one file, which needs no network.

    Raises:
        CheckpointError: the page cannot be written.
    """
    records = [record for record, _ in check.judged]
    n_shown = min(n_records, len(records))
    page = page_template("data.html.jinja").render(
        name=visible(Path(source.path).name),
        subtitle=f"{len(records):,} good records · task {source.task} · format {check.format}",
        asked=excerpt(check.first[1], LABEL_LIMIT),
        findings=[visible(text) for text in _findings(check)],
        records=[_show(records[i * len(records) // n_shown], check) for i in range(n_shown)],
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _findings(check: DataCheck) -> list[str]:
    counted = {
        "rows cannot be used": check.problems,
        "gold answers do not earn full marks": check.low,
        **check.warnings,
    }
    found = [f"{len(problems)} {what}, e.g. {problems[0]}" for what, problems in counted.items() if problems]
    return [
        *found,
        *filter(None, [check.coordinates]),
        *check.hints,
        *check.duplicates,
        *check.leakage.values(),
        *check.notes,
    ]


def _show(record: Record, check: DataCheck) -> ShownRecord:
    boxes = gold_boxes(record)
    drawn = list(draw(boxes, len(record.images)))
    return ShownRecord(
        record_id=visible(record.id[:LABEL_LIMIT]),
        source=visible(record.source[-LABEL_LIMIT:]),
        problem=visible(" ".join(record.problem.replace("<image>", " ")[:LABEL_LIMIT].split())),
        context=context_of(record.context),
        gold=excerpt(as_text(record.answer), LABEL_LIMIT),
        images=tuple(_show_image(record, place, drawn, check) for place in shown_images(len(record.images), drawn)),
        boxes_left_out=len(boxes) - len(drawn),
    )


def _show_image(record: Record, place: int, drawn: list[tuple[int, DrawnBox]], check: DataCheck) -> DrawnImage:
    path = record.images[place]
    width, height = check.pictures.sizes_wh[path]
    url = data_url(path, 480, check.access)
    boxes = tuple(box for image, box in drawn if image == place)
    return DrawnImage(url, width, height, max(width, height) <= EXACT_SIDE_PX, boxes)
