"""Records to judged groups, with scripted answers: encode → sample → judge without a trained policy."""

from __future__ import annotations

import pytest

from vlm_r1.config.schema import DataSource
from vlm_r1.data.sources import load_sources
from vlm_r1.evaluation.protocol import Decoding
from vlm_r1.evaluation.runner import answer_records, summarize_evaluation
from vlm_r1.geometry.frames import format_coordinates, from_original
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.scripted import ScriptedSampler
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import Completion, StopReason

REWARDS = {"accuracy": 1.0, "format": 0.5}


@pytest.fixture
def records(rec_files):
    return load_sources([DataSource(path=str(rec_files["in_domain"]))])


@pytest.fixture
def env(adapter) -> Env:
    return Env(adapter, make_templates("bare"), REWARDS)


def perfect(env: Env, record) -> str:
    """The true box in the model's coordinates, as a model would write it."""
    (frame,) = env.encode(record).frames
    box = format_coordinates(from_original(tuple(record.answer), frame, env.adapter.box_format), env.adapter.box_format)
    return f"<think></think><answer>{box}</answer>"


def test_answers_are_judged_in_original_pixels(records, env, adapter) -> None:
    record = next(r for r in records if env.encode(r).frames[0].original_wh == (64, 60))  # seen as 56 × 56
    right = perfect(env, record)
    texts = [right, right.replace("<think></think>", ""), "<think></think><answer>[0, 0, 1, 1]</answer>", "no idea"]
    phases = Phases()
    params = SamplingParams(max_completion_length=64)
    sampler = ScriptedSampler([texts], adapter)
    (group,) = sample_groups([record], env, sampler, params, n=4, run_seed=0, phases=phases)
    scores = [rollout.score for rollout in group.rollouts]
    assert scores[0].parts["accuracy"] > 0.8  # rounded to whole pixels of the smaller image
    assert scores[0].answer == pytest.approx(record.answer, abs=0.6)
    assert [score.parts["format"] for score in scores] == [1, 0, 1, 0]
    assert scores[1].parts["accuracy"] == scores[0].parts["accuracy"]
    assert scores[2].parts["accuracy"] < 0.1
    assert [score.reason for score in scores] == [None, None, None, "no_answer_tag"]
    assert scores[0].reward == scores[0].parts["accuracy"] + 0.5
    assert phases.seconds.keys() == {"encode", "sample", "score"}


def test_a_text_over_the_cap_is_cut_and_says_so(records, env, adapter) -> None:
    sampler = ScriptedSampler([["<think>a long thought", "x"]], adapter)
    params = SamplingParams(max_completion_length=3)
    (group,) = sample_groups(records[:1], env, sampler, params, n=2, run_seed=0, phases=Phases())
    assert [r.completion.stop_reason for r in group.rollouts] == [StopReason.LENGTH, StopReason.STOP]
    assert [len(r.completion.ids_T) for r in group.rollouts] == [3, 2]


def test_evaluation_counts_what_it_should(records, env, adapter) -> None:
    texts = [[perfect(env, record)] for record in records[:8]] + [
        ["<answer>[1, 2, 3]</answer>"],
        ["?"],
        ["?"],
        ["?"],
    ]
    advanced: list[int] = []
    groups = answer_records(
        records,
        env,
        ScriptedSampler(texts, adapter),
        decoding=Decoding(max_completion_length=64),
        batch_size=5,
        advance=advanced.append,
    )
    assert advanced == [5, 5, 2]
    summary = summarize_evaluation(groups, name="x", data="in_domain.jsonl", step=0, seed=0)
    assert summary["metrics"]["accuracy_iou50"]["mean"] == pytest.approx(8 / 12)
    low, high = summary["metrics"]["accuracy_iou50"]["ci95"]
    assert low < 8 / 12 < high
    assert summary["format_rate"] == pytest.approx(8 / 12)
    assert summary["parse_failures"] == {"wrong_arity": 1, "no_answer_tag": 3}


def test_encoding_is_remembered_and_a_gold_answer_earns_full_marks(records, env, adapter) -> None:
    assert env.encode(records[0]) is env.encode(records[0])
    ids = env.gold_ids(records[0], env.encode(records[0]), adapter.tokenizer.eos_token_id)
    assert ids[-1] == adapter.tokenizer.eos_token_id
    completion = Completion.sampled(ids, (0.0,) * len(ids), adapter.decode(ids), StopReason.STOP)
    (score,) = env.judge([(records[0], env.encode(records[0]), completion)])
    assert score.parts["format"] == 1
