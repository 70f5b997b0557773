"""What a function of TRL's signature is handed, and what it may return, beside TRL 1.16's own `_calculate_rewards`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import PartialState
from transformers import TrainerState as TransformersState
from trl.trainer import grpo_trainer

from vlm_r1.config.schema import DataSource
from vlm_r1.data.rows import RowReader
from vlm_r1.errors import RewardError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput, TrainerState
from vlm_r1.rewards.call import evaluate, resolve_reward
from vlm_r1.types import ImageFrame, Record, Thinking

FRAMES = (ImageFrame((640, 480), (644, 476)),)
STATE = TrainerState(global_step=3, max_steps=10)


def record_of(line: dict[str, Any], n: int = 1) -> Record:
    found = RowReader(DataSource(path="f.jsonl", task="vqa"), "auto", None).read(json.dumps(line).encode(), n)
    assert isinstance(found, Record), found
    return found


def given(text: str = "a", line: dict[str, Any] | None = None, ids: tuple[int, ...] | None = (7, 8, 9), n: int = 1):
    record = record_of({"problem": "?", "answer": "x"} if line is None else line, n)
    frames = FRAMES[: len(record.images)]
    return RewardInput(
        text, split_tags(text), Thinking.FREE, None, "x", frames, record, completion_ids=ids, trainer_state=STATE
    )


def called(function, *givens, logged=None):
    return evaluate("mine", resolve_reward("mine", {"mine": function}), givens or (given(),), logged)


def received(*givens) -> dict[str, Any]:
    """All that a function is handed."""
    seen: list[dict[str, Any]] = []

    def look(completions, **columns):
        seen.append({"completions": completions, **columns})
        return [0.0] * len(completions)

    called(look, *givens)
    (one,) = seen
    return one


LINES = [
    {
        "id": 17,
        "image": "a.jpg",
        "conversations": [
            {"from": "human", "value": "<image>How many?"},
            {"from": "gpt", "value": "<think>two</think><answer>2</answer>"},
        ],
        "accu_reward_method": "exact_match",
        "difficulty": 0.25,
    },
    {"problem": "How many?", "solution": "<answer> 3 </answer>", "images": ["a.jpg"], "task": "count"},
    {"problem": "How many?", "answer": 4, "images": ["a.jpg", "b.jpg"], "ground_truth": {"n": 4}},
    {
        "messages": [{"role": "user", "content": "<image>How many?"}, {"role": "assistant", "content": "2"}],
        "images": ["a.jpg"],
        "options": ["1", "2"],
    },
    {"prompt": [{"role": "user", "content": "How many?"}], "solution": "2", "problem_type": None},
]


@pytest.mark.parametrize("line", LINES, ids=["vlm_r1", "r1_v", "easy_r1", "messages", "prompt"])
def test_every_key_of_the_line_is_a_column_as_it_stands_in_the_file(line):
    handed = received(given(line=line), given(line=line))
    for key, value in line.items():
        if key != "prompt":  # as in TRL: it is `prompts`
            assert handed[key] == [value, value], key
    if "prompt" in line:
        assert handed["prompts"] == [line["prompt"]] * 2


def test_what_a_line_lacks_is_there_under_the_usual_names():
    handed = received(given(line=LINES[0]))
    assert handed["solution"] == ["2"]  # without tags: the line has no key solution, so this is the gold answer read
    assert handed["problem"] == ["<image>How many?"]
    assert [path[0].endswith("/a.jpg") for path in handed["image_path"]] == [True]
    assert handed["images"] == handed["image_path"]
    assert (handed["image_size"], handed["model_input_size"]) == ([[[640, 480]]], [[[644, 476]]])
    assert received(given(line=LINES[1]))["id"] == ["1"]


def test_a_column_that_some_records_lack_is_none_there():
    handed = received(given(line=LINES[0]), given(line=LINES[1]))
    assert (handed["difficulty"], handed["task"]) == ([0.25, None], [None, "count"])
    assert handed["solution"] == ["2", "<answer> 3 </answer>"]


def trls(function, lines, prompts, completions, ids):
    """TRL's own method on a trainer that has just the attributes it reads; returns its rewards, (N, 1)."""
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True),
        reward_funcs=[function],
        reward_processing_classes=[None],
        reward_func_names=["mine"],
        state=TransformersState(global_step=3, max_steps=10),
        environments=None,
        _pending_extra_logs=defaultdict(list),
        _pending_metrics=defaultdict(list),
    )
    trainer._log_completion_extra = lambda *a: grpo_trainer.GRPOTrainer._log_completion_extra(trainer, *a)
    trainer._log_metric = lambda *a: grpo_trainer.GRPOTrainer._log_metric(trainer, *a)
    rewards = grpo_trainer.GRPOTrainer._calculate_rewards(trainer, lines, prompts, completions, ids)
    return rewards, trainer


@pytest.fixture
def trl_alone(monkeypatch):
    """TRL's method without its profiler."""
    PartialState(cpu=True)
    monkeypatch.setattr(grpo_trainer, "profiling_context", lambda *_: nullcontext())


@pytest.mark.parametrize("plain", [False, True], ids=["conversational", "plain"])
def test_a_function_is_handed_what_trl_hands_it(plain, trl_alone):
    prompt = "How many?" if plain else [{"role": "user", "content": "How many?"}]
    lines = [{"prompt": prompt, "solution": "<answer>2</answer>", "level": n, "id": n} for n in range(2)]
    seen = []

    def look(prompts, completions, completion_ids, trainer_state, log_metric, log_extra, **columns):
        seen.append((prompts, completions, completion_ids, dict(columns)))
        seen.append((trainer_state.global_step, trainer_state.max_steps))
        log_metric("half", 0.5)
        log_extra("level", columns["level"])
        return [None, 1.0]

    texts, ids = ["a", "bc"], [[1], [2, 3]]
    completions = texts if plain else [[{"role": "assistant", "content": text}] for text in texts]
    theirs, trainer = trls(look, lines, [prompt] * 2, completions, ids)
    givens = [
        given(text, line, tuple(own), n) for n, (text, line, own) in enumerate(zip(texts, lines, ids, strict=True))
    ]
    logged: dict[str, list[float]] = {}
    ours = called(look, *givens, logged=logged)
    (trl_data, trl_state, our_data, our_state) = seen
    assert our_data[:3] == trl_data[:3]
    assert our_state == trl_state == (3, 10)
    assert our_data[3].items() >= trl_data[3].items()
    assert [math.nan if value is None else value for value in ours] == pytest.approx(theirs[:, 0].tolist(), nan_ok=True)
    assert logged == dict(trainer._pending_metrics) == {"half": [0.5]}
    assert [one.extra["level"] for one in givens] == trainer._pending_extra_logs["level"] == [0, 1]


def test_plain_and_conversational_lines_are_handed_over_apart():
    seen = []

    def look(completions, **columns):
        seen.append(completions)
        return [float(len(seen))] * len(completions)

    lines = [{"prompt": "How many?", "answer": "2"}, {"problem": "How many?", "answer": "2"}]
    assert called(look, given("a", lines[0]), given("b", lines[1]), given("c", lines[0])) == [1.0, 2.0, 1.0]
    assert seen == [["a", "c"], [[{"role": "assistant", "content": "b"}]]]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        pytest.param([1, 0.5], [1.0, 0.5], id="numbers"),
        pytest.param((True, False), [1.0, 0.0], id="tuple_of_bools"),
        pytest.param([None, 1.0], [None, 1.0], id="none_leaves_out"),
        pytest.param([math.nan, 1.0], [None, 1.0], id="nan_leaves_out"),
        pytest.param([None, None], [None, None], id="none_everywhere"),
        pytest.param([np.float32(0.5), np.int64(2)], [0.5, 2.0], id="numpy_numbers"),
        pytest.param([np.bool_(True), np.array(0.5)], [1.0, 0.5], id="numpy_bool_and_0d_array"),
        pytest.param(np.array([0.5, np.nan]), [0.5, None], id="numpy_array"),
        pytest.param(np.array([True, False]), [1.0, 0.0], id="numpy_array_of_bools"),
        pytest.param(torch.tensor([0.5, 1.0]), [0.5, 1.0], id="tensor"),
        pytest.param(torch.tensor([0.5, 1.0], requires_grad=True), [0.5, 1.0], id="tensor_with_gradient"),
        pytest.param(torch.tensor([1, 0], dtype=torch.bool), [1.0, 0.0], id="tensor_of_bools"),
        pytest.param([torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor([1.0])], [0.5, 1.0], id="list_of_tensors"),
        pytest.param((value for value in (0.5, 1.0)), [0.5, 1.0], id="generator"),
    ],
)
def test_numbers_of_every_kind(returned, expected):
    assert called(lambda completions, **columns: returned, given(), given()) == expected


@pytest.mark.parametrize(
    "returned",
    [
        pytest.param(["1", 1.0], id="text"),
        pytest.param([math.inf, 1.0], id="infinite"),
        pytest.param([[0.5], [1.0]], id="nested"),
        pytest.param([np.array([0.5, 1.0]), 1.0], id="array_of_two"),
        pytest.param([1j, 1.0], id="complex"),
        pytest.param(np.array([[0.5], [1.0]]), id="column_array"),
    ],
)
def test_what_is_no_number_is_refused(returned):
    with pytest.raises(ValueError, match=r'^f\.jsonl:1: reward "mine" returned .*; wanted a finite number'):
        called(lambda completions, **columns: returned, given(), given())


def test_an_async_function_may_leave_out_too():
    async def look(completions, **columns):
        return [None, 0.5]

    assert called(look, given(), given()) == [None, 0.5]


def test_our_own_signature_leaves_nothing_out_since_a_forgotten_return_gives_none_too():
    with pytest.raises(ValueError, match="returned None; wanted a finite number"):
        called(lambda given: None)


# ---- token ids, the trainer's state, logs ---------------------------------------------------------------------------


def test_token_ids_are_asked_for_and_missing():
    def by_length(completion_ids, **columns):
        return [float(len(ids)) for ids in completion_ids]

    assert called(by_length, given(ids=(1, 2)), given(ids=(1,))) == [2.0, 1.0]
    with pytest.raises(
        RewardError, match=r'^f\.jsonl:1: reward "mine" takes completion_ids, but .* without a tokenizer'
    ):
        called(by_length, given(ids=(1, 2)), given(ids=None))
    assert called(lambda completions, **columns: [float("completion_ids" in columns)], given(ids=None)) == [0.0]


def test_each_moment_of_training_is_a_call_of_its_own():
    """As in rollouts of several steps that are scored again."""
    early, late = given("a"), given("b")
    object.__setattr__(late, "trainer_state", TrainerState(9, 10))
    assert called(
        lambda trainer_state, completions, **columns: [float(trainer_state.global_step)] * len(completions),
        *(early, late, early),
    ) == [3.0, 9.0, 3.0]


def test_extras_become_what_json_knows():
    def look(completions, log_extra, **columns):
        log_extra("number", np.array([1.5, 2.5]))
        log_extra("tensor", [torch.tensor(1), torch.tensor(2)])
        log_extra("object", [object, {"a": [1]}])
        return [0.0] * len(completions)

    givens = [given(), given()]
    called(look, *givens)
    assert givens[0].extra == {"number": 1.5, "tensor": 1, "object": "<class 'object'>"}
    assert givens[1].extra == {"number": 2.5, "tensor": 2, "object": {"a": [1]}}


@pytest.mark.parametrize(
    ("log", "message"),
    [
        pytest.param(lambda m, e: m("n", "high"), r'log_metric\("n", \'high\'\): wanted a number', id="metric"),
        pytest.param(lambda m, e: e("n", [1]), r"log_extra.*1 values for 2 completions", id="extra"),
    ],
)
def test_what_cannot_be_logged_is_told(log, message):
    def look(completions, log_metric, log_extra, **columns):
        log(log_metric, log_extra)
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match=message):
        called(look, given(), given())


def test_data_cannot_take_the_place_of_the_protocol_or_of_an_option():
    """A key of a line is a column, whatever it is called; what the recipe says stays."""
    line = {"problem": "?", "answer": "x", "completions": "mine", "trainer_state": 1, "log_metric": 1, "scale": 100}

    def look(completions, trainer_state, log_metric, *, scale=1.0, **columns):
        assert trainer_state == STATE
        assert callable(log_metric)
        return [scale * (completions[0][0]["content"] == "a")]

    reward = resolve_reward("mine(scale=2.0)", {"mine": look})
    assert evaluate("mine", reward, [given(line=line)]) == [2.0]
