"""What stands for pictures, sound and video in a row: keys and marks that are read, and those that are refused.

Nothing that stands for a picture is passed over: a key or mark that is known is read, and one that only looks like a
picture is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.types import IMAGE_TOKEN

PATH_KEYS = ("path", "url", "image", "image_url", "bytes")
"""Keys of an object under which a path, a URL or a data URI stands."""

_OWN = ("image", "images")
_IMAGE, _FOREIGN_KIND = "image", "foreign"
_WHAT = r"_?(?:path|file|url|uri|name|file_?name|list|base64|b64)s?"
_IMAGE_KEY = re.compile(rf"(?:image|img)s?(?:{_WHAT})?", re.IGNORECASE)
_NUMBERED_KEY = re.compile(rf"(?:image|img|picture)(?:{_WHAT})?_?(\d{{1,3}})", re.IGNORECASE)
_FOREIGN_KEY = re.compile(rf"(?:input_?)?(?:video|audio)s?(?:{_WHAT})?(?:_?\d{{1,3}})?", re.IGNORECASE)

_PICTURE_FILE = re.compile(r"[^\n]{1,255}\.(?:jpe?g|png|webp|bmp|gif|tiff?)", re.IGNORECASE)
_FOREIGN_FILE = re.compile(r"[^\n]{1,255}\.(?:mp4|avi|mov|mkv|webm|m4v|wav|mp3|flac|ogg|m4a)", re.IGNORECASE)
_DATA_URI = re.compile(r"data:(?:image|video|audio)/", re.IGNORECASE)
KEPT_FILE = re.compile(r"(?:.*/)?([0-9a-f]{32}(?:\.\w+)?)")
"""How pictures of a table are called once they are kept: by the hash of their content."""


_N = r"[ _-]?(\d{1,3})"
_ANGLED = re.compile(rf"<\|?(?:image|img){_N}\|?>", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[(?:image|img|picture){_N}\]", re.IGNORECASE)
_FOREIGN = re.compile(
    r"<(?:video|audio)\b[^<>]{0,200}>|<\|(?:video|audio)(?:_\d{1,3})?\|>|!\[[^\]\n]{0,200}\]\([^)\n]{1,2000}\)"
    r"|<image\s?/?>|data:(?:image|video|audio)/[\w.+-]+[;,]",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"<img\b[^<>]{0,500}>|<(?:picture|photo|image_?here|image_?placeholder)\s?/?>"
    r"|[\[{]{1,2}(?:image|img|picture|video|audio)(?:[ _-]?\d{1,3})?[\]}]{1,2}",
    re.IGNORECASE,
)
_SIGNS = ("<", "[", "{", "data:", "DATA:")
"""What every mark holds."""


def find_images(row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths, URLs or data URIs of a row's pictures, and the keys they stand under.

    Known keys are `image` and `images`, `image_path`, `img`, `image_url` and the like, and `image_1`, `image_2`, ….
    A second key is taken for another name of the same pictures where its file names are the same.

    Raises:
        DataError: several keys with different pictures, or something else than paths.
    """
    own = [key for key in _OWN if row.get(key) not in (None, [])]
    if len(own) > 1:
        raise DataError('both "image" and "images" are there; wanted one of them')
    found: dict[tuple[str, ...], tuple[str, ...]] = {(key,): _names(key, row[key]) for key in own}
    others = {key: _kind_of(key) for key in row if key not in _OWN and _is_shown(key) and _is_media(row[key])}
    numbered = {number: key for key, number in others.items() if isinstance(number, int)}
    if numbered:
        found[tuple(numbered[n] for n in sorted(numbered))] = _numbered(row, numbered)
    found |= {(key,): _names(key, row[key]) for key, kind in others.items() if kind == _IMAGE}
    if not found:
        return (), ()
    (keys, names), *rest = found.items()
    for other, others_names in rest:
        if not same_pictures(names, others_names):
            raise DataError(f'both "{keys[0]}" and "{other[0]}" are there, with different pictures; wanted one of them')
    return names, (*keys, *_OWN)


def check_unread(columns: Mapping[str, Any], n_images: int) -> None:
    """Refuse columns that hold what is never read: videos, sound, pictures under a key that is not known.

    Args:
        columns: keys that nothing was read from.
        n_images: pictures of the row; where it has some, a file name in another column is taken for a remark.

    Raises:
        DataError: names the key.
    """
    for key, value in columns.items():
        if _kind_of(key) == _FOREIGN_KIND and _is_media(value):
            raise DataError(f'"{key}" is {shown(value)}: videos and sound are not read; drop the record, or the key')
        if _holds(value, _DATA_URI.match):
            raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')
        if not n_images and _holds(value, _FOREIGN_FILE.fullmatch):
            raise DataError(f'"{key}" is {shown(value)}: videos and sound are not read; drop the record, or the key')
        if not n_images and _holds(value, _PICTURE_FILE.fullmatch):
            raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')


def names_pictures(value: Any) -> bool:
    """Whether a column holds file names of pictures, or a list of them.

    >>> names_pictures(["masks/1.png"]), names_pictures("a cat")
    (True, False)
    """
    return _holds(value, _PICTURE_FILE.fullmatch)


def place_images(question: str, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the question one `<image>` for each picture; without any mark pictures come first (as in the original).

    Numbered marks, `<image 1>`, `<image_2>` or `[image 1]`, are read: their pictures are put in the order of the marks.

    Raises:
        DataError: marks and pictures do not match, or a mark stands for something that is not read.
    """
    n_images, marks = len(names), question.count(IMAGE_TOKEN)
    numbered = _ANGLED if marks < question.count("<") and _ANGLED.search(question) else _BRACKETED
    if (numbered is _ANGLED or not marks) and numbered.search(question):
        question, names = _in_order_of_marks(question, names, numbered)
        marks = n_images
    check_marks(question, "the question")
    if marks == 0:
        return IMAGE_TOKEN * n_images + question, names
    if marks != n_images:
        raise DataError(
            f"{marks} {IMAGE_TOKEN} in the question for {n_images} image{'s' * (n_images != 1)}; "
            f"wanted one {IMAGE_TOKEN} for each image, or none at all (then the images come first)"
        )
    return question, names


def check_marks(text: str, where: str) -> None:
    """Refuse marks that stand for a picture, video or sound and are not read.

    HTML and words in brackets, "[image]", are text where the pictures have their `<image>` (see `marks_as_text`).

    Raises:
        DataError: names the mark.
    """
    bare = text.replace(IMAGE_TOKEN, "")
    if not any(sign in bare for sign in _SIGNS):
        return
    found = _FOREIGN.search(bare) or (_LOOSE.search(bare) if bare == text else None)
    if found:
        mark = found[0] if len(found[0]) <= 40 else f"{found[0][:40]}…"
        kind = "videos and sound are not read: drop the record" if re.search("video|audio", mark, re.I) else ""
        raise DataError(f"{where} holds {mark}; {kind or f'wanted {IMAGE_TOKEN} in the place of each picture'}")


def marks_as_text(question: str) -> list[str]:
    """What could stand for a picture in a question whose pictures have their `<image>`, and is asked as text.

    >>> marks_as_text("<image>Which tag is <img> here, as in [image 1]?")
    ['<img>', '[image 1]']
    """
    return [found[0] for found in _LOOSE.finditer(question)]


@lru_cache(maxsize=4096)
def _kind_of(key: str) -> str | int | None:
    """What a key stands for by its name: `_IMAGE`, the number of an image, `_FOREIGN_KIND`, or nothing of these."""
    if numbered := _NUMBERED_KEY.fullmatch(key):
        return int(numbered[1])
    return _IMAGE if _IMAGE_KEY.fullmatch(key) else _FOREIGN_KIND if _FOREIGN_KEY.fullmatch(key) else None


def _is_shown(key: str) -> bool:
    return _kind_of(key) not in (None, _FOREIGN_KIND)


def _in_order_of_marks(question: str, names: tuple[str, ...], pattern: re.Pattern[str]) -> tuple[str, tuple[str, ...]]:
    order = [int(found[1]) for found in pattern.finditer(question)]
    first = 0 if 0 in order else 1
    if IMAGE_TOKEN in question or sorted(order) != list(range(first, first + len(names))):
        marks = ", ".join(found[0] for found in pattern.finditer(question))
        wanted = {0: "no mark", 1: "<image 1> once, and no other mark"}
        each = f"each of <image 1> to <image {len(names)}> once, and no other mark"
        raise DataError(
            f"{marks:.80} in the question for {len(names)} image{'s' * (len(names) != 1)}; "
            f"wanted {wanted.get(len(names), each)}"
        )
    return pattern.sub(IMAGE_TOKEN, question), tuple(names[n - first] for n in order)


def _numbered(row: Mapping[str, Any], keys: Mapping[int, str]) -> tuple[str, ...]:
    numbers = sorted(keys)
    missing = set(range(min(numbers[0], 1), numbers[-1] + 1)) - set(numbers)
    if missing:
        raise DataError(f'"{keys[numbers[-1]]}" is there, but picture {min(missing)} is not; wanted all of them')
    names = [_names(keys[n], row[keys[n]]) for n in numbers]
    if not all(len(own) == 1 for own in names):
        raise DataError(f'"{keys[numbers[0]]}" is {shown(row[keys[numbers[0]]])}, wanted one path')
    return tuple(own[0] for own in names)


def _names(key: str, value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    names = tuple(name for item in items if (name := path_in(item)))
    if len(names) < len(items):
        raise DataError(f'"{key}" is {shown(value)}, wanted a path, a list of paths, or no such key')
    return names


def path_in(item: Any) -> str | None:
    """The path, URL or data URI that an item is, or that it holds under one of `PATH_KEYS`, or one level below.

    ({"path": …} is how `datasets` writes an image that it has not embedded.)
    """
    if isinstance(item, str):
        return item or None
    values: Iterable[Any] = (item.get(key) for key in PATH_KEYS) if isinstance(item, dict) else ()
    return next((path for value in values if value and (path := path_in(value))), None)


def same_pictures(names: Collection[str], others: Collection[str]) -> bool:
    """Whether these are the same pictures, as far as their names tell; pictures kept for a table lost theirs."""
    if len(names) != len(others):
        return False
    kept = all(map(KEPT_FILE.fullmatch, names))
    return kept or [name.rsplit("/", 1)[-1] for name in names] == [name.rsplit("/", 1)[-1] for name in others]


def _is_media(value: Any) -> bool:
    """Whether a key holds something at all; true, false and numbers are remarks."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str | dict) and item for item in items)


def _holds(value: Any, test: Any) -> bool:
    if isinstance(value, str):
        return ("." in value or ":" in value) and test(value) is not None
    items = value[:8] if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return any(_holds(item, test) for item in items)
