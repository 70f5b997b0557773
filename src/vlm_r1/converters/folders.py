"""The files below a folder, and which picture a name in an annotation file means, whoever wrote it."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vlm_r1.converters.coco_layout import one_form
from vlm_r1.converters.pictures import NOT_FOUND, Unusable
from vlm_r1.data.listing import PICTURES, Listing, files_below
from vlm_r1.errors import DataError

SEVERAL_FILES = "several pictures have its name: name the folder by --images"

_OF_PICTURES = ("images", "JPEGImages", "Images", "imgs", "img")
_OF_ANNOTATIONS = ("labels", "Annotations", "annotations", "Annotation", "xmls", "xml", "json", "labelme")


def plain_path(text: str) -> tuple[str, ...]:
    """The folders and the file of a path that Windows or another system wrote, without drive and leading dots.

    >>> plain_path("C:\\\\data\\\\boats\\\\a.jpg"), plain_path("../train/./images"), plain_path("./a b.jpg")
    (('data', 'boats', 'a.jpg'), ('train', 'images'), ('a b.jpg',))
    """
    parts = [part for part in posixpath.normpath(text.strip().replace("\\", "/")).split("/") if part not in ("", ".")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        del parts[0]
    while parts and parts[0] == "..":
        del parts[0]
    return tuple(parts)


@dataclass(frozen=True)
class Folder(Listing):
    """All files below a folder, and the pictures that other files mean."""

    @classmethod
    def read(cls, root: Path) -> Folder:
        """Look at everything below a folder; see `files_below`.

        Raises:
            DataError: there is no such folder.
        """
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        return cls(root, tuple(sorted(files_below(root))))

    def find(self, text: str, base: str = "") -> str | None:
        """The file or folder that a path means, relative to the root; None: there is none below it.

        The path counts from `base`, then from the root, then with more and more leading folders cut off, since another
        machine may have had the files elsewhere.
        """
        parts = plain_path(text)
        if not parts:
            return base if one_form(text) == "." else None
        tried = [posixpath.normpath("/".join((base, *parts))), *("/".join(parts[n:]) for n in range(len(parts)))]
        if text.startswith(".."):
            tried.insert(0, posixpath.normpath(posixpath.join(base, text.replace("\\", "/"))))
        return next((self._spelled[key] for key in map(one_form, tried) if key in self._spelled), None)

    def picture_of(self, annotations: str, named: str) -> str | Unusable:
        """The picture of an annotation file that describes one.

        Args:
            annotations: the annotation file, relative to the root.
            named: the path of the picture in it; it may be of another machine, or without an ending.

        Returns:
            The picture with the given name or with the annotation file's own name, which lies beside that file, or in
            the folder beside its own that is called `images` or the like; or the only picture with that name.
        """
        folder, stem = posixpath.dirname(annotations), posixpath.splitext(posixpath.basename(annotations))[0]
        parts = plain_path(named)
        written = "/".join(parts[-1:])
        if ".." in named or len(parts) > 1:  # a relative path counts from the annotation file
            direct = one_form(posixpath.join(folder, named.replace("\\", "/")))
            if direct in self._by_path:
                return self._by_path[direct]
        names = [name for name in (written, stem) if name]
        for place in [folder, *_mirrored(folder, _OF_ANNOTATIONS, _OF_PICTURES)]:
            for name in names:
                if found := self._in(place, name):
                    return found
        for name in names:
            found = self._by_name.get(one_form(name)) or self._by_stem.get(one_form(name)) or []
            if len(found) == 1:
                return found[0]
            if found:
                return Unusable(SEVERAL_FILES, f"{annotations}: {found[0]}, {found[1]}")
        return Unusable(NOT_FOUND, f"{annotations}: {written or stem}")

    def _in(self, folder: str, name: str) -> str | None:
        path = one_form(posixpath.join(folder, name))
        found = self._by_path.get(path)
        return found or next((self._by_path[p] for e in PICTURES if (p := path + e) in self._by_path), None)

    @cached_property
    def _spelled(self) -> dict[str, str]:
        """One form of each file and folder → as it is spelled on the disk."""
        folders = {parent for file in self.files for parent in _parents(file)}
        return {one_form(path): path for path in (*folders, *self.files)}

    @cached_property
    def _by_path(self) -> dict[str, str]:
        return {one_form(path): path for path in self.pictures} | {
            one_form(f"{posixpath.splitext(path)[0]}{posixpath.splitext(path)[1].lower()}"): path
            for path in self.pictures
        }

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.pictures:
            found[one_form(posixpath.basename(path))].append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.pictures:
            found[one_form(posixpath.splitext(posixpath.basename(path))[0])].append(path)
        return found


def labels_of(picture: str) -> Iterator[str]:
    """The paths that the label file of a picture may have: in `labels` beside its last `images`, or beside itself.

    >>> list(labels_of("train/images/a.jpg"))
    ['train/labels/a.txt', 'train/images/a.txt']
    """
    stem = posixpath.splitext(picture)[0]
    for place in _mirrored(posixpath.dirname(stem), ("images",), ("labels",)):
        yield posixpath.join(place, f"{posixpath.basename(stem)}.txt")
    yield f"{stem}.txt"


def _mirrored(folder: str, names: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """The folder with its last part of one of these names replaced by each of the other names."""
    parts = folder.split("/")
    at = next((i for i in reversed(range(len(parts))) if parts[i] in names), None)
    if at is not None:
        for other in others:
            yield "/".join([*parts[:at], other, *parts[at + 1 :]])


def _parents(file: str) -> Iterator[str]:
    while file := posixpath.dirname(file):
        yield file


def in_order(names: Sequence[str]) -> list[str]:
    """Names without repetition, composed (NFC), in the order of their first occurrence."""
    return list(dict.fromkeys(unicodedata.normalize("NFC", name) for name in names))
