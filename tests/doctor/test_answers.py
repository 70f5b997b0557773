"""Counts of answers: by hand, and the same from groups, rollout files and samples."""

from __future__ import annotations

import pytest

from vlm_r1.doctor.answers import Answered, Answers, count, of_groups, of_rows, of_samples, pool
from vlm_r1.doctor.boxes import MOST_BOXES, boxes_in, overlaps
from vlm_r1.evaluation.runner import sample_rows
from vlm_r1.evaluation.samples import as_sample
from vlm_r1.runtime.rollout_log import read_rollouts, write_rollouts
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, Score, StopReason

FRAME = ImageFrame((100, 50), (200, 100))


def answered(text, record="0", right=False, reason=None, answer=None, gold=None, frames=(), box_format=""):
    return Answered(record, text, answer, reason, right, gold, frames, box_format)


def test_answers_are_counted_as_they_were_written():
    found = count(
        [
            answered("<think>a</think><answer>None</answer>", "0", right=True),
            answered("<think>b</think><answer> None\n</answer>", "1"),
            answered("None", "1"),
            answered("<answer>[1, 2]</answer>", "2"),
            answered("<answer>", "2", reason="no_answer_tag"),
        ]
    )
    assert (found.n, found.records, found.common) == (5, 3, {"None": 3, "[1, 2]": 1})
    assert (found.right, found.unread) == ({"None": 1, "[1, 2]": 0}, {"no_answer_tag": 1})


def test_counts_are_added():
    one = Answers(4, 2, {"a": 3}, {"a": 1}, {"x": 1}, 5, 6, 2, {"norm_1": 0.5}, "norm_1")
    two = Answers(2, 1, {"a": 1, "b": 1}, {"b": 1}, {}, 1, 1)
    assert pool([one, two]) == Answers(
        6, 3, {"a": 4, "b": 1}, {"a": 1, "b": 1}, {"x": 1}, 6, 7, 2, {"norm_1": 0.5}, "norm_1"
    )
    assert pool([]) == Answers() == count([])


@pytest.mark.parametrize(
    ("answer", "n"),
    [
        ([1, 2, 3, 4], 1),
        ([{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "dog"}], 2),
        ([[1, 2, 3, 4], [1, 2, 3]], 1),
        ([], 0),
        (None, 0),
        ("[1, 2, 3, 4]", 0),
        ([1, 2, 3, 1e300], 0),
        ([True, 2, 3, 4], 0),
        ({"bbox_2d": [1, 2, 3, "4"]}, 0),
    ],
)
def test_boxes_of_an_answer(answer, n):
    assert len(boxes_in(answer)) == n


@pytest.mark.parametrize("written", list(BoxFormat))
@pytest.mark.parametrize("read", [BoxFormat.INPUT_PIXELS, BoxFormat.NORM_1000])
def test_a_box_in_other_coordinates_is_recognised(written, read):
    # the true box is written as one format, and read as another: only the right one gives IoU 1
    from vlm_r1.geometry.frames import from_original, to_original

    gold = (10.0, 5.0, 30.0, 45.0)
    misread = to_original(from_original(gold, FRAME, written), FRAME, read)
    found = overlaps([misread], [gold], FRAME, read)
    assert found[written.value] == pytest.approx(1)
    assert (len(found) == 1) == (written is read), "the other ways are tried only where the boxes do not fit"
    assert max(found, key=found.__getitem__) == written.value


def test_a_true_box_without_a_box_near_it_counts_as_0():
    # the first true box is met exactly, the second by none: (1 + 0) / 2
    found = overlaps([(0, 0, 10, 10)], [(0, 0, 10, 10), (20, 20, 30, 30)], FRAME, BoxFormat.ORIGINAL_PIXELS)
    assert found["original_pixels"] == 0.5


def test_a_thousand_boxes_cost_no_more_than_a_few():
    many = [(50, 40, 51, 41)] * MOST_BOXES + [(0, 0, 10, 10)]
    assert overlaps(many, [(0, 0, 10, 10)], FRAME, BoxFormat.ORIGINAL_PIXELS)["original_pixels"] == 0


def group(number, answers, task="rec", gold=(10, 5, 30, 45)):
    record = Record(str(number), task, "the cat", ("/a.png",), list(gold), source=f"train.jsonl:{number}")
    encoded = EncodedPrompt((1,), {}, (FRAME,), "the cat", template="bare", box_format=BoxFormat.INPUT_PIXELS)
    rollouts = []
    for answer, accuracy, reason in answers:
        score = Score(accuracy, {"accuracy": accuracy}, answer, reason, {"iou": accuracy})
        text = f"<answer>{answer}</answer>"
        rollouts.append(Rollout(Completion.sampled((1,), (0.0,), text, StopReason.STOP), score))
    return Group(record, encoded, tuple(rollouts))


GROUPS = [
    group(1, [([10.0, 5.0, 30.0, 45.0], 1.0, None), ([5.0, 2.5, 15.0, 22.5], 0.1, None)]),
    group(2, [(None, 0.0, "no_box"), ([10.0, 5.0, 30.0, 45.0], 1.0, None)]),
]


def test_groups_files_and_samples_give_the_same_counts(tmp_path):
    found = count(of_groups(GROUPS))
    assert (found.n, found.records, found.boxes, found.gold_boxes) == (4, 2, 3, 3)
    assert found.common == {"[10.0, 5.0, 30.0, 45.0]": 2, "[5.0, 2.5, 15.0, 22.5]": 1}
    assert found.right == {"[10.0, 5.0, 30.0, 45.0]": 2, "[5.0, 2.5, 15.0, 22.5]": 0}
    assert (found.located, found.box_format) == (3, "input_pixels")
    write_rollouts(tmp_path / "step-000001.parquet", 1, GROUPS)
    assert count(of_rows(read_rollouts(tmp_path / "step-000001.parquet"))) == found
    samples = [as_sample(row, "x") for one in GROUPS for row in sample_rows(one)]
    assert count(of_samples(samples)) == found


def test_a_file_names_no_code(tmp_path):
    write_rollouts(
        tmp_path / "step-000001.parquet", 1, [group(1, [([1.0, 2.0, 3.0, 4.0], 1.0, None)], task="os:getcwd")]
    )
    found = count(of_rows(read_rollouts(tmp_path / "step-000001.parquet")))
    assert (found.n, found.boxes, found.located) == (1, 0, 0)
