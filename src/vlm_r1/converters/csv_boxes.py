"""Tables with one box a row (Roboflow, TensorFlow, Open Images, Google AutoML, your own) → detection."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_r1.config.words import BoxNumbers
from vlm_r1.converters.base import Conversion, Converter, Job, option
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.createml import beside, files_below
from vlm_r1.converters.files import numbers_in, read_plain, size_in
from vlm_r1.converters.labelled import Labelled, LabelledOptions, Labels, labelled_conversion, split_name
from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import DISORDER, NO_NUMBERS, box_of
from vlm_r1.data.coordinates import to_corners
from vlm_r1.data.listing import PICTURES
from vlm_r1.errors import ConfigError, DataError, brief
from vlm_r1.types import Box

NO_NAME = "without a file name"
OTHER_SIZES = "rows of one picture give it several sizes"

_HEADERS: Mapping[str, tuple[str, ...]] = {
    "image": (
        "filename",
        "file_name",
        "image",
        "image_path",
        "imagepath",
        "path",
        "file",
        "img",
        "imageid",
        "image_id",
    ),
    "label": (
        "class",
        "label",
        "class_name",
        "classname",
        "labelname",
        "label_name",
        "category",
        "category_name",
        "name",
    ),
    "x1": ("xmin", "x_min", "x1", "left"),
    "y1": ("ymin", "y_min", "y1", "top"),
    "x2": ("xmax", "x_max", "x2", "right"),
    "y2": ("ymax", "y_max", "y2", "bottom"),
    "cx": ("cx", "x_center", "xcenter", "x_centre", "center_x"),
    "cy": ("cy", "y_center", "ycenter", "y_centre", "center_y"),
    "x": ("x", "bbox_x", "x_left", "left"),
    "y": ("y", "bbox_y", "y_top", "top"),
    "w": ("w", "bbox_width", "box_width", "bbox_w", "width"),
    "h": ("h", "bbox_height", "box_height", "bbox_h", "height"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
    "split": ("split", "set", "subset"),
    "crowd": ("isgroupof", "iscrowd", "is_crowd"),
}
"""What a column can hold → the names that it usually has, in small letters."""

_KINDS: Mapping[BoxNumbers, tuple[str, str, str, str]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "cxcywh": ("cx", "cy", "w", "h"),
    "xywh": ("x", "y", "w", "h"),
}

_AUTOML = {"split": 0, "image": 1, "label": 2, "x1": 3, "y1": 4, "x2": 7, "y2": 8}
_AUTOML_SETS = ("TRAIN", "VALIDATE", "VALIDATION", "TEST", "UNASSIGNED")
"""Google AutoML's tables have no header; a row begins with the name of its split."""

_SIZES = {"pixels": 1.0, "norm_1": 1.0, "norm_1000": 1000.0}


@dataclass(frozen=True)
class CsvOptions(LabelledOptions):
    """How a table is to be read."""

    columns: str | None = option(
        None, "columns of your own, e.g. image=file,label=class,x1=xmin,…, by name, or by number if there is no header"
    )
    coordinates: str | None = option(
        None,
        "unit of the boxes (default: pixels; norm_1 for Open Images and AutoML)",
        ("pixels", "norm_1", "norm_1000"),
    )
    label_names: str | None = option(
        None, "a table without header that gives each label its name, as Open Images has it"
    )


@dataclass(frozen=True)
class _Table:
    """A table that was opened.

    Attributes:
        path: the file.
        inner: its folder, relative to the source.
        columns: what a column holds → its number, from 0.
        kind: meaning of the four numbers of a box.
        coordinates: their unit.
        rows: number of its line, and the cells of a row.
    """

    path: Path
    inner: str
    columns: Mapping[str, int]
    kind: BoxNumbers
    coordinates: str
    rows: Sequence[tuple[int, list[str]]]


def convert(job: Job, options: CsvOptions) -> Conversion:
    """Convert a table, or all tables below a folder, each with its pictures beside it.

    Raises:
        DataError: no table, no columns of boxes in it, or the pictures were not found.
        ConfigError: --columns cannot be read.
    """
    tables = [_table(path, inner, options) for inner, path in files_below(job.source, ".csv", "")]
    names = _label_names(Path(options.label_names).expanduser()) if options.label_names else {}
    pictures: list[Labelled] = []
    for table in tables:
        pictures += _pictures(job, table, names)
        _check_unit(table, pictures, options)
    root = job.source if job.source.is_dir() else job.source.parent
    return labelled_conversion(job, options, Labels(pictures, [root, root / "images", root.parent / "images"]))


def _table(path: Path, inner: str, options: CsvOptions) -> _Table:
    text = read_plain(path)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}") from error
    if not rows:
        raise DataError(f"{path}: the table is empty")
    head = [cell.strip() for cell in rows[0][1]]
    is_automl = options.columns is None and head[0].upper() in _AUTOML_SETS and len(head) > 8
    given = _given(options.columns) if options.columns else {}
    by_number = bool(given) and all(name.isdecimal() for name in given.values()) and not set(given.values()) & set(head)
    if is_automl:
        columns: dict[str, int] = dict(_AUTOML)
    elif by_number:
        columns = {role: int(number) - 1 for role, number in given.items()}
    else:
        columns, rows = _named(head, given, path), rows[1:]
    kind: BoxNumbers | None = next((kind for kind, roles in _KINDS.items() if columns.keys() >= {*roles}), None)
    if kind is None or not {"image", "label"} <= columns.keys():
        lacking = [role for role in ("image", "label") if role not in columns] or ["the four numbers of a box"]
        raise DataError(
            f"{path}: no column is known to hold {lacking[0]}; its first row is {brief(', '.join(head))}. Say which "
            "is which by --columns, e.g. image=file,label=class,x1=left,y1=top,x2=right,y2=bottom (or x,y,w,h or "
            "cx,cy,w,h), by number if there is no header"
        )
    is_open_images = {"ImageID", "XMin"} <= {*head}
    unit = options.coordinates or ("norm_1" if is_automl or is_open_images else "pixels")
    return _Table(path, inner, columns, kind, unit, rows)


def _given(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    given = {role.strip(): column.strip() for role, _, column in pairs}
    unknown = [role for role in given if role not in _HEADERS or not given[role]]
    if unknown or len(given) < len(pairs):
        raise ConfigError(
            f"--columns {text}: wanted pairs such as image=file,label=class,x1=xmin, each once; known: "
            f"{', '.join(_HEADERS)}"
        )
    return given


def _named(head: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, int]:
    """The columns by their names in the header: those given, then those that usually have such a name."""
    missing = [name for name in given.values() if name not in head]
    if missing:
        raise DataError(f"{path}: --columns names {missing[0]!r}, and the header has {brief(', '.join(head))}")
    columns = {role: head.index(name) for role, name in given.items()}
    small = [name.lower() for name in head]
    for role, usual in _HEADERS.items():
        at = next((small.index(name) for name in usual if name in small), None)
        if role not in columns and at is not None and at not in [columns[r] for r in given]:
            columns[role] = at
    is_corners = {*_KINDS["xyxy"]} <= columns.keys()
    for box_side, image_side in (("w", "width"), ("h", "height")):  # "width" is of the picture beside corners alone
        if columns.get(box_side, -1) == columns.get(image_side, -2):
            del columns[box_side if is_corners else image_side]
    return columns


def _pictures(job: Job, table: _Table, names: Mapping[str, str]) -> list[Labelled]:
    """The pictures of a table, in the order of their first rows."""
    objects: dict[str, list[CocoObject]] = {}
    sizes: dict[str, set[tuple[int, int]]] = {}
    splits: dict[str, dict[str, None]] = {}
    for number, cells in job.track(table.rows):
        row = {role: cells[at].strip() if at < len(cells) else "" for role, at in table.columns.items()}
        name = row["image"]
        if not name:
            job.tally.drop("row", NO_NAME, example=f"{table.path.name}:{number}")
            continue
        objects.setdefault(name, []).extend(_object(row, table, names))
        sizes.setdefault(name, set()).update(filter(None, [size_in(row.get("width"), row.get("height"))]))
        splits.setdefault(name, {}).update({split_name(row["split"]): None} if row.get("split") else {})
    made: list[Labelled] = []
    for name, found in objects.items():
        wh = next(iter(sizes[name])) if len(sizes[name]) == 1 else None
        unusable = Unusable(OTHER_SIZES, name) if len(sizes[name]) > 1 else None
        one = beside(table.inner, name, found, wh=wh, unusable=unusable, fractions=table.coordinates != "pixels")
        if splits[name]:
            one = replace(one, splits=tuple(splits[name]))
        made.append(replace(one, other_names=(*one.other_names, *_more_names(one.name))))
    return made


def _more_names(name: str) -> Iterator[str]:
    """The last part of a URL; a name without an ending with the usual ones, since Open Images has none."""
    if "://" in name:
        yield name.rpartition("/")[2]
    elif not name.lower().endswith(PICTURES):
        yield from (f"{name}{ending}" for ending in PICTURES[:3])


def _object(row: Mapping[str, str], table: _Table, names: Mapping[str, str]) -> list[CocoObject]:
    """The object of a row; none if it has neither a label nor numbers, which marks an empty picture."""
    cells = [row[role] for role in _KINDS[table.kind]]
    if not any(cells) and not row["label"]:
        return []
    crowd = row.get("crowd", "") in ("1", "1.0", "true", "True")
    return [CocoObject(names.get(row["label"], row["label"]), _box(cells, table), crowd)]


def _box(cells: list[str], table: _Table) -> Box | Unusable:
    numbers = numbers_in(cells, 4)
    if numbers is None:
        return Unusable(NO_NUMBERS)
    if table.kind != "xyxy" and min(numbers[2:]) < 0:
        return Unusable(DISORDER)
    size = _SIZES[table.coordinates]
    return box_of([edge / size for edge in to_corners(numbers, table.kind)])


def _check_unit(table: _Table, pictures: Sequence[Labelled], options: CsvOptions) -> None:
    """Refuse pixels that are all fractions."""
    boxes = [item.box for one in pictures for item in one.objects if not isinstance(item.box, Unusable)]
    if options.coordinates is None and table.coordinates == "pixels" and boxes and max(map(max, boxes)) <= 1:
        raise DataError(f"{table.path}: no number of its boxes is above 1. Say --coordinates norm_1, or pixels")


def _label_names(path: Path) -> dict[str, str]:
    try:
        rows = [row for row in csv.reader(read_plain(path).splitlines()) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}") from error
    if any(len(row) < 2 for row in rows):
        raise DataError(f"{path}: wanted two columns, a label and its name (--label-names)")
    return {row[0].strip(): row[1].strip() for row in rows}


CSV = Converter(
    name="csv",
    summary="a table with one box a row → detection",
    layout="<split>/_annotations.csv with the pictures beside it, or one table with usual or given columns",
    options=CsvOptions,
    convert=convert,
    gives_sizes=False,
    example="boxes.csv --images photos/ --columns image=file,label=class,x1=left,y1=top,x2=right,y2=bottom",
)
