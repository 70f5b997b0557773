"""What the tools have in common: splits, names of categories, and pictures that stand twice."""

from pathlib import Path

import pytest

from vlm_r1.converters import Job
from vlm_r1.converters.categories import SEVERAL
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.labelled import Labelled, LabelledOptions, Labels, labelled_conversion, of_split, split_of
from vlm_r1.errors import DataError

BOX = (10, 20, 110, 220)


@pytest.fixture
def made(tmp_path, picture_file):
    """`made(Labelled(…), …, names=[…], mode="all")`: the job and its lines, of pictures in one folder."""
    for name in ("a.jpg", "b.jpg"):
        picture_file(tmp_path / name)

    def make(*pictures, names=(), **options):
        job = Job(tmp_path, tmp_path / "out.jsonl")
        conversion = labelled_conversion(job, LabelledOptions(**options), Labels(pictures, [tmp_path], names))
        return job, list(conversion.lines)

    return make


def test_names_that_differ_in_case_and_spaces_are_one(made):
    objects = [CocoObject("Traffic  Light", BOX), CocoObject("traffic light", (0, 0, 9, 9))]
    job, (line,) = made(Labelled("a.jpg", objects), names=["cat", "traffic light"], mode="all")
    assert line.extra["targets"] == ["cat", "traffic light"]
    assert len(line.answer) == 2
    assert job.tally.notes["categories whose names differ in case and spaces only are one"] == 1


def test_a_picture_that_stands_twice_has_only_some_of_its_boxes(made):
    cat = CocoObject("cat", BOX)
    job, lines = made(Labelled("a.jpg", [cat]), Labelled("./a.jpg", [cat]), Labelled("b.jpg", [cat]))
    assert [line.image for line in lines] == ["b.jpg"]
    assert sum(job.tally.dropped.values()) == 2


def test_fractions_are_of_the_picture(made):
    _, (line,) = made(Labelled("a.jpg", [CocoObject("cat", (0.5, 0.25, 1, 0.5))], fractions=True))
    assert line.answer == [{"bbox_2d": [320, 120, 640, 240], "label": "cat"}]  # of 640x480


def test_rec_leaves_out_what_stands_several_times(made):
    objects = [CocoObject("cat", BOX), CocoObject("cat", (0, 0, 9, 9)), CocoObject("dog", BOX)]
    job, (line,) = made(Labelled("a.jpg", objects), task="rec")
    assert (line.id, line.question, line.answer) == ("a.jpg-dog", "dog", list(BOX))
    assert job.tally.dropped["box", f"{SEVERAL} (task rec)"] == 2


@pytest.mark.parametrize(
    ("splits", "wanted", "found"),
    [
        pytest.param([("train",), ("train",)], None, [0, 1], id="only one"),
        pytest.param([(), ()], None, [0, 1], id="none"),
        pytest.param([("train",), ("val",)], "valid", [1], id="by another name"),
        pytest.param([("train", "trainval"), ("val", "trainval")], "trainval", [0, 1], id="in two splits"),
        pytest.param([("train",), ()], "all", [0, 1], id="all"),
        pytest.param(
            [("train",), ("val",)], None, r"train \(1 picture\), val \(1 picture\). Choose one", id="not chosen"
        ),
        pytest.param([("train",), ()], None, r"train \(1 picture\), \(none\) \(1 picture\)", id="some in none"),
        pytest.param([("train",), ()], "test", "no picture is in the split 'test'", id="not there"),
        pytest.param([], None, "no pictures with labels", id="nothing"),
    ],
)
def test_splits(splits, wanted, found):
    items, job = list(range(len(splits))), Job(Path("x"), Path("y"))
    if isinstance(found, list):
        assert of_split(items, splits, wanted, job) == found
        assert job.tally.dropped["image", "of another split"] == len(splits) - len(found)
    else:
        with pytest.raises(DataError, match=found):
            of_split(items, splits, wanted, job)


def test_the_first_folder_named_like_a_split():
    assert split_of("Validation/train/a.jpg") == ("val",)
    assert split_of("training.jpg") == ()
