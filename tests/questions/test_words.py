"""Which words are pictures, which are questions, and which files are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.questions.words import Words, looks_like_a_path, new_files, sort_words


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: cat.png, no.txt, and dogs with two pictures, a text, a hidden file and a folder."""
    for name in ("cat.png", "dogs/b.JPG", "dogs/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    for name in ("no.txt", "dogs/notes.txt", "dogs/.hidden.png"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "dogs/more.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_exists_is_a_picture_and_all_else_a_question(here: Path) -> None:
    words = sort_words(["cat.png", "the cat", "dogs", "the red and/or blue ball", "?" * 5000], ["cat.png"])
    assert words.pictures == (Path("cat.png"), Path("dogs/a.png"), Path("dogs/b.JPG"))
    assert words.questions == ("the cat", "the red and/or blue ball", "?" * 5000, "cat.png")
    assert words.notes == ("dogs: 2 pictures; left out, since they are none: 2 (more.png, notes.txt)",)
    assert sort_words(["cat.png", "cat"]) == Words((Path("cat.png"),), ("cat",))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["cot.png", "the cat"], "cot.png: picture not found: there is no such file", id="a slip"),
        pytest.param(["my cot.png", "the cat"], "my cot.png: picture not found", id="a slip with a blank"),
        pytest.param(["nowhere/cat", "the cat"], "its folder does not exist either", id="no folder"),
        pytest.param(["./a b", "the cat"], "a b: picture not found.* --question", id="a path with a blank"),
        pytest.param(["https://x.org/cat.png", "the cat"], "pictures are not fetched", id="an address"),
        pytest.param(["the cat"], 'no picture was given, only the question "the cat"', id="no picture"),
        pytest.param([], "no picture was given: name a file", id="nothing"),
        pytest.param(["cat.png"], "no question was given", id="no question"),
        pytest.param(["cat.png", " "], "the question ' ' is empty", id="an empty question"),
        pytest.param(["empty", "the cat"], "empty: holds no pictures", id="a folder without pictures"),
    ],
)
def test_what_is_refused(words: list[str], message: str, here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        sort_words(words)


def test_a_file_that_is_no_picture_or_too_large_is_refused_before_a_model_is_loaded(here: Path) -> None:
    with pytest.raises(DataError, match=r"no\.txt: not an image of a known format"):
        sort_words(["no.txt", "the cat"])
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (30_000).to_bytes(4, "big") * 2
    (here / "large.png").write_bytes(header + bytes([8, 2, 0, 0, 0]) + b"\0" * 40)
    with pytest.raises(DataError, match="large"):
        sort_words(["large.png", "the cat"])


@pytest.mark.parametrize("word", ["and/or", "~/cat", "a\\b", "C:\\cat", "../x y", "/"])
def test_words_that_look_like_paths(word: str) -> None:
    assert looks_like_a_path(word)


def test_files_for_boxes(here: Path) -> None:
    one, others = Path("cat.png"), [Path("cat.png"), Path("dogs/cat.png"), Path("dogs/x.bmp"), Path("cat.png")]
    assert new_files(Path("out.jpg"), [one, one]) == {one: Path("out.jpg")}
    assert new_files(Path("out"), [one]) == {one: Path("out/cat.png")}
    names = ["cat.png", "cat-2.png", "x.png"]
    assert list(new_files(Path("out"), others).values()) == [Path("out") / name for name in names]


@pytest.mark.parametrize(
    ("out", "pictures", "message"),
    [
        pytest.param("cat.png", ["cat.png"], "cat.png: is there already: name another", id="the picture itself"),
        pytest.param("dogs", ["dogs/a.png", "x/b.png"], "dogs/a.png: is there already: name", id="in a folder"),
        pytest.param("out.jpg", ["cat.png", "dogs/a.png"], "is one file for 2 pictures: name a folder", id="one file"),
        pytest.param("out.gif", ["cat.png"], "pictures are written as .jpg, .jpeg, .png, .webp", id="an ending"),
    ],
)
def test_files_that_cannot_be_written(out: str, pictures: list[str], message: str, here: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        new_files(Path(out), map(Path, pictures))
