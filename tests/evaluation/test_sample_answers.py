"""Reading of samples that several measures share; tests of measures run the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testing_samples import gold_objects, objects, sample
from vlm_r1.errors import DataError
from vlm_r1.evaluation.sample_answers import choose_box, frames_of, read_box, read_objects, task_of
from vlm_r1.evaluation.sample_answers import gold_objects as gold_of
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import ImageFrame

A = (0.0, 0.0, 100.0, 100.0)


def test_code_runs_only_if_it_was_named_elsewhere():
    own = replace(sample("rec", [0, 0, 1, 1], ""), task="vlm_r1.tasks.rec:Rec")
    assert task_of(own) is None
    assert task_of(own, trusted="another:Task") is None
    assert isinstance(task_of(own, trusted=own.task), Rec)


def test_objects_and_boxes():
    answer = sample("ovd", gold_objects(("cat", A)), objects(("dog", A)))
    assert gold_of(answer) == (LabelledBox("cat", A),)
    assert read_objects(answer) == (LabelledBox("dog", A),)
    assert read_objects(sample("ovd", "None", "nonsense [")) == ()
    assert read_box(sample("rec", [0, 0, 1, 1], "[0, 0, 100, 100]")) == A
    assert read_box(replace(sample("rec", [0, 0, 1, 1], ""), answer={"bbox_2d": [0, 0, 100, 100], "image": 1})) == A
    assert read_box(sample("rec", [0, 0, 1, 1], "nowhere")) is None


def test_frames():
    assert frames_of(sample("vqa", "a", "a", input_size=(320, 240))) == (ImageFrame((640, 480), (320, 240)),)
    with pytest.raises(DataError, match=r"sample of record 'r[0-9]+' \(data.jsonl:1\): image_sizes are \[\(0, 480\)\]"):
        frames_of(replace(sample("vqa", "a", "a"), image_sizes=((0, 480),)))


@pytest.mark.parametrize("several", ["first", "last", "largest"])
def test_an_answer_with_one_box_has_that_box(several):
    answer = sample("rec", [0, 0, 1, 1], "[0, 0, 100, 100]")
    assert choose_box(answer, several, Rec()) == read_box(answer) == A


def test_of_equally_large_boxes_the_first():
    answer = sample("rec", [0, 0, 1, 1], "[0, 0, 100, 100] [5, 5, 105, 105]")
    assert choose_box(answer, "largest", Rec()) == A


def test_the_box_of_a_variant_lies_on_its_image():
    answer = replace(
        sample("rec", [0, 0, 1, 1], "[0, 0, 1000, 1000] or [1, 1, 2, 2]"),
        images=("a", "b"),
        image_sizes=((640, 480), (100, 100)),
        input_sizes=((640, 480), (100, 100)),
        box_format="norm_1000",
    )
    assert choose_box(answer, "first", Rec(image=1)) == A
    assert choose_box(answer, "first", Rec(image=0)) == (0.0, 0.0, 640.0, 480.0)
