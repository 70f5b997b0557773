"""Keys and marks of a row for pictures, sound and video: some are read, the others are refused.

No picture is silently ignored: known keys and marks are read, and anything else that looks like a picture is an error
that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import IMAGE_TOKEN

PATH_KEYS = ("path", "url", "image", "image_url", "bytes", "source", "data")
"""Keys of an object that may hold a path, a URL or a data URI."""

_OWN = ("image", "images")
_IMAGE, _FOREIGN_KIND = "image", "foreign"
_WHAT = r"_?(?:path|file|url|uri|name|file_?name|list|base64|b64)s?"
_IMAGE_KEY = re.compile(rf"(?:image|img)s?(?:{_WHAT})?", re.IGNORECASE)
_NUMBERED_KEY = re.compile(rf"(?:image|img|picture)(?:{_WHAT})?_?(\d{{1,3}})", re.IGNORECASE)
_FOREIGN_KEY = re.compile(rf"(?:input_?)?(?:video|audio)s?(?:{_WHAT})?(?:_?\d{{1,3}})?", re.IGNORECASE)

_PICTURE_FILE = re.compile(r"[^\n]{1,255}\.(?:jpe?g|png|webp|bmp|gif|tiff?)", re.IGNORECASE)
_FOREIGN_FILE = re.compile(r"[^\n]{1,255}\.(?:mp4|avi|mov|mkv|webm|m4v|wav|mp3|flac|ogg|m4a)", re.IGNORECASE)
_DATA_URI = re.compile(r"data:(?:image|video|audio)/", re.IGNORECASE)
BARE_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUkqA|TU0AK)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
"""A picture as bare base64, by the first bytes of its kind: PNG, JPEG, GIF, WebP, TIFF."""
KEPT_FILE = re.compile(r"(?:.*/)?([0-9a-f]{32}(?:\.\w+)?)")
"""The file name of a stored picture of a table: a hash of its content."""

_N = r"[ _:#-]{0,2}(\d{1,3})"
_ANGLED = re.compile(rf"<\|?(?:image|img|picture|photo|figure){_N}\s?/?\|?>", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[(?:image|img|picture){_N}\]", re.IGNORECASE)
_FOREIGN = re.compile(
    rf"</?(?:video|audio)(?:{_N})?\b[^<>]{{0,200}}>|<\|(?:video|audio)(?:{_N})?\|>"
    r"|!\[[^\]\n]{0,200}\]\([^)\n]{1,2000}\)|(?:[<＜]|&lt;)\s?/?\s?image\s?/?\s?(?:[>＞]|&gt;)"
    rf"|data:(?:image|video|audio)/[\w.+-]+[;,]|{_ANGLED.pattern}",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"<img\b[^<>]{0,500}>|<(?:picture|photo|image_?here|image_?placeholder)\s?/?>"
    r"|[\[{]{1,2}(?:image|img|picture|video|audio)(?:[ _-]?\d{1,3})?[\]}]{1,2}",
    re.IGNORECASE,
)
_SAMPLED_ITEMS = 8
"""Number of items at the start of a list that are tested for file names."""

_SIGNS = ("<", "＜", "&lt;", "[", "{", "data:", "DATA:")
"""Every mark contains one of these."""


def find_images(row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths, URLs or data URIs of a row's pictures, and their keys.

    Known keys are `image` and `images`, `image_path`, `img`, `image_url` and the like, and `image_1`, `image_2`, ….
    A second key is ignored in two cases: it has the same file names as the first, or the first holds files of this
    disk and the second holds only words or URLs.

    Raises:
        DataError: several keys have different pictures, or a key holds something other than paths.
    """
    own = [key for key in _OWN if row.get(key) not in (None, [])]
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
        if not same_pictures(names, others_names) and not _are_no_pictures(names, others_names):
            raise DataError(f'both "{keys[0]}" and "{other[0]}" are there, with different pictures; wanted one of them')
    return names, (*keys, *_OWN)


def check_unread(columns: Mapping[str, Any], n_images: int) -> None:
    """Refuse columns with media that are never read: videos, sound, and pictures under an unknown key.

    Args:
        columns: the keys that were not read.
        n_images: number of pictures of the row; if it has some, file names in other columns are allowed.

    Raises:
        DataError: names the key.
    """
    for key, value in columns.items():
        if _kind_of(key) == _FOREIGN_KIND and _is_media(value):
            raise DataError(f'"{key}" is {shown(value)}: videos and sound are not read; drop the record, or the key')
        if _any_text(value, _is_embedded):
            raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')
        if n_images or not _any_text(value, _is_file):
            continue
        if _any_text(value, _FOREIGN_FILE.fullmatch):
            raise DataError(f'"{key}" is {shown(value)}: videos and sound are not read; drop the record, or the key')
        raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')


def files_not_shown(value: Any, images: Collection[str]) -> bool:
    """Return whether a column holds names of pictures, videos or sounds other than the pictures shown.

    >>> [files_not_shown(value, ["a.png"]) for value in (["masks/1.png"], "a cat", "old/a.png", {"file": "b.png"})]
    [True, False, False, False]
    """
    names = [name for name in (value if is_list(value) else [value]) if isinstance(name, str)]
    known = {_last(image) for image in images}
    return any(_is_file(name) and _last(name) not in known for name in names[:_SAMPLED_ITEMS])


def place_images(question: str, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the question one `<image>` for each picture; without marks the pictures come first (as in the original).

    Numbered marks, `<image 1>`, `<image_2>` or `[image 1]`, are replaced; the pictures follow the order of the marks.

    Raises:
        DataError: marks and pictures do not match, or a mark is for media that are not read.
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
    """Refuse marks for a picture, video or sound that are not read.

    HTML and words in brackets, "[image]", count as text if the pictures have their `<image>` (see `marks_as_text`).

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


def check_filled(text: Any, where: str) -> None:
    """Refuse ms-swift's placeholders, which only its own format fills (from the key `objects`).

    Raises:
        DataError: names the placeholder.
    """
    for mark in ("<bbox>", "<ref-object>") if isinstance(text, str) else ():
        if mark in text:
            raise DataError(f'{where} holds {mark}; wanted what it stands for, or "messages" and "objects" (ms_swift)')


def marks_as_text(question: str) -> list[str]:
    """Find possible marks in a question whose pictures have their `<image>`; they are asked as text.

    >>> marks_as_text("<image>Which tag is <img> here, as in [image 1]?")
    ['<img>', '[image 1]']
    """
    return [found[0] for found in _LOOSE.finditer(question)]


@lru_cache(maxsize=4096)
def _kind_of(key: str) -> str | int | None:
    """The kind of a key by its name: `_IMAGE`, the number of an image, `_FOREIGN_KIND`, or None."""
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
    items = value if is_list(value) else [value]
    names = tuple(name for item in items if (name := path_in(item)))
    if len(names) < len(items):
        raise DataError(f'"{key}" is {shown(value)}, wanted a path, a list of paths, or no such key')
    return names


def path_in(item: Any) -> str | None:
    """Find the path, URL or data URI that an item is or holds under `PATH_KEYS`, also in nested objects.

    ({"path": …} is how `datasets` writes an image that it has not embedded.)
    """
    if isinstance(item, str):
        return item or None
    values: Iterable[Any] = (item.get(key) for key in PATH_KEYS) if is_object(item) else ()
    return next((path for value in values if value and (path := path_in(value))), None)


def same_pictures(names: Collection[str], others: Collection[str]) -> bool:
    """Return whether the names may be of the same pictures. Embedded pictures and those of tables have no names."""
    if len(names) != len(others):
        return False
    nameless = [all(KEPT_FILE.fullmatch(name) or _is_embedded(name) for name in some) for some in (names, others)]
    return nameless[0] != nameless[1] or list(map(_last, names)) == list(map(_last, others))


def _are_no_pictures(names: Collection[str], others: Collection[str]) -> bool:
    """Return whether `names` are files of this disk, and `others` are only words or URLs from which they may come."""
    here = all(_is_file(name) and "://" not in name for name in names)
    return here and all("://" in other or not (_is_file(other) or _is_embedded(other)) for other in others)


def _last(name: str) -> str:
    """The name of a file without its folders."""
    return name.rsplit("/", 1)[-1]


def _is_media(value: Any) -> bool:
    """Return whether a value may hold media: a text or an object that is not empty. Other values are remarks."""
    items = value if is_list(value) else [value]
    return any(item and (isinstance(item, str) or is_object(item)) for item in items)


def _any_text(value: Any, test: Callable[[str], object]) -> bool:
    """Return whether a text passes the test, or one of the first items of a list, or one value of an object."""
    if isinstance(value, str):
        return bool(test(value))
    items = value[:_SAMPLED_ITEMS] if is_list(value) else value.values() if is_object(value) else ()
    return any(_any_text(item, test) for item in items)


def _is_embedded(text: str) -> bool:
    return bool(_DATA_URI.match(text) or BARE_BASE64.fullmatch(text))


def _is_file(text: str) -> bool:
    if "/" in text and KEPT_FILE.fullmatch(text):
        return True
    return "." in text and bool(_PICTURE_FILE.fullmatch(text) or _FOREIGN_FILE.fullmatch(text))
