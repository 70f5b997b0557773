"""Pictures that a row holds as a data URI or as bare base64 → files in the cache, like embedded images of tables."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from vlm_r1.data.formats.media import BARE_BASE64
from vlm_r1.data.hub import images_folder, store_image
from vlm_r1.errors import DataError

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+(?:=[\w.+-]*)?)*),", re.IGNORECASE)
_LONGEST_PATH = 4096
_SHORTEST = 50
"""Least number of base64 characters that a picture has."""


def store_embedded(name: str, cache: Path | None) -> str | None:
    """Store an embedded picture in a file, unless it is there already; returns its path, or None for other texts.

    Args:
        name: a path, a URL, a data URI (`data:image/png;base64,…`), or base64 with the first bytes of a picture.
        cache: folder in which pictures are stored by the hash of their content; None: `hub.cache_folder()`.

    Raises:
        DataError: not valid base64, a data URI of another kind, or too long for a path. It never quotes the text.
    """
    if len(name) < _SHORTEST and name[:5].lower() != "data:":
        return None
    uri = _DATA_URI.match(name)
    if uri is None and not BARE_BASE64.fullmatch(name):
        if len(name) > _LONGEST_PATH:
            raise DataError(f"the image is a text of {len(name)} characters; wanted a path or a data URI")
        return None
    kind, encoding = (uri[1] or "", uri[2]) if uri else ("", ";base64")
    what = f"a data URI ({kind or 'no kind'}, {len(name)} characters)" if uri else f"base64 ({len(name)} characters)"
    if not encoding.lower().endswith(";base64") or (kind and not kind.lower().startswith("image/")):
        raise DataError(f"the image is {what}; wanted data:image/png;base64, or the like")
    text = "".join(name[uri.end() if uri else 0 :].split())
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"the image is {what} that is not valid base64; write it again") from None
    if not content:
        raise DataError(f"the image is {what} that holds nothing; write it again")
    folder = images_folder(cache)
    try:
        return str(store_image(content, "", folder))
    except OSError as error:
        raise DataError(f"the embedded image cannot be kept in {folder}: {error.strerror}") from error
