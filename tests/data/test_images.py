"""Real files in each mode, upright and RGB; damaged ones are errors that name the file."""

import importlib.util
import io
import struct
import subprocess
import sys
import zlib

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vlm_r1.data.access import Access
from vlm_r1.data.images import (
    GREATEST_GREY,
    MAX_ASPECT_RATIO,
    MAX_IMAGE_PIXELS,
    image_hash,
    image_orientation,
    image_size,
    load_image,
)
from vlm_r1.errors import DataError
from vlm_r1.types import Prompt

MEMORY = Access(frozenset({"memory"}))


def saved(path, image, **options):
    image.save(path, **options)
    return path


def palette_with_transparency():
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("name", "image", "first", "last"),
    [
        pytest.param("a.png", Image.new("RGB", (4, 2), (1, 2, 3)), (1, 2, 3), (1, 2, 3), id="RGB"),
        pytest.param("a.png", Image.new("L", (4, 2), 77), (77, 77, 77), (77, 77, 77), id="grey"),
        pytest.param("a.png", Image.new("1", (4, 2), 1), (255, 255, 255), (255, 255, 255), id="black and white"),
        pytest.param("a.gif", Image.new("P", (4, 2), 0), (0, 0, 0), (0, 0, 0), id="palette GIF"),
        # pixel (0, 0) is opaque; the others are transparent, so white
        pytest.param("a.png", palette_with_transparency(), (200, 100, 50), (255, 255, 255), id="transparent palette"),
        # black, 51/255 opaque, on white: 255 · (1 − 0.2) = 204
        pytest.param("a.png", Image.new("RGBA", (4, 2), (0, 0, 0, 51)), (204,) * 3, (204,) * 3, id="alpha on white"),
        pytest.param("a.png", Image.new("LA", (4, 2), (9, 0)), (255,) * 3, (255,) * 3, id="grey, transparent"),
        # no black ink: R = 255 − C and so on
        pytest.param("a.tif", Image.new("CMYK", (4, 2), (255, 0, 155, 0)), (0, 255, 100), (0, 255, 100), id="CMYK"),
    ],
)
def test_modes(tmp_path, name, image, first, last):
    path = saved(tmp_path / name, image)
    rgb = load_image(path)
    assert (rgb.mode, rgb.size, image_size(path)) == ("RGB", (4, 2), (4, 2))
    assert (rgb.getpixel((0, 0)), rgb.getpixel((3, 1))) == (first, last)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    levels = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    rgb = load_image(saved(tmp_path / name, Image.fromarray(levels)))
    assert [rgb.getpixel((x, 0)) for x in range(5)] == [(v,) * 3 for v in (0, 0, 1, 128, 255)]


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95)
    assert np.allclose(load_image(path).getpixel((8, 8)), (255, 0, 0), atol=6)


def test_first_picture_of_an_animation(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    path = saved(tmp_path / "a.gif", red, save_all=True, append_images=[blue])
    assert load_image(path).getpixel((0, 0)) == (255, 0, 0)


# Where the red corner, stored top left, belongs by the EXIF orientation: (x, y) of the upright picture, 0 start, 1 end.
RED_CORNER = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", RED_CORNER)
def test_exif_orientation(tmp_path, name, orientation):
    stored = Image.new("RGB", (32, 16), "white")
    stored.paste("red", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(tmp_path / name, stored, exif=exif, **({"quality": 95} if name == "a.jpg" else {}))
    upright_wh = (32, 16) if orientation <= 4 else (16, 32)
    image = load_image(path)
    assert image.size == image_size(path) == upright_wh
    corners = {
        (x, y): image.getpixel((3 + x * (image.width - 7), 3 + y * (image.height - 7))) for x in (0, 1) for y in (0, 1)
    }
    red = [corner for corner, (_, green, _) in corners.items() if green < 128]
    assert red == [RED_CORNER[orientation]]


def test_missing(tmp_path):
    for read in (load_image, image_size):
        with pytest.raises(DataError, match=r"gone\.png: image not found"):
            read(tmp_path / "gone.png")


@pytest.mark.parametrize("content", [pytest.param(b"", id="empty"), pytest.param(b"<html>404</html>", id="a web page")])
def test_no_image(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (load_image, image_size):
        with pytest.raises(DataError, match=r"a\.png: not an image of a known format.*Replace the file"):
            read(path)


def test_truncated_file_has_a_size_but_no_pixels(tmp_path):
    rng = np.random.default_rng(0)
    path = saved(tmp_path / "a.png", Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    path.write_bytes(path.read_bytes()[:2000])
    assert image_size(path) == (64, 64)
    with pytest.raises(DataError, match=r"a\.png: image cannot be decoded: .*truncated"):
        load_image(path)


def test_floats_have_no_defined_brightness(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("F", (4, 2), 0.5))
    with pytest.raises(DataError, match=r"a\.tif: .*mode F has no defined brightness range"):
        load_image(path)


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "side",
    [pytest.param(9_460, id="just over: Pillow only warns"), pytest.param(60_000, id="far over: Pillow refuses")],
)
def test_decompression_bomb(tmp_path, side):
    assert side**2 > MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(DataError, match=r"bomb\.png: image too large: .*wanted at most 89478485 pixels"):
        image_size(path)


def test_largest_allowed(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(9_459, 9_459))  # 89,472,681 pixels
    assert image_size(path) == (9_459, 9_459)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["png", "jpeg", "gif", "bmp", "webp"]), st.data())
def test_damaged_bytes_give_an_image_or_an_error(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    Image.linear_gradient("L").resize((24, 24)).convert("RGB").save(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        outcome = load_image(path).mode
    except DataError as error:
        outcome = str(error)
    assert outcome == "RGB" or outcome.startswith(f"{path}: ")


def tiff_with_an_odd_tag(path):
    """A sound picture with an orientation more than there may be."""
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path, tiffinfo={274: 1})
    orientations = [struct.pack("<HHI", 274, 3, count) for count in (1, 2)]
    path.write_bytes(path.read_bytes().replace(*orientations))


def tiff_of_nine_colours(path):
    Image.new("RGB", (8, 8)).save(path)
    bands = [struct.pack("<HHIH", 277, 3, 1, n) for n in (3, 9)]
    path.write_bytes(path.read_bytes().replace(*bands))


@pytest.mark.parametrize(
    ("write", "remark", "outcome"),
    [
        pytest.param(tiff_with_an_odd_tag, "tag 274 had too many entries", "(1, 2, 3)", id="a warning"),
        pytest.param(tiff_of_nine_colours, "More samples per pixel", "DataError", id="a line of Pillow's log"),
    ],
)
def test_remarks_of_pillow_do_not_fill_the_terminal(tmp_path, write, remark, outcome):
    write(tmp_path / "a.tif")

    def told(module, read):
        program = f"""
import threading
from {module}
def look():
    try:
        for _ in range(20): found = {read}('a.tif').convert('RGB').getpixel((0, 0))
    except Exception as error:
        found = type(error).__name__
    outcomes.add(str(found))
outcomes = set()
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*outcomes)
"""
        command = [sys.executable, "-W", "always", "-c", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100)
        return done.stdout.strip(), done.stderr

    assert told("vlm_r1.data.images import load_image", "load_image") == (outcome, "")
    assert remark in told("PIL import Image", "Image.open")[1]  # a control


def test_elongated_images_are_refused_before_an_image_processor_does(tmp_path):
    longest = saved(tmp_path / "longest.png", Image.new("RGB", (3 * MAX_ASPECT_RATIO, 3)))
    assert image_size(longest) == (600, 3)
    for read in (load_image, image_size):
        with pytest.raises(DataError, match=r"longer\.png: image too elongated: 601x3, wanted .* at most 200 times"):
            read(saved(tmp_path / "longer.png", Image.new("RGB", (601, 3))))


@pytest.mark.parametrize("wh", [(1, 1), (3, 27), (5, 900)])
def test_a_small_image_is_enlarged_and_never_touches_its_neighbours(adapter, picture, wh):
    small, others = picture(*wh), [picture(112, 60, 1), picture(84, 56, 2)]
    for paths in ([small, *others], [*others, small], [others[0], small, others[1]]):
        together = adapter.encode(Prompt("<image><image><image>", tuple(paths)), [load_image(path) for path in paths])
        alone = [adapter.encode(Prompt("<image>", (path,)), [load_image(path)]) for path in paths]
        patches = np.concatenate([one.vision["pixel_values"].numpy() for one in alone])
        assert np.array_equal(together.vision["pixel_values"].numpy(), patches)
        assert together.frames == tuple(one.frames[0] for one in alone)
    frame = adapter.encode(Prompt("<image>", (small,)), [load_image(small)]).frames[0]
    assert frame.original_wh == wh  # boxes stay in pixels of the file
    assert min(frame.input_wh) >= 28  # one merged patch: the smallest side that the model can see


def test_hash_is_of_the_picture_not_of_the_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    same = [
        saved(tmp_path / "a.png", Image.fromarray(noise)),
        saved(tmp_path / "b.bmp", Image.fromarray(noise)),
        saved(tmp_path / "c.png", Image.fromarray(noise), compress_level=0, exif=Image.Exif()),
        saved(tmp_path / "d.png", Image.fromarray(noise).transpose(Image.Transpose.ROTATE_90), exif=exif),
    ]
    hashes = {image_hash(path) for path in same}
    assert hashes == {image_hash(load_image(same[0]))}
    changed = noise.copy()
    changed[3, 3, 0] ^= 1
    other_shape = noise.reshape(6, 8, 3)
    for other in (changed, other_shape, noise[::-1]):
        assert image_hash(Image.fromarray(other)) not in hashes


def remote(name, image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    url = f"memory://{name}"
    with fsspec.open(url, "wb") as file:
        file.write(content.getvalue())
    return url, len(content.getvalue())


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_remote_images(kind, orientation):
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if kind == "webp" else {}
    url, n_bytes = remote(f"{kind}{orientation}", Image.fromarray(noise), kind, exif=exif, **options)
    assert kind == "jpeg" or n_bytes > 1 << 16  # the header alone is fetched first; of some kinds it stands at the end
    upright_wh = (200, 300) if orientation == 1 else (300, 200)
    assert image_size(url, MEMORY) == load_image(url, MEMORY).size == upright_wh
    assert image_orientation(url, MEMORY) == (1 if kind == "tiff" else orientation)  # Pillow turns TIFF by itself


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("memory://gone.png", "image not found. Check image_root", id="missing"),
        pytest.param("nowhere:///a.png", "cannot be fetched: Protocol not known: nowhere", id="unknown protocol"),
        pytest.param("memory://text", "not an image of a known format", id="no image"),
    ],
)
def test_remote_errors(url, message):
    with fsspec.open("memory://text", "wb") as file:
        file.write(b"<html>" * 20_000)
    for read in (load_image, image_size):
        with pytest.raises(DataError) as raised:
            read(url, Access(frozenset({"memory", "nowhere"})))
        assert str(raised.value).startswith(f"{url}: {message}")


def test_protocol_whose_package_is_missing():
    if importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(DataError, match=r"s3://bucket/a\.png: cannot be fetched: .*s3fs.*Install that package"):
        image_size("s3://bucket/a.png", Access(frozenset({"s3"})))


@pytest.mark.parametrize("greatest", [1023, 4095, 65535])
def test_how_much_of_its_range_a_16_bit_grey_uses_is_said(tmp_path, greatest):
    values = np.linspace(0, greatest, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image.info[GREATEST_GREY] == greatest
    assert image.getextrema()[0] == (0, greatest // 256)


@pytest.mark.parametrize(
    ("colour", "values"),
    [
        pytest.param(2, (0, 4095, 100, 7, 300, 2000), id="RGB"),
        pytest.param(6, (0, 4095, 100, 65535, 7, 300, 2000, 65535), id="RGB with transparency"),
        pytest.param(4, (4095, 65535, 100, 0), id="grey with transparency"),
    ],
)
def test_how_much_of_its_range_a_16_bit_colour_picture_uses_is_said(tmp_path, colour, values):
    """Pillow writes none: rows of 2 x 1 pixels, each after a filter byte; of the values the upper byte is known."""
    pixels = b"\0" + struct.pack(f">{len(values)}H", *values)
    header = struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert load_image(tmp_path / "a.png").info[GREATEST_GREY] == 15 * 256 + 255 == 4095


def test_pictures_of_8_bits_say_nothing(tmp_path):
    Image.new("L", (4, 2), 9).save(tmp_path / "a.png")
    assert GREATEST_GREY not in load_image(tmp_path / "a.png").info
