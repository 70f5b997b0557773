"""The file that is written at once or not at all, and what may stand in it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from vlm_r1.converters import Conversion, Converter, Job, Line, run_conversion
from vlm_r1.converters.base import clean_text
from vlm_r1.converters.pictures import Images, Picture, Unusable
from vlm_r1.errors import DataError

GOOD = Line("1", "a.jpg", "the café", [1, 2, 3, 4])


@dataclass(frozen=True)
class NoOptions:
    pass


def written(out: Path, *lines: Line | Exception) -> str:
    """Write lines; an exception among them is raised where it stands."""

    def made():
        for line in lines:
            if isinstance(line, Exception):
                raise line
            yield line

    def convert(job, options):
        return Conversion("rec", out.parent, made())

    run_conversion(Converter("test", "", "", NoOptions, convert), Job(Path("source"), out), NoOptions())
    return out.read_text(encoding="utf-8")


def test_a_line():
    turns = '[{"from": "human", "value": "<image>the café"}, {"from": "gpt", "value": [1, 2, 3, 4]}]'
    assert GOOD.text() == f'{{"id": "1", "image": "a.jpg", "conversations": {turns}}}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param([GOOD, OSError(28, "No space left on device")], "No space left on device", id="disk full"),
        pytest.param([GOOD, Line("7", "a.jpg", "x", float("nan"))], "record 7: cannot be written as JSON", id="NaN"),
        pytest.param([GOOD, Line("7", "\ud800.jpg", "x", 1)], "record 7: cannot be written as JSON", id="half a pair"),
        pytest.param([], "no record is left. Dropped: nothing", id="nothing"),
    ],
)
def test_the_old_file_stays_if_anything_fails(tmp_path, lines, message):
    out = tmp_path / "new folder" / "out.jsonl"
    assert written(out, GOOD) == f"{GOOD.text()}\n"
    with pytest.raises(DataError, match=message):
        written(out, *lines)
    assert out.read_text(encoding="utf-8") == f"{GOOD.text()}\n"
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]


def test_an_output_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*Wanted a readable source and a writable --out"):
        written(tmp_path / "file" / "out.jsonl", GOOD)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param(" a\tman\n", "a man", id="white space"),
        pytest.param("<image>a man<image>", "a man", id="marks of images"),
        pytest.param("a \ud800 man", "a ? man", id="half a surrogate pair"),
    ],
)
def test_texts(text, cleaned):
    assert clean_text(text) == cleaned


def test_an_image_is_looked_at_once(tmp_path, picture_file):
    path = picture_file(tmp_path / "a.jpg", (30, 20), exif=6)
    images, tally = Images(tmp_path), Job(tmp_path, tmp_path).tally
    assert images.picture("a.jpg", None, tally) == Picture((20, 30))
    path.unlink()
    assert images.picture("a.jpg", None, tally) == Picture((20, 30))
    assert images.picture("b.jpg", (30, 20), tally) == Unusable("image not found")
