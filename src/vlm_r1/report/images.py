"""Images of a run, made small enough to be embedded in the page."""

from __future__ import annotations

import base64
import io

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.images import load_image
from vlm_r1.errors import DataError

EXACT_SIDE_PX = 128
"""Images with at most this longest side are embedded losslessly (PNG) and drawn with hard pixel edges."""


def data_url(path: str, max_side_px: int, access: Access = NOWHERE) -> str | None:
    """Return an image as a `data:` URL, or None if it can no longer be read, or may not be fetched.

    Tiny images become PNG in their size; others become JPEG, at most `max_side_px` wide and high.
    """
    try:
        image = load_image(path, access)
    except DataError:
        return None
    kind = "png" if max(image.size) <= EXACT_SIDE_PX else "jpeg"
    image.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=82, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
