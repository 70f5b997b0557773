"""Image files, on disk or at a URL and in any mode → sizes and upright RGB."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.fetch import fetch
from vlm_r1.errors import DataError
from vlm_r1.files import open_regular

MAX_IMAGE_PIXELS = 89_478_485
"""Largest area of an image in pixels, Pillow's own guard against decompression bombs (256 MB as RGB)."""

MAX_ASPECT_RATIO = 200
"""Largest ratio of the longer to the shorter side: the image processors of the Qwen and GLM families refuse more."""

SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations for which the upright image has the stored image's width and height swapped."""

_HEADER_BYTES = 1 << 16
"""Bytes of a remote image that are fetched to read its size; if they do not hold the header, all are fetched."""

GREATEST_GREY = "greatest_grey"
"""Key in the `info` of an image from `load_image`: the greatest value of a 16-bit file (at most 65,535)."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000", "ICO")
"""Formats of pictures that are read, by Pillow's names. Others are old or start other programs (EPS: Ghostscript)."""

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""Errors that Pillow's decoders raise on damaged files (a broken PNG is a SyntaxError)."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transposition that turns the image upright; 1 is upright."""

# What Pillow remarks about odd metadata would fill the terminal; what matters is a DataError of ours. For the whole
# process, since threads decode too, and `catch_warnings` of one thread undoes that of another.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

Path = str | os.PathLike[str]
"""A path on disk or a URL, e.g. "s3://bucket/1.jpg"."""


def image_size(path: Path, access: Access = NOWHERE) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone: the size of `load_image(path)`.

    Args:
        access: says which URLs may be fetched.

    Raises:
        DataError: the file is missing, is no regular file, may not or cannot be fetched, has no image header, is larger
            than `MAX_IMAGE_PIXELS`, or longer than `MAX_ASPECT_RATIO` times its width.
    """
    width, height, orientation = _header(path, access)
    return (height, width) if orientation in SWAPS_SIDES else (width, height)


def image_orientation(path: Path, access: Access = NOWHERE) -> int:
    """Read the orientation from the EXIF tag: 1 (upright) to 8, as in `coordinates.upright_box`.

    Raises:
        DataError: as `image_size`.
    """
    return _header(path, access)[2]


def load_image(path: Path, access: Access = NOWHERE) -> Image.Image:
    """Decode an image as upright 8-bit RGB.

    The EXIF orientation is applied; 16-bit grey is scaled to 8 bits; palette, CMYK and grey are converted; transparent
    areas become white; of an animation the first picture is taken. The size stays that of the file, even if it is
    smaller than a model can see: image processors enlarge such images themselves.

    Raises:
        DataError: as `image_size`; or damaged, or of a mode without a defined brightness range (32-bit integers,
            floats).
    """
    with _opened(path, fetch(os.fspath(path), access) if is_remote(path) else None) as image:
        orientation = _orientation(image)
        try:
            deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            image.load()
            rgb = _to_rgb(image)
            if deep and image.mode in ("LA", "RGB", "RGBA"):  # Pillow keeps the upper bytes
                rgb.info[GREATEST_GREY] = 256 * _brightest(image) + 255
        except _BROKEN as error:
            raise DataError(
                f"{path}: image cannot be decoded: {error}. Replace the file, or drop its records"
            ) from error
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def image_hash(image: Path | Image.Image) -> str:
    """BLAKE2b of the size and upright RGB pixels of an image, as 32 hexadecimal digits; equal for equal pictures.

    Pixels are hashed rather than bytes, so that a copy under another name, in another lossless format or with other
    metadata is found too. An image that was compressed or resized again has another hash.

    Args:
        image: a path, or an image from `load_image`.

    Raises:
        DataError: as `load_image`.
    """
    picture = image if isinstance(image, Image.Image) else load_image(image)
    digest = hashlib.blake2b(struct.pack(">II", *picture.size), digest_size=16)
    digest.update(picture.tobytes())
    return digest.hexdigest()


def spellings(name: str) -> Iterator[str]:
    """Yield spellings of a path from another system: as it is, with / for \\, with accents composed or not.

    >>> list(spellings("a\\\\b.jpg")), list(spellings("a/b.jpg"))
    (['a\\\\b.jpg', 'a/b.jpg'], ['a/b.jpg'])
    """
    for path in dict.fromkeys((name, name.replace("\\", "/"))):
        yield path
        if not path.isascii():
            yield unicodedata.normalize("NFC", path)
            yield unicodedata.normalize("NFD", path)


@cache
def image_formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this Pillow was built with, for `Image.open(…, formats=…)`."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def is_remote(path: Path) -> bool:
    """Return whether a path is a URL.

    >>> is_remote("s3://bucket/1.jpg"), is_remote("coco/1.jpg")
    (True, False)
    """
    return "://" in os.fspath(path)


def _header(path: Path, access: Access) -> tuple[int, int, int]:
    """Stored width and height, and EXIF orientation."""
    start = fetch(os.fspath(path), access, _HEADER_BYTES) if is_remote(path) else None
    try:
        with _opened(path, start) as image:
            return (*image.size, _orientation(image))
    except DataError:
        if start is None or len(start) < _HEADER_BYTES:
            raise
    with _opened(path, fetch(os.fspath(path), access)) as image:  # some formats keep their header at the end
        return (*image.size, _orientation(image))


@contextmanager
def _opened(path: Path, content: bytes | None) -> Generator[Image.Image]:
    """Open an image, with its header read and checked; from `content` if the file is remote."""
    with _file(path, content) as file:
        try:
            image = Image.open(file, formats=image_formats())
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: not an image of a known format. Replace the file, or drop its records") from error
        except _TOO_LARGE as error:
            raise DataError(_too_large(path, str(error))) from error
        except _BROKEN as error:
            raise DataError(f"{path}: image cannot be read: {error}. Replace the file, or drop its records") from error
        with image:
            _check_size(path, *image.size)
            yield image


def _file(path: Path, content: bytes | None) -> IO[bytes]:
    """Open a file of this disk without waiting for a pipe, or the content of a remote one."""
    if content is not None:
        return io.BytesIO(content)
    try:
        return open_regular(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: image not found. Check image_root and the record's image") from error
    except OSError as error:
        raise DataError(
            f"{path}: image cannot be read: {error.strerror}. Replace the file, or drop its records"
        ) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        raise DataError(_too_large(path, f"{width}x{height}"))
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise DataError(
            f"{path}: image too elongated: {width}x{height}, wanted the longer side at most {MAX_ASPECT_RATIO} times "
            "the shorter. Crop or pad it, or drop its records"
        )


def _too_large(path: Path, got: str) -> str:
    return f"{path}: image too large: {got}, wanted at most {MAX_IMAGE_PIXELS} pixels of area. Downscale it first"


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these upright itself, and gives the upright size
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # looking for a late chunk would decode the whole file
        return 1
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:  # damaged metadata with good pixels: taken as stored, like image viewers do
        return 1


def _brightest(image: Image.Image) -> int:
    """The greatest value in all bands of a picture except its transparency."""
    n_colours = sum(band != "A" for band in image.getbands())
    return int(np.asarray(image)[..., :n_colours].max())


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255
        values = np.asarray(image)
        rgb = Image.fromarray((values // 256).astype(np.uint8)).convert("RGB")
        rgb.info[GREATEST_GREY] = int(values.max())
        return rgb
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no defined brightness range, wanted 8- or 16-bit values")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
