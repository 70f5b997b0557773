"""Image files → sizes and upright RGB, whatever the mode they are stored in."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vlm_r1.errors import DataError

MAX_IMAGE_PIXELS = 89_478_485
"""Largest area of an image in pixels, Pillow's own guard against decompression bombs (256 MB as RGB)."""

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's decoders raise on damaged files (a broken PNG is a SyntaxError)."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright by its EXIF orientation; 1 is upright."""

_SWAPS_SIDES = (5, 6, 7, 8)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone: the size of `load_image(path)`.

    Raises:
        DataError: the file is missing, no image by its header, or larger than `MAX_IMAGE_PIXELS`.
    """
    with _open(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SWAPS_SIDES else (width, height)


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Decode an image as upright 8-bit RGB.

    EXIF orientation is applied, 16-bit grey is scaled to 8 bits, palette, CMYK and grey are converted, transparent
    parts are laid on white; of an animation the first picture is taken.

    Raises:
        DataError: missing, damaged, larger than `MAX_IMAGE_PIXELS`, or of a mode without a defined brightness range
            (32-bit integers, floats).
    """
    with _open(path) as image:
        orientation = _orientation(image)
        try:
            image.load()
            rgb = _to_rgb(image)
        except _BROKEN as error:
            raise DataError(
                f"{path}: image cannot be decoded: {error}. Replace the file, or drop its records"
            ) from error
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _open(path: str | os.PathLike[str]) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: image not found. Check image_root and the record's image") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image of a known format. Replace the file, or drop its records") from error
    except _TOO_LARGE as error:
        raise DataError(_too_large(path, str(error))) from error
    except _BROKEN as error:
        raise DataError(f"{path}: image cannot be read: {error}. Replace the file, or drop its records") from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        image.close()
        raise DataError(_too_large(path, f"{image.width}x{image.height}"))
    return image


def _too_large(path: str | os.PathLike[str], got: str) -> str:
    return f"{path}: image too large: {got}, wanted at most {MAX_IMAGE_PIXELS} pixels of area. Downscale it first"


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these upright by itself, and gives the upright size
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # looking for a late chunk would decode the whole file
        return 1
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:  # damaged metadata beside good pixels: shown as stored, as viewers do
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no defined brightness range, wanted 8- or 16-bit values")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
