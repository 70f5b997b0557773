"""What stands for pictures, sound and video in a row: keys and marks that are read, and those that are refused.

Nothing that stands for a picture is passed over: a key or mark that is known is read, and one that only looks like a
picture is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.types import IMAGE_TOKEN

PATH_KEYS = ("path", "url", "image", "image_url", "bytes", "source", "data")
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
BARE_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUkqA|TU0AK)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
"""A picture as bare base64, by the first bytes of its kind: PNG, JPEG, GIF, WebP, TIFF."""
KEPT_FILE = re.compile(r"(?:.*/)?([0-9a-f]{32}(?:\.\w+)?)")
"""How pictures of a table are called once they are kept: by the hash of their content."""

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
_LOOKED_AT = 8
"""Items at the start of a list that tell whether it holds files."""

_SIGNS = ("<", "＜", "&lt;", "[", "{", "data:", "DATA:")
"""What every mark holds."""


def find_images(row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths, URLs or data URIs of a row's pictures, and the keys they stand under.

    Known keys are `image` and `images`, `image_path`, `img`, `image_url` and the like, and `image_1`, `image_2`, ….
    A second key is taken for another name of the same pictures where its file names are the same, and for a remark
    where the first holds files of this disk and it holds words, or addresses on the net.

    Raises:
        DataError: several keys with different pictures, or something else than paths.
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
        if not same_pictures(names, others_names) and not _are_remarks(names, others_names):
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
        if _holds(value, _is_embedded):
            raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')
        if n_images or not _holds(value, _is_file):
            continue
        if _holds(value, _FOREIGN_FILE.fullmatch):
            raise DataError(f'"{key}" is {shown(value)}: videos and sound are not read; drop the record, or the key')
        raise DataError(f'"{key}" is {shown(value)}: a picture that is not read; wanted it under "image"')


def files_not_shown(value: Any, images: Collection[str]) -> bool:
    """Whether a column is the name of a picture, video or sound, or a list of them, other than the pictures shown.

    >>> [files_not_shown(value, ["a.png"]) for value in (["masks/1.png"], "a cat", "old/a.png", {"file": "b.png"})]
    [True, False, False, False]
    """
    names = [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
    known = {_last(image) for image in images}
    return any(_is_file(name) and _last(name) not in known for name in names[:_LOOKED_AT])


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


def check_filled(text: Any, where: str) -> None:
    """Refuse ms-swift's placeholders, which its own format fills from the key `objects`, and no other does.

    Raises:
        DataError: names the placeholder.
    """
    for mark in ("<bbox>", "<ref-object>") if isinstance(text, str) else ():
        if mark in text:
            raise DataError(f'{where} holds {mark}; wanted what it stands for, or "messages" and "objects" (ms_swift)')


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
    """Whether these are the same pictures, as far as their names tell; embedded ones and those of tables have none."""
    if len(names) != len(others):
        return False
    nameless = [all(KEPT_FILE.fullmatch(name) or _is_embedded(name) for name in some) for some in (names, others)]
    return nameless[0] != nameless[1] or list(map(_last, names)) == list(map(_last, others))


def _are_remarks(names: Collection[str], others: Collection[str]) -> bool:
    """Whether these are files of this disk, and each of the others is a word, or an address they may have come from."""
    here = all(_is_file(name) and "://" not in name for name in names)
    return here and all("://" in other or not (_is_file(other) or _is_embedded(other)) for other in others)


def _last(name: str) -> str:
    """The file's own name, without folders."""
    return name.rsplit("/", 1)[-1]


def _is_media(value: Any) -> bool:
    """Whether a key holds something at all; true, false and numbers are remarks."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str | dict) and item for item in items)


def _holds(value: Any, test: Callable[[str], object]) -> bool:
    """Whether a text passes the test, or one of the first texts in a list, or one in an object."""
    if isinstance(value, str):
        return bool(test(value))
    items = value[:_LOOKED_AT] if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return any(_holds(item, test) for item in items)


def _is_embedded(text: str) -> bool:
    return bool(_DATA_URI.match(text) or BARE_BASE64.fullmatch(text))


def _is_file(text: str) -> bool:
    if "/" in text and KEPT_FILE.fullmatch(text):
        return True
    return "." in text and bool(_PICTURE_FILE.fullmatch(text) or _FOREIGN_FILE.fullmatch(text))
