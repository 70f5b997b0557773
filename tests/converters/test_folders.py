"""What is below a folder, and what a path in a file means there."""

import pytest

from vlm_r1.converters.folders import Folder, labels_of, plain_path
from vlm_r1.converters.pictures import Unusable
from vlm_r1.errors import DataError


@pytest.fixture
def folder(tmp_path):
    names = ["train/images/a.jpg", "train/images/\u00e9 1.PNG", "train/a.xml", "b.jpg", "x/c.jpg", "y/c.jpg", ".h.jpg"]
    for name in (*names, ".git/d.jpg", "__MACOSX/e.jpg"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "secret.jpg").touch()
    return Folder.read(tmp_path / "set")


def test_hidden_files_are_left_out(folder):
    assert folder.pictures == ["b.jpg", "train/images/a.jpg", "train/images/\u00e9 1.PNG", "x/c.jpg", "y/c.jpg"]
    assert folder.ending_in(".xml") == ["train/a.xml"]
    with pytest.raises(DataError, match="no such folder"):
        Folder.read(folder.root / "gone")


@pytest.mark.parametrize(
    ("text", "base", "found"),
    [
        pytest.param("train/images", "", "train/images", id="a folder"),
        pytest.param("images/a.jpg", "train", "train/images/a.jpg", id="from its file"),
        pytest.param("train/images/a.jpg", "train", "train/images/a.jpg", id="from the root"),
        pytest.param("../b.jpg", "train", "b.jpg", id="upwards"),
        pytest.param("C:\\me\\set\\train\\images\\a.jpg", "", "train/images/a.jpg", id="Windows"),
        pytest.param("/home/me/train/images/e\u0301 1.PNG", "", "train/images/\u00e9 1.PNG", id="an accent, composed"),
        pytest.param("../secret.jpg", "", None, id="out of the root"),
        pytest.param("../../secret.jpg", "train", None, id="further out"),
        pytest.param(".", "", "", id="the root"),
        pytest.param("gone", "", None, id="not there"),
    ],
)
def test_what_a_path_means(folder, text, base, found):
    assert folder.find(text, base) == found


@pytest.mark.parametrize(
    ("file", "named", "found"),
    [
        pytest.param("train/a.xml", "a.jpg", "train/images/a.jpg", id="the only one of its name"),
        pytest.param("x/c.json", "c.jpg", "x/c.jpg", id="beside, though there is another"),
        pytest.param("x/other.json", "../y/c.jpg", "y/c.jpg", id="a relative path"),
        pytest.param(
            "c.xml", "c.jpg", Unusable("several pictures have its name: name the folder by --images"), id="two"
        ),
        pytest.param("a.xml", "../../secret.jpg", "train/images/a.jpg", id="never out of the root"),
        pytest.param("z.xml", "../secret.jpg", Unusable("image not found"), id="nor then"),
    ],
)
def test_the_picture_of_an_annotation_file(folder, file, named, found):
    assert folder.picture_of(file, named) == found


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/train/a b.jpg", ["labels/train/a b.txt", "images/train/a b.txt"]),
        ("images/images/a.jpg", ["images/labels/a.txt", "images/images/a.txt"]),
        ("obj_train_data/a.b.jpg", ["obj_train_data/a.b.txt"]),
        ("a.jpg", ["a.txt"]),
    ],
)
def test_where_labels_are(picture, labels):
    assert list(labels_of(picture)) == labels


def test_dots_and_drives_are_taken_off():
    assert plain_path("../../a/../b/c.jpg") == ("b", "c.jpg")
    assert plain_path("D:\\") == ()
