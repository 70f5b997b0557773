"""Images of a run, made small enough to be embedded in the page."""

from __future__ import annotations

import base64
import io

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.data.images import load_image
from vlm_r1.errors import DataError, brief

EXACT_SIDE_PX = 128
"""Images with at most this longest side are embedded losslessly (PNG) and drawn with hard pixel edges."""

FETCHING_S = 60.0
"""Seconds for all remote images of a page; those that are not there by then are left out."""


def data_url(path: str, max_side_px: int, access: Access = NOWHERE) -> str | None:
    """Return an image as a `data:` URL, or None if it can no longer be read, or may not be fetched."""
    try:
        return _encoded(path, max_side_px, access)
    except DataError:
        return None


def checked_data_url(name: str, max_side_px: int, images: ImagePaths) -> tuple[str | None, str]:
    """Return an image that a file of samples names as a `data:` URL; if there is none, None and the reason.

    Args:
        name: absolute path or URL; whoever wrote the samples may have named any file of this disk.
        images: the folders and addresses that it may lead to.
    """
    try:
        return _encoded(images.path(name), max_side_px, images.access), ""
    except DataError as error:
        return None, brief(str(error))


def _encoded(path: str, max_side_px: int, access: Access) -> str:
    """Tiny images become PNG in their size; others become JPEG, at most `max_side_px` wide and high; or DataError."""
    image = load_image(path, access)
    kind = "png" if max(image.size) <= EXACT_SIDE_PX else "jpeg"
    image.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=82, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
