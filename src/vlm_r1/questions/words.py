"""Which words of a command line are pictures, and which are questions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vlm_r1.data.images import image_size
from vlm_r1.errors import ConfigError
from vlm_r1.registry import quoted

SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".avif",
        ".jp2",
    )
)
"""Endings of the names of pictures, by which those in a folder are found."""

_PATH_LIKE = re.compile(r"(~|\.{0,2})/|\S*[/\\]\S*$|[a-zA-Z]:[/\\]")
"""A beginning of a path, or a single word with a slash. A sentence may hold one: "the red and/or blue circle"."""

_SHOWN_NAMES = 3


class Words(NamedTuple):
    """What was given: pictures in order, questions in order, and lines about files of folders that were left out."""

    pictures: tuple[Path, ...]
    questions: tuple[str, ...]
    notes: tuple[str, ...] = ()


def sort_words(words: Sequence[str], questions: Sequence[str] = ()) -> Words:
    """Tell pictures and questions apart: what exists is a picture or a folder of pictures, all else a question.

    What looks like a path and does not exist is an error, and never becomes a question.

    Args:
        words: files, folders and questions, in any order.
        questions: more questions, which are not looked for on the disk.

    Raises:
        ConfigError: there is no picture or no question, a path does not exist, or a folder has no pictures.
        DataError: a file is no picture, or one that is too large; its pixels are not read yet.
    """
    pictures: list[Path] = []
    asked, notes = list[str](), list[str]()
    for word in words:
        path = Path(word)
        if _is_dir(path):
            found, note = _pictures_of(path)
            pictures += found
            notes += note
        elif _exists(path):
            pictures.append(path)
        elif looks_like_a_path(word):
            raise ConfigError(_missing(word))
        else:
            asked.append(word)
    asked += questions
    if not pictures:
        given = f", only the question {quoted(asked[0])}" if asked else ""
        raise ConfigError(f"no picture was given{given}: name a file or a folder of pictures")
    if not asked:
        raise ConfigError('no question was given, only pictures: add one in quotes, e.g. "the red circle"')
    if empty := [question for question in asked if not question.strip()]:
        raise ConfigError(f"the question {empty[0]!r} is empty: say what is asked")
    for path in pictures:
        image_size(path)
    return Words(tuple(pictures), tuple(asked), tuple(notes))


def looks_like_a_path(word: str) -> bool:
    """Return whether a word names a file rather than asks something.

    >>> [looks_like_a_path(word) for word in ("a.jpg", "my cat.JPG", "in/here", "./x y", "https://x.org/a")]
    [True, True, True, True, True]
    >>> [looks_like_a_path(word) for word in ("the red circle", "red and/or blue?", "cat", "Is it 3.5?")]
    [False, False, False, False]
    """
    return Path(word).suffix.lower() in SUFFIXES or _PATH_LIKE.match(word) is not None


def _pictures_of(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the pictures of a folder by name, and a line about what else lies there."""
    there = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    found = [entry for entry in there if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
    others = [entry.name for entry in there if entry not in set(found)]
    if not found:
        raise ConfigError(
            f"{folder}: holds no pictures ({len(others)} other files and folders); wanted files such as a.jpg or b.png"
        )
    if not others:
        return found, []
    names = ", ".join(others[:_SHOWN_NAMES]) + ", …" * (len(others) > _SHOWN_NAMES)
    return found, [f"{folder}: {len(found)} pictures; left out, since they are none: {len(others)} ({names})"]


def _missing(word: str) -> str:
    if "://" in word:
        return f"{word}: pictures are not fetched: download it, and name the file"
    near = Path(word).parent
    where = "its folder does not exist either" if not _exists(near) else f"there is no such file or folder in {near}"
    return f'{word}: picture not found: {where}. If it is a question, say --question "{word}"'


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or a NUL: a question
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def new_files(out: Path, pictures: Iterable[Path]) -> dict[Path, Path]:
    """Return for each picture the file that its boxes are drawn to: `out`, or a file of its name in the folder `out`.

    Pictures of one name from several folders get numbers: a.jpg, a-2.jpg.

    Raises:
        ConfigError: such a file is there already, `out` is a file for several pictures, or has another ending.
    """
    different = list(dict.fromkeys(pictures))
    if out.suffix and not _is_dir(out):
        if out.suffix.lower() not in WRITTEN:
            raise ConfigError(f"--out {out}: pictures are written as {', '.join(WRITTEN)}; a folder has no ending")
        if len(different) > 1:
            raise ConfigError(f"--out {out}: is one file for {len(different)} pictures: name a folder")
        files = {different[0]: out}
    else:
        files = dict[Path, Path]()
        for picture in different:
            files[picture] = _free(out, picture, set(files.values()))
    if there := [file for file in files.values() if _exists(file)]:
        more = f", and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(f"--out {there[0]}: is there already{more}: name another, or remove it")
    return files


WRITTEN = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of pictures that are written."""


def _free(folder: Path, picture: Path, taken: set[Path]) -> Path:
    suffix = picture.suffix.lower() if picture.suffix.lower() in WRITTEN else ".png"
    candidate, number = folder / f"{picture.stem}{suffix}", 1
    while candidate in taken:
        number += 1
        candidate = folder / f"{picture.stem}-{number}{suffix}"
    return candidate
