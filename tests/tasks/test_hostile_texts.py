"""Whatever a model writes is judged: it never raises, stays in range, and takes time linear in its length."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_tasks import GOLD
from vlm_r1.parsing.tags import TAGS
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import TEMPLATES
from vlm_r1.types import BoxFormat, ImageFrame, Record

FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(1280, 960)),)


def _judge(text, record, template, box_format=BoxFormat.INPUT_PIXELS):
    attempt = Attempt(text, record, FRAMES, get_task(record.task), TEMPLATES[template])
    return judge([attempt], box_format, {"accuracy": 1.0, "format": 0.5})[0]


hostile = st.lists(
    st.sampled_from(
        [
            *TAGS,
            "[1, 2, 3, 4]",
            "(1, 2)",
            '{"bbox_2d": [',
            "(B)",
            "yes",
            "no",
            "NaN",
            "Infinity",
            "1e999",
            '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]',
            "None",
            "\\frac{",
            "$",
            "^",
            "3",
            "]",
            "[",
            "```json",
            "<box>",
            "\0",
            "\ud800",
            " ",
        ]
    ),
    max_size=16,
).map("".join)


@pytest.mark.parametrize("task", TASKS)
@settings(deadline=None)
@given(
    text=st.one_of(st.text(), hostile),
    template=st.sampled_from(sorted(TEMPLATES)),
    box_format=st.sampled_from(BoxFormat),
)
def test_any_text_is_scored(task, text, template, box_format):
    record = Record("1", task, "<image>?", ("a.png",), GOLD[task], source="f.jsonl:7")
    for completion in (text, f"<answer>{text}</answer>", f"<think>{text}</think><answer>{text}</answer>"):
        score = _judge(completion, record, template, box_format)
        assert set(score.parts) == {"accuracy", "format"}
        assert all(0.0 <= part <= 1.0 for part in score.parts.values())
        assert all(0.0 <= number <= 1.0 for number in score.metrics.values())
        assert score.metrics.keys() == get_task(task).metrics(None, get_task(task).gold(record)).keys()
        assert (score.answer is None) == (score.reason is not None)
        if score.reason is not None:
            assert score.reward == 0.0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(piece, id=name)
        for name, piece in {
            "brackets": "[",
            "angle_brackets": "<",
            "spaces": " ",
            "opened_thoughts": "<think>",
            "closed_thoughts": "</think>",
            "opened_answers": "<answer>",
            "closed_answers": "</answer>",
            "whole_completions": "<think></think><answer>[1, 2, 3, 4]</answer>",
            "digits": "9",
        }.items()
    ],
)
def test_two_megabytes_in_under_a_second(task, piece):
    text = piece * (2_000_000 // len(piece))
    record = Record("1", task, "<image>?", ("a.png",), GOLD[task], source="f.jsonl:7")
    _judge("1 + 1", record, "direct")  # the helper process of mathematics takes two seconds to start
    start = time.process_time()
    _judge(text, record, "direct")
    _judge(f"<think></think><answer>{text}</answer>", record, "r1")
    assert time.process_time() - start < 1.0  # for the two; some 20 ms
