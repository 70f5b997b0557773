"""`vlm_r1.show` draws truth and answers where they are, and takes every form of an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageColor

import vlm_r1
from vlm_r1.api.show import ANSWERS, TRUTH
from vlm_r1.errors import DataError
from vlm_r1.evaluation.samples import Sample, as_sample

ROW = {
    "record_id": "7",
    "source": "a.jsonl:7",
    "task": "rec",
    "problem": "<image>the <b>dog</b>",
    "image_sizes": [[400, 400]],
    "input_sizes": [[400, 400]],
    "gold": [10, 20, 110, 220],
    "text": "\x1b[31mI see [200, 200, 300, 300]",
    "answer": [200.0, 200.0, 300.0, 300.0],
    "reason": None,
    "reward": 0.5,
    "parts": {},
    "metrics": {"iou": 0.0},
    "tokens": 9,
    "stop_reason": "stop",
}


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    path = tmp_path / "white.png"
    Image.new("RGB", (400, 400), "white").save(path)
    return as_sample({**ROW, "images": [str(path)]}, "")


def is_drawn(image: Image.Image, place: tuple[int, int], colour: str) -> bool:
    return image.getpixel(place) == ImageColor.getrgb(colour)


def test_truth_and_answer_are_drawn_where_they_are(sample: Sample, tmp_path: Path) -> None:
    shown = vlm_r1.show(sample)
    assert is_drawn(shown.image, (10, 100), TRUTH)
    assert is_drawn(shown.image, (110, 100), TRUTH)
    assert is_drawn(shown.image, (200, 250), ANSWERS[0])
    assert not is_drawn(shown.image, (150, 100), TRUTH)
    shown.save(tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as saved:
        assert saved.size == (400, 400)


def test_hostile_text_is_only_shown(sample: Sample) -> None:
    page = vlm_r1.show(sample)._repr_html_()
    assert "&lt;b&gt;dog" in page
    assert "<b>" not in page
    assert "\x1b" not in page + str(vlm_r1.show(sample))


def test_small_pictures_are_enlarged_with_their_boxes(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    Image.new("RGB", (40, 40), "white").save(path)
    small = as_sample(
        {**sample.row, "images": [str(path)], "gold": [1, 2, 11, 22], "answer": None, "reason": "no_box"}, ""
    )
    shown = vlm_r1.show(small)
    assert shown.image.size == (320, 320)
    assert is_drawn(shown.image, (8, 80), TRUTH)
    assert "not read: no_box" in str(shown)


def test_a_point_and_a_picture_that_is_gone(sample: Sample) -> None:
    gone = as_sample({**sample.row, "images": ["/nowhere/a.png"], "answer": [30.0, 40.0]}, "")
    shown = vlm_r1.show(gone)
    assert shown.image.getpixel((300, 300)) == ImageColor.getrgb("lightgrey")
    assert is_drawn(shown.image, (30, 40), ANSWERS[0])


def test_texts_without_pictures(sample: Sample, tmp_path: Path) -> None:
    text = as_sample({**sample.row, "images": [], "image_sizes": [], "input_sizes": [], "gold": "4", "answer": "5"}, "")
    shown = vlm_r1.show(text)
    assert shown.image is None
    assert "truth: 4" in str(shown)
    with pytest.raises(DataError, match="no picture"):
        shown.save(tmp_path / "a.png")


def test_rows_of_frames_and_several_answers(sample: Sample) -> None:
    frame = pd.DataFrame([dict(sample.row), {**sample.row, "answer": None, "text": "?"}])
    assert str(vlm_r1.show(frame.iloc[0])) == str(vlm_r1.show(sample))
    both = vlm_r1.show(frame)
    assert both.colours == ("", TRUTH, ANSWERS[0], ANSWERS[1])
    assert str(vlm_r1.show([sample, dict(sample.row)])).count("answer: ") == 2


def test_what_cannot_be_shown(sample: Sample) -> None:
    with pytest.raises(DataError, match="belong to 2 records, 7, 8"):
        vlm_r1.show([sample, replace(sample, row={**sample.row, "record_id": "8"})])
    with pytest.raises(DataError, match="got int; wanted a sample"):
        vlm_r1.show(7)
    with pytest.raises(DataError, match="at least one answer"):
        vlm_r1.show([])
