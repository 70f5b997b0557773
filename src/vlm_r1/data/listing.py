"""The files below a folder that somebody else's tool wrote."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".mpo", ".jp2", ".ppm")
"""Endings of the pictures that are read, in small letters."""


@dataclass(frozen=True)
class Listing:
    """Files below a folder.

    Attributes:
        root: the folder.
        files: their paths relative to it, with /, in the order of their names.
    """

    root: Path
    files: tuple[str, ...]

    def ending_in(self, *endings: str) -> list[str]:
        """The files with one of these endings, whatever their case."""
        return [file for file in self.files if file.lower().endswith(endings)]

    @cached_property
    def pictures(self) -> list[str]:
        """The pictures, by the endings of their names."""
        return self.ending_in(*PICTURES)


def files_below(root: Path) -> Iterator[str]:
    """Yield the files below a folder, relative to it and with /.

    Hidden files, and those of hidden folders and of macOS's archives, are left out. Links to folders are not followed.
    """
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not _is_hidden(name))
        inner = Path(folder).relative_to(root).as_posix()
        yield from (posixpath.normpath(f"{inner}/{name}") for name in files if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
