"""System messages and earlier turns on their way: the prompt, the model here and on a server, rewards, logs, scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from testing_openai_server import TinyModel, serve
from vlm_r1.api.show import show
from vlm_r1.curation.statistics import find_duplicates
from vlm_r1.errors import CheckpointError, DataError, ModelError
from vlm_r1.evaluation.runner import sample_rows
from vlm_r1.evaluation.samples import as_sample
from vlm_r1.report.answer_cards import card
from vlm_r1.report.groups import show_steps
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.rollouts.remote import RemoteModel
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path, write_rollouts
from vlm_r1.sampling import greedy
from vlm_r1.sampling.endpoint import Endpoint
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.sampling.scripted import ScriptedSampler
from vlm_r1.scoring.rows import judge_rows
from vlm_r1.scoring.settings import Scoring
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import Record, Turn

TURNS = (Turn("user", "<image>what is red?"), Turn("assistant", "the circle"))
BOX = [5, 100, 40, 150]


@pytest.fixture
def record(picture) -> Record:
    """A box on the tall picture of the question; the turn before shows a wide one."""
    images = (picture(84, 56, 1), picture(56, 168, 2))
    return Record("1", "rec", "<image>the square", images, BOX, source="a.jsonl:1", system="Be brief.", history=TURNS)


def env_of(adapter, **rewards: float) -> Env:
    return Env(adapter, make_templates("bare"), rewards or {"accuracy": 1.0})


def test_what_stands_before_is_part_of_what_is_remembered(record, adapter) -> None:
    env = env_of(adapter)
    others = [
        replace(record, system="Be kind."),
        replace(record, system=None),
        replace(record, history=(TURNS[0], Turn("assistant", "the square"))),
    ]
    ids = [env.encode(one).ids_L for one in (record, *others)]
    assert len(set(ids)) == 4
    assert env.encode(record).ids_L == ids[0]
    assert env.prompt_length(record) == len(ids[0])


def test_a_template_without_a_system_role_is_named_before_training(record, family_adapter) -> None:
    import copy

    adapter = copy.copy(family_adapter("qwen2_5_vl"))
    adapter.tokenizer = copy.deepcopy(adapter.tokenizer)
    whole = adapter.tokenizer.chat_template
    env = env_of(adapter)
    env.check_context([record])
    adapter.tokenizer.chat_template = whole.replace(
        "{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}"
    )
    env.check_context([replace(record, system=None)])
    with pytest.raises(ModelError, match=r"^a\.jsonl:1: the checkpoint's chat template does not write the system mess"):
        env.check_context([replace(record, system=None), record])
    # a text that stands there by chance, "user", does not hide that the template drops it
    with pytest.raises(ModelError, match=r"^a\.jsonl:1: .* the system message 'message 0 of this test'"):
        env.check_context([replace(record, system="user")])


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_a_server_is_asked_the_same(family, record, family_checkpoint, family_adapter, family_model64) -> None:
    env, params = env_of(family_adapter(family)), greedy(12)
    records = [record, replace(record, id="2", source="a.jsonl:2", system=None), replace(record, source="a.jsonl:3")]
    here = sample_groups(
        records, env, HFSampler(family_model64(family), env.adapter), params, n=1, run_seed=0, phases=Phases()
    )
    said: list[str] = []
    with serve(TinyModel(family_checkpoint(family))) as server:
        remote = RemoteModel(env, Endpoint(server.url, "tiny", concurrency=1), params, say=said.append)
        there = dict(remote.answer(records, range(3)))
    assert said == [], "the server counts the same tokens of the prompt"
    for place, group in enumerate(here):
        assert there[place].rollouts[0].completion.text == group.rollouts[0].completion.text


def told(prompts, completions, **columns):
    """A reward that wants all messages of the prompt."""
    return [float([m["role"] for m in prompt] == ["system", "user", "assistant", "user"]) for prompt in prompts]


@pytest.fixture
def group(record, adapter):
    """One answer, the gold box as the model sees it, and its rewards."""
    env = env_of(adapter, **{"accuracy": 1.0, f"{__name__}:told": 1.0})
    text = env.gold_text(record, env.encode(record))
    sampler = ScriptedSampler([[text]], adapter)
    (made,) = sample_groups([record], env, sampler, greedy(64), n=1, run_seed=0, phases=Phases())
    return made


def test_rewards_of_trl_get_all_messages(group) -> None:
    assert group.rollouts[0].score.parts[f"{__name__}:told"] == 1.0
    assert group.rollouts[0].score.parts["accuracy"] > 0.8


def test_logs_hold_them_and_are_scored_and_shown_again(group, record, tmp_path: Path) -> None:
    path = rollouts_path(tmp_path, 1)
    write_rollouts(path, 1, [group])
    (row,) = read_rollouts(path)
    assert list(row.context) == record.context
    (steps, _) = show_steps({1: path})
    (shown,) = steps[0].groups
    assert shown.context is not None
    assert shown.context.head == "system: Be brief.\nuser: what is red?\nassistant: the circle"
    assert [len(image.boxes) for image in shown.images] == [0, 2], "gold and answer lie on the question's image"

    (line,) = sample_rows(group)
    sample = as_sample(line, "x:1")
    assert list(sample.context) == record.context
    assert sample.record().question_images == record.images[1:]
    for logged in (line, vars(row)):
        (score,) = judge_rows([("x:1", logged)], Scoring())
        assert not isinstance(score, str), score
        assert score.parts["accuracy"] == pytest.approx(group.rollouts[0].score.parts["accuracy"])
    drawn = show(sample)
    assert drawn.lines[:3] == ("system: Be brief.", "user: <image>what is red?", "assistant: the circle")
    assert drawn.image is not None

    for broken in ({"role": "tool", "content": "7"}, "Be brief."):
        with pytest.raises(DataError, match='"context" is'):
            as_sample({**line, "context": [broken]}, "x:1")
        (why,) = judge_rows([("x:1", {**line, "context": [broken]})], Scoring())
        assert "wanted a list of messages with role and content" in str(why)


def test_an_answer_card_shows_them(group, tmp_path: Path) -> None:
    from vlm_r1.config.data import DataSource
    from vlm_r1.data.image_paths import image_paths

    (line,) = sample_rows(group)
    places = image_paths(DataSource(path=str(tmp_path / "a.jsonl")))
    made = card("1", {"": as_sample(line, "x:1")}, "iou", places)
    assert made.context is not None
    assert made.context.head.startswith("system: Be brief.")
    assert [len(image.boxes) for image in made.views[0].images] == [0, 2]


def test_a_damaged_context_is_named(group, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rollouts_path(tmp_path, 1)
    write_rollouts(path, 1, [group])
    table = pq.read_table(path)
    place = table.schema.get_field_index("context")
    pq.write_table(table.set_column(place, "context", pa.array(['[{"role": "tool"}]'])), path)
    with pytest.raises(CheckpointError, match=r"context is .* wanted a list of role and content"):
        read_rollouts(path)
    pq.write_table(table.drop_columns(["context"]), path)
    assert read_rollouts(path)[0].context == (), "files of earlier versions have none"


def test_the_same_question_after_other_turns_is_another_record(record) -> None:
    other = replace(record, id="2", history=(Turn("user", "<image>what is blue?"), TURNS[1]))
    assert find_duplicates([record, other], {}) == []
    assert len(find_duplicates([record, replace(record, id="2")], {})) == 1
