"""Data of another tool where a data file was wanted: one sentence says what it is, and the command that converts it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatch
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from vlm_r1.data.annotations import NEGATIVES, Found, is_yolo_text, names_of_classes, of_rows, recognise_file
from vlm_r1.data.listing import Listing, files_below

_DATA_FILES = (".jsonl", ".parquet")
_MAX_FILES = 200_000
"""Number of files of a folder that are listed."""

_MAX_READ, _MAX_READ_BYTES = 2_000, 1 << 28
"""Most files of one picture each that are read to count their names, and most bytes; of more nothing is counted."""

_TRIED = 20
"""Number of files of a folder that are tried to recognise it."""

_SHOWN_FILES = 3
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt")
"""Files of YOLO's folders that hold one name of a class a line."""

_OF_ANNOTATIONS = ("annotations", "annotation", "xmls", "xml", "json", "labels", "labelme")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_ONE_EACH = {"labelme": ".json", "voc": ".xml", "reasonseg": ".json"}
"""Converters of formats with one file for each picture, and the ending of their files. They read a folder."""


def sentence_about(path: str) -> str | None:
    """Say what a path is, if it is data of another tool or a folder, and which command makes a data file of it.

    >>> sentence_about("no/such/file") is None
    True
    """
    place = Path(path)
    if not place.is_dir():
        found = recognise_file(place)
        return _sentence(_whole(found)) if found else None
    folder = _listed(place)
    if files := folder.ending_in(*_DATA_FILES):
        listed = ", ".join(str(place / name) for name in files[:_SHOWN_FILES])
        more = f" and {len(files) - _SHOWN_FILES:,} more" if len(files) > _SHOWN_FILES else ""
        return f"this is a folder, wanted a data file. Name one of those in it: {listed}{more}"
    if found := recognise_folder(folder):
        return _sentence(found)
    if folder.pictures:
        return (
            f"this is a folder of {_counted(len(folder.pictures), 'picture')} without labels in a known form, so there "
            "is nothing to learn from. Label them, with CVAT, Label Studio or labelme for example, and see vlm-r1 data "
            "convert --help"
        )
    return None


def sentence_about_table(path: str, row: dict[str, Any], n_rows: int) -> str | None:
    """The same for a table, which is not read again.

    Args:
        path: the table.
        row: its first row.
        n_rows: how many it has.
    """
    found = of_rows(Path(path), [row])
    return _sentence(replace(found, n_pictures=n_rows)) if found else None


def _listed(root: Path) -> Listing:
    return Listing(root, tuple(sorted(islice(files_below(root), _MAX_FILES))))


def recognise_folder(folder: Listing) -> Found | None:
    """Return what a folder of another tool is; None if it is of no tool that is known."""
    looks = (_published, _exported, _yolo, _of_one_file)
    return next(filter(None, (look(folder) for look in looks)), None)


def _first(folder: Listing, names: Iterable[str]) -> Found | None:
    """What the first of these files is that is known, of those that are tried."""
    return next(filter(None, (recognise_file(folder.root / name) for name in islice(names, _TRIED))), None)


def _published(folder: Listing) -> Found | None:
    """RefCOCO and D³, which are known by the names of their files."""
    return _first(folder, folder.ending_in(".p", ".pkl"))


def _exported(folder: Listing) -> Found | None:
    """Roboflow's export: a COCO file in the folder of each split."""
    exports = {name.split("/")[-2] for name in folder.files if name.endswith("/_annotations.coco.json")}
    split = next((name for name in ("train", "valid", "test") if name in exports), None)
    if split is None:
        return None
    options = ("--split", split, *NEGATIVES)
    return Found("COCO instances in folders", "odinw", folder.root, len(folder.pictures), options=options)


def _yolo(folder: Listing) -> Found | None:
    """Ultralytics' folder, with or without its data.yaml."""
    if found := _first(folder, folder.ending_in(".yaml", ".yml")):
        return _whole(found)
    lists = [name for name in folder.ending_in(*_NAME_FILES) if name in _NAME_FILES]
    labels = (name for name in folder.ending_in(".txt") if name not in lists)
    if not folder.pictures or not any(is_yolo_text(folder.root / name) for name in islice(labels, _TRIED)):
        return None
    names = names_of_classes(folder.root / lists[0]) if lists else None
    what = "YOLO" if lists else "YOLO without the names of its classes (write them into classes.txt, one a line)"
    return _of_pictures(Found(what, "yolo", folder.root, None, names, NEGATIVES), folder)


def _of_one_file(folder: Listing) -> Found | None:
    """A folder with a file of another tool; that of the training split counts first."""
    names = folder.ending_in(".json", ".xml", ".csv", ".tsv")
    names.sort(key=lambda name: ("train" not in name.lower(), name.count("/"), name))
    found = _first(folder, names)
    if found is None or found.converter not in _ONE_EACH:
        return found
    return _of_all(found, folder)


def _whole(found: Found) -> Found:
    """What one file is → what it belongs to, if it does not stand for itself."""
    if found.converter == "yolo":
        root = found.source if found.source.is_dir() else found.source.parent
        return _of_pictures(found, _listed(root))
    if found.converter not in _ONE_EACH:
        return found
    folder = found.source
    if found.converter != "reasonseg" and folder.name.lower() in _OF_ANNOTATIONS:
        folder = folder.parent
    return _of_all(found, _listed(folder))


def _of_all(found: Found, folder: Listing) -> Found:
    """What a file of one picture is → what all such files of the folder are."""
    files = [folder.root / name for name in folder.ending_in(_ONE_EACH[found.converter])]
    if found.converter == "reasonseg":
        return replace(found, n_pictures=sum(file.parent == found.source for file in files))
    found = replace(found, source=folder.root, n_pictures=None, names=None, options=NEGATIVES)
    if len(files) <= _MAX_READ and sum(file.stat().st_size for file in files) <= _MAX_READ_BYTES:
        read = [one for one in map(recognise_file, files) if one and one.converter == found.converter]
        names = frozenset[str]().union(*(one.names or () for one in read))
        found = replace(found, n_pictures=len(read), names=names)
    return replace(found, options=(*_split(folder), *found.options))


def _of_pictures(found: Found, folder: Listing) -> Found:
    """A format that says nothing of its pictures: those of the folder are counted."""
    options = (*_split(folder), *found.options)
    return replace(found, n_pictures=len(folder.pictures) or None, options=options)


def _split(folder: Listing) -> tuple[str, ...]:
    """The option that chooses a split, if the pictures lie in folders of several."""
    sets = [name for name in folder.files if fnmatch(name, "ImageSets/Main/*.txt") and Path(name).stem in _SPLITS]
    found = {Path(name).stem for name in sets} or {
        next((_SPLITS[part] for part in name.lower().split("/")[:-1] if part in _SPLITS), "")
        for name in folder.pictures
    }
    split = next((name for name in ("train", "val", "test") if name in found), None)
    return ("--split", split) if split and len(found) > 1 else ()


def _sentence(found: Found) -> str:
    """Say what it is, how much it has, and the command."""
    counts = [_counted(found.n_pictures, "picture")] if found.n_pictures is not None else []
    counts += [_counted(len(found.names), "name")] if found.names is not None else []
    several = found.names is None or len(found.names) > 1
    options = found.options if several else [word for word in found.options if word not in NEGATIVES]
    words = ["vlm-r1", "data", "convert", found.converter, str(found.source), "--out", str(_out(found.source))]
    counted = f" ({', '.join(counts)})" if counts else ""
    return f"this is {found.what}{counted}: {shlex.join([*words, *options])}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _out(source: Path) -> Path:
    """A new file beside the source, or here if nothing can be written there."""
    whole = source.resolve()
    stem, folder = (whole.name, whole.parent) if source.is_dir() else (source.stem, source.parent)
    folder = source.parent if source.name not in ("", "..") else folder
    if not os.access(folder, os.W_OK):
        folder = Path()
    ends = chain([""], (f"-{n}" for n in count(2)))
    return next(path for end in ends if not (path := folder / f"{stem or 'data'}{end}.jsonl").exists())
