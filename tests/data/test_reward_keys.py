"""Keys of other projects that name a row's reward: read, refused by name, or said to be unused."""

import json

import pytest

from vlm_r1.config import DataSource
from vlm_r1.config.data import Allowed
from vlm_r1.curation.data_check import check_data
from vlm_r1.data.formats import AUTO
from vlm_r1.data.reward_keys import REWARD_KEYS, unused_reward_keys
from vlm_r1.data.rows import Problem, RowReader
from vlm_r1.data.sources import load_sources
from vlm_r1.official import OFFICIAL
from vlm_r1.rewards import REWARDS
from vlm_r1.tasks.templates import get_template
from vlm_r1.training.data_lines import reward_lines
from vlm_r1.types import Record

QA = {"problem": "?", "answer": "a"}
VERL = {
    "data_source": "hiyouga/geometry3k",
    "prompt": [{"role": "user", "content": "How many?"}],
    "reward_model": {"style": "rule", "ground_truth": "1"},
}
TURNS = {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a"}]}
LAYOUTS = [pytest.param(one, id=name) for name, one in {"qa": QA, "verl": VERL, "vlm_r1": TURNS}.items()]


def read(row, allowed=(), **source):
    settings = DataSource(path="x.jsonl", task="vqa", **source)
    reader = RowReader(settings, AUTO, None, allowed=Allowed(allowed_rewards=list(allowed)))
    found = reader.read(json.dumps(row).encode(), 7)
    assert isinstance(found, Record | Problem)
    return found


def refused(row, **settings):
    found = read(row, **settings)
    assert isinstance(found, Problem), found
    assert found.source == "x.jsonl:7"
    return found.message


@pytest.mark.parametrize("key", REWARD_KEYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_of_ours_becomes_the_reward(key, layout):
    for name in ("mcq", "od_length", "iou_threshold(at=0.75)"):
        found = read({**layout, key: name}, reward="exact_match")
        assert found.reward == name
        assert found.columns[key] == name  # it stays there for people's own rewards


@pytest.mark.parametrize("key", REWARD_KEYS)
def test_another_name_is_refused_with_the_closest(key):
    message = refused({**QA, key: "exact_mach"})
    assert message.startswith(f'"{key}" names the reward (if it means something else, rename it')
    assert 'unknown reward "exact_mach". Did you mean "exact_match"?' in message


@pytest.mark.parametrize("key", REWARD_KEYS)
def test_a_row_names_no_code(key):
    message = refused({**QA, key: "subprocess:Popen"})
    assert "is code, and data may not run code that only the data names" in message
    assert refused({**QA, key: "my.rewards:Judge"}, allowed=["my.rewards:Other"]) == message.replace(
        "subprocess:Popen", "my.rewards:Judge"
    )
    assert read({**QA, key: "my.rewards:Judge"}, allowed=["my.rewards:Judge"]).reward == "my.rewards:Judge"


@pytest.mark.parametrize("name", sorted(set(OFFICIAL) & set(REWARDS)))
def test_every_name_of_the_original_that_we_have(name):
    assert read({**QA, "reward_type": name}).reward == name


ODD = [
    pytest.param({"reward_type": 2}, '"reward_type" is 2, wanted the name of a reward, or no such key', id="number"),
    pytest.param({"reward_fn": ["iou"]}, '"reward_fn" is [', id="list"),
    pytest.param({"reward_method": {"a": 1}}, '"reward_method" is {', id="object"),
    pytest.param({"reward_method": True}, '"reward_method" is true', id="boolean"),
    pytest.param({"reward_type": "IoU "}, 'unknown reward "IoU "', id="white space and capitals"),
    pytest.param({"reward_type": "і" + "ou"}, r"unknown reward \"\u0456ou\"", id="a letter that looks like i"),
    pytest.param({"reward_type": "iou_threshold(at=7)"}, "iou_threshold", id="an option out of range"),
    pytest.param({"reward_type": "x" * 5000}, "has 5,000 characters; wanted at most 1,000", id="long"),
]


@pytest.mark.parametrize(("more", "message"), ODD)
def test_what_is_no_name_is_refused(more, message):
    assert message.replace('\\"', '"') in refused({**QA, **more})


NONE = [
    pytest.param({"reward_type": None}, id="null"),
    pytest.param({"reward_type": ""}, id="empty"),
    pytest.param({"reward": 0.7}, id="a score"),
    pytest.param({"reward": "0.7"}, id="a score as a text"),
    pytest.param({"reward": None}, id="no score"),
    pytest.param({"reward": [0.7]}, id="scores"),
    pytest.param({"rewards": "good"}, id="another key"),
    pytest.param({"extra_info": {"reward_type": "x"}}, id="inside another key"),
]


@pytest.mark.parametrize("more", NONE)
def test_what_names_no_reward_is_a_column(more):
    found = read({**QA, **more}, reward="exact_match")
    assert found.reward == "exact_match"
    assert found.columns == more


def test_keys_that_disagree_are_an_error_and_others_are_not():
    assert refused({**QA, "accu_reward_method": "mcq", "reward_type": "iou"}) == (
        '"accu_reward_method" names the reward "mcq", but "reward_type" "iou"; wanted one of these keys, or the same '
        "name under both"
    )
    assert '"reward_type" names the reward "iou", but "reward_fn" "giou"' in refused(
        {**QA, "reward_fn": "giou", "reward_type": "iou"}
    )
    assert read({**QA, "accu_reward_method": "mcq", "reward_type": "mcq", "reward_fn": None}).reward == "mcq"


def test_a_reward_of_the_users_own_reads_these_keys_itself():
    row = {**QA, "reward_type": "my kind", "reward_fn": "iou"}
    found = read(row, reward="my.rewards:Dispatch")
    assert (found.reward, found.columns["reward_type"]) == ("my.rewards:Dispatch", "my kind")
    assert read({**row, "accu_reward_method": "iou"}, reward="my.rewards:Dispatch").reward == "iou"


def records(*rows, reward=None):
    return [read(row, reward=reward) for row in rows]


def test_keys_that_may_mean_a_reward_are_counted_once_a_value():
    other = {**VERL, "data_source": "lmms-lab/x"}
    assert unused_reward_keys(records(VERL, other, VERL, QA)) == [
        'the key "data_source" (verl chooses the reward by it) is not used: "hiyouga/geometry3k" (2), "lmms-lab/x" '
        "(1). 3 records have the reward of their task; for another, set reward in the data source, or write "
        "accu_reward_method into the rows"
    ]
    many = [{**QA, "problem_type": f"kind {i}"} for i in range(9)]
    (sentence,) = unused_reward_keys(records(*many, many[0]))
    assert '"kind 0" (2), "kind 1" (1), "kind 2" (1) and 6 more values. 10 records' in sentence
    judge = {**VERL, "data_source": None, "reward_model": {"style": "model", "ground_truth": "1", "verifier": "det"}}
    slime = {**QA, "metadata": {"rm_type": "deepscaler"}}
    keys = [sentence.split('"')[1] for sentence in unused_reward_keys(records(judge, slime))]
    assert keys == ["reward_model.style", "reward_model.verifier", "metadata.rm_type"]


def test_nothing_is_said_where_a_reward_is_named():
    assert unused_reward_keys(records(VERL, reward="exact_match")) == []
    assert unused_reward_keys(records({**VERL, "reward_type": "math"})) == []
    assert unused_reward_keys(records({**QA, "reward_model": {"style": "rule"}, "metadata": "x", "verifier": 3})) == []


def test_the_check_and_the_start_say_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({**VERL, "id": i}) + "\n" for i in range(5)), encoding="utf-8")
    source = DataSource(path=str(path), task="vqa")
    (note,) = check_data(source, get_template("r1"), images=False).unused_keys
    assert note.startswith(
        'the key "data_source" (verl chooses the reward by it) is not used: "hiyouga/geometry3k" (5)'
    )
    assert reward_lines(load_sources([source])) == [f"data.train: {note}"]
    path.write_text("".join(json.dumps({**VERL, "id": i}) + "\n" for i in range(4001)), encoding="utf-8")
    (line,) = reward_lines(load_sources([source]))
    assert '"hiyouga/geometry3k" (1,334)' in line  # every third of 4,001 rows
    assert line.endswith(" (of 1,334 records that were looked at)")
