"""What the pages of one evaluation and of a comparison share: their rows, their one script, and where pictures lie."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.config.secrets import masked, masked_arguments, masked_tree
from vlm_r1.data.image_paths import ImagePaths, image_paths
from vlm_r1.evaluation.samples import Sample
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.report.answer_cards import THUMBNAIL_SIDE_PX, RowWriter, rows_within, shown_place
from vlm_r1.report.answers import taken_in_turn
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import Excerpt, excerpt, visible
from vlm_r1.report.images import FETCHING_S, checked_data_url
from vlm_r1.report.pages import page_template, script_hash
from vlm_r1.report.read import lookup
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import writable

MAX_THUMBNAILS = 120  # rows with pictures
MAX_LABELS = 1500  # labels that one can choose among; if there are more, there is no such choice
APPENDIX_LIMIT = 20_000  # characters of a protocol and of a provenance that are shown
ROWS_READ = 20_000
ROWS_BYTES = 8_000_000  # of rows without their pictures; what does not fit is left out, which the page says


@dataclass(frozen=True)
class Shown:
    """The records of a page.

    Attributes:
        rows: what `answers.js` reads.
        n_left_out: records without a row.
        kept: place → side → answer, of the records that are shown as cards.
    """

    rows: Mapping[str, Any]
    n_left_out: int
    kept: Mapping[int, Mapping[str, Sample]]


def images_beside(results: Iterable[Path], root: str = "", allowed: Allowed = NOTHING) -> ImagePaths:
    """Return the folders of results, or of their runs, as the only ones that pictures may be read from.

    The samples name pictures by absolute paths, and they may come from a stranger.

    Args:
        root: another folder, or the address, of pictures; "": none.
        allowed: what else the user allows.
    """
    own = [result.resolve().parent for result in results]
    runs = [folder.parent for folder in own if folder.name == "eval" and (folder.parent / "config.yaml").is_file()]
    first, *others = dict.fromkeys([*filter(None, [root]), *map(str, [*runs, *own])])
    folders = [*allowed.allowed_local_media_path, *others]
    source = DataSource(path="samples.jsonl", image_root=first)
    return image_paths(source, allowed.model_copy(update={"allowed_local_media_path": folders}))


def bounded(images: ImagePaths) -> ImagePaths:
    """Return the same with a limit of the time for all remote pictures of a page."""
    until = min(images.access.until, time.monotonic() + FETCHING_S)
    return replace(images, access=replace(images.access, until=until))


def show(
    answers: Iterable[Mapping[str, Sample]],
    groups: Mapping[str, Sequence[int]],
    as_cards: Set[int],
    pictured: Set[str],
    *,
    main: str,
    images: ImagePaths,
) -> Shown:
    """Read the answers once and keep what the page shows of them.

    Args:
        answers: for each record side → answer, in the order of the file; a side is whose answer it is, e.g. "A".
        groups: heading → places of records in that order, those to show first coming first.
        as_cards: places of the records that are shown as cards.
        pictured: headings of the groups whose first rows have pictures.
        main: the main metric.
        images: where pictures may lie.
    """
    first, then = ([places for name, places in groups.items() if (name in pictured) == is_first] for is_first in (1, 0))
    listed = [*taken_in_turn(first, ROWS_READ), *taken_in_turn(then, ROWS_READ)][:ROWS_READ]
    with_picture = set(taken_in_turn(first, MAX_THUMBNAILS))
    heading = {place: name for name, places in groups.items() for place in places}
    writer = RowWriter(main, {}, {name: index for index, name in enumerate(groups)}, {}, MAX_LABELS)
    wanted, rows, kept = set(listed), dict[int, dict[str, Any]](), dict[int, Mapping[str, Sample]]()
    for place, samples in enumerate(answers):
        if place in as_cards:
            kept[place] = samples
        if place in wanted:
            url = _thumbnail(next(iter(samples.values())), images) if place in with_picture else None
            rows[place] = writer.row(heading[place], samples, url)
    shown = rows_within((rows[place] for place in listed), ROWS_BYTES)
    totals = [[name, len(places)] for name, places in groups.items()]
    closed = [name for name in groups if name not in pictured]
    data = {"groups": totals, "closed": closed, "sides": list(writer.sides), "labels": writer.choices(), "rows": shown}
    return Shown(data, sum(map(len, groups.values())) - len(shown), kept)


def write_page(template: str, path: Path, **values: Any) -> Path:
    """Atomically write a page of this kind.

    Raises:
        CheckpointError: it cannot be written.
    """
    page = page_template(template).render(script_hash=script_hash("answers.js"), **values)
    with replacing(path) as temporary:
        temporary.write_text(writable(page), encoding="utf-8")
    return path


def command_of(tree: Mapping[str, Any]) -> str:
    """Return the command that made a result, to give again; "" if it is not known."""
    command: Any = lookup(tree.get("provenance"), "command")
    if is_list(command):
        return shlex.join(masked_arguments(map(str, command)))
    return masked(command) if isinstance(command, str) else ""


def provenance_of(tree: Mapping[str, Any]) -> Excerpt | None:
    """Return where a result comes from as YAML, without the command, which `command_of` has; None: it is not known."""
    found: Any = tree.get("provenance")
    return appendix({key: value for key, value in found.items() if key != "command"}) if is_object(found) else None


def appendix(tree: object) -> Excerpt | None:
    """Return an object as YAML, with secrets masked; None if it is none."""
    if not is_object(tree):
        return None
    return excerpt(yaml.safe_dump(masked_tree(tree), sort_keys=False, allow_unicode=True, width=100), APPENDIX_LIMIT)


def short_text(value: object) -> str:
    """Return a text, shortened; "" for other values."""
    return visible(value[:LABEL_LIMIT]) if isinstance(value, str) else ""


def _thumbnail(sample: Sample, images: ImagePaths) -> str | None:
    if not sample.images:
        return None
    return checked_data_url(sample.images[shown_place(sample)], THUMBNAIL_SIDE_PX, images)[0]
