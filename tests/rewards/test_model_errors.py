"""What is no reward model, what a recipe may not ask of one, and who may name it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from testing_reward_models import TEMPLATE, edit, judged, write_reward_model
from vlm_r1.config.schema import DataSource
from vlm_r1.data.rows import Problem, RowReader
from vlm_r1.errors import ConfigError, DataError, ModelError, RewardError
from vlm_r1.registry import exactly, may_be_allowed
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.rewards.model import RewardModel, reward_models
from vlm_r1.rewards.names import reward_from_data


def spec_of(path: str | Path, **options: object) -> str:
    return f"reward_model({', '.join(f'{name}={value!r}' for name, value in {'path': str(path), **options}.items())})"


def judge(path: str | Path, **options: object):
    spec = spec_of(path, **options)
    return call_reward(spec, resolve_reward(spec, REWARDS), [judged("red"), judged("blue", system="Be brief.")])


def _nothing(folder: Path) -> None:
    """A folder that is not there."""


def _language_model(folder: Path) -> None:
    write_reward_model(folder, labels=None)


def _two_labels(folder: Path) -> None:
    write_reward_model(folder, labels=2)


def _no_weights(folder: Path) -> None:
    write_reward_model(folder)
    (folder / "model.safetensors").unlink()


def _no_tokenizer(folder: Path) -> None:
    write_reward_model(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _no_padding(folder: Path) -> None:
    write_reward_model(folder, model_type="llama")
    edit(folder / "tokenizer_config.json", pad_token=None, eos_token=None)


def _another_tokenizer(folder: Path) -> None:
    write_reward_model(folder, vocab_size=200, pad_token_id=0, eos_token_id=0)


def _own_code(folder: Path) -> None:
    write_reward_model(folder)
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text(f"open({str(folder / 'it ran')!r}, 'w').close()\n")


def _kernel(folder: Path) -> None:
    write_reward_model(folder)
    edit(folder / "config.json", _attn_implementation="somebody/kernel")


def _pickle(folder: Path) -> None:
    write_reward_model(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "more": Path("x")}, folder / "pytorch_model.bin")


def _lora(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(_nothing, "cannot load the config of the reward model", id="nothing_there"),
        pytest.param(_language_model, r"lack score.weight: they are of a Qwen2ForCausalLM.*noise", id="no_head"),
        pytest.param(_two_labels, r"score.weight has shape \(2, 16\).*num_labels 1", id="two_labels"),
        pytest.param(_no_weights, "cannot load the weights of the reward model", id="no_weights"),
        pytest.param(_no_tokenizer, "the tokenizer of the reward model has no vocabulary", id="no_tokenizer"),
        pytest.param(_no_padding, "neither a padding token nor an end-of-sequence token", id="no_padding_token"),
        pytest.param(_another_tokenizer, r"token id \d+, but the reward model embeds 200", id="tokenizer_of_another"),
        pytest.param(_own_code, "auto_map in config.json names code", id="code_of_its_own"),
        pytest.param(_kernel, 'names the kernel "somebody/kernel"', id="a_kernel_of_the_hub"),
        pytest.param(_pickle, "a pickle that holds more than weights", id="a_pickle"),
        pytest.param(_lora, "holds LoRA adapters.*merge", id="lora_adapters"),
    ],
)
def test_what_is_no_reward_model_is_one_line(make, message, tmp_path) -> None:
    make(tmp_path / "judge")
    with pytest.raises(ModelError, match=message) as caught:
        judge(tmp_path / "judge")
    assert str(tmp_path / "judge") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "judge/it ran").exists()


def test_a_name_of_the_hub_without_a_network_is_one_line() -> None:
    with pytest.raises(ModelError, match="org/judge: cannot load the config of the reward model"):
        judge("org/judge")


def test_a_vision_language_model_without_a_class_for_scores(tiny_checkpoint) -> None:
    with pytest.raises(ModelError, match=r'no sequence classification for model type "qwen2_5_vl"'):
        judge(tiny_checkpoint)


def test_scores_that_are_not_finite_stop_the_run(tmp_path) -> None:
    path = Path(write_reward_model(tmp_path / "judge"))
    weights = load_file(path / "model.safetensors")
    weights["score.weight"][0, 0] = float("nan")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RewardError, match=r'here:1: reward model .* gave nan; wanted a finite number.*dtype="float32"'):
        judge(path)


def test_a_template_that_fails_names_record_and_roles(tmp_path) -> None:
    picky = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    path = write_reward_model(tmp_path / "judge", template=picky)
    with pytest.raises(RewardError, match=r"here:1: the chat template .* messages of system, user, assistant: no sys"):
        judge(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"device": "cuda:99"}, r'device "cuda:99": torch sees \d+ GPUs', id="no_such_gpu"),
        pytest.param({"max_length": 257}, r"max_length is 257, but this model takes at most 256", id="max_length"),
    ],
)
def test_options_that_do_not_suit_model_or_machine(options, message, tmp_path) -> None:
    path = write_reward_model(tmp_path / "judge")
    with pytest.raises(ConfigError, match=message):
        judge(path, **options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("reward_model", "path is ''; wanted a folder or a name of the Hub, in quotes", id="no_path"),
        pytest.param("reward_model()", "path is ''", id="no_options"),
        pytest.param("reward_model(path=3)", "path is 3", id="path"),
        pytest.param("reward_model(path=/models/judge)", "cannot be read", id="no_quotes"),
        pytest.param("reward_model(path='j', revision=1)", "revision is 1", id="revision"),
        pytest.param("reward_model(path='j', device='gpu')", "device is 'gpu'; wanted \"auto\"", id="device"),
        pytest.param("reward_model(path='j', device=0)", "device is 0", id="device_number"),
        pytest.param("reward_model(path='j', dtype='int8')", "dtype is 'int8'; wanted one of auto", id="dtype"),
        pytest.param("reward_model(path='j', batch_size=0)", "batch_size is 0", id="batch_size"),
        pytest.param("reward_model(path='j', batch_size=True)", "batch_size is True", id="truth_value"),
        pytest.param("reward_model(path='j', max_length=-1)", "max_length is -1", id="max_length"),
        pytest.param("reward_model(path='j', max_length=1e3)", "max_length is 1000.0", id="a_float"),
        pytest.param("reward_model(path='j', label=1)", "unexpected keyword argument 'label'", id="unknown"),
    ],
)
def test_wrong_options_are_found_where_the_name_is_read(spec, message) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve_reward(spec, REWARDS)


NAMED = 'reward_model(path="org/judge", batch_size=4)'


def read(reward: str, source_reward: str | None = None):
    line = f'{{"problem": "?", "answer": "x", "accu_reward_method": {reward!r}}}'.replace("'", '"')
    return RowReader(DataSource(path="f.jsonl", task="vqa", reward=source_reward), "auto", None).read(line.encode(), 1)


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        pytest.param(NAMED, (NAMED,), NAMED, id="allowed_as_it_is_written"),
        pytest.param("reward_model(batch_size=4,path='org/judge')", (NAMED,), NAMED, id="in_another_spelling"),
        pytest.param("reward_model(path='org/judge')", (NAMED,), None, id="with_other_options"),
        pytest.param("reward_model(path='org/else', batch_size=4)", (NAMED,), None, id="another_model"),
        pytest.param("reward_model", (NAMED,), None, id="without_options"),
        pytest.param(NAMED, (), None, id="not_allowed"),
        pytest.param(" reward_model (path='x')", (), None, id="with_spaces"),
        pytest.param("reward_model(path='/etc')", ("reward_model",), None, id="an_entry_without_options_allows_none"),
    ],
)
def test_a_row_names_a_reward_model_only_if_the_recipe_does(name, allowed, expected) -> None:
    if expected is None:
        with pytest.raises(DataError, match=r"opens files or asks the Hub, and data may not choose|unknown reward"):
            reward_from_data(name, allowed)
    else:
        assert reward_from_data(name, allowed) == expected


def test_a_row_may_repeat_the_reward_model_of_its_source() -> None:
    found = read("reward_model(path='org/judge')".replace("'", ""), None)
    assert isinstance(found, Problem)
    line = b'{"problem": "?", "answer": "x", "accu_reward_method": "reward_model(path=\'org/judge\')"}'
    refused = RowReader(DataSource(path="f.jsonl", task="vqa"), "auto", None).read(line, 1)
    assert isinstance(refused, Problem)
    assert "opens files or asks the Hub" in refused.message
    source = DataSource(path="f.jsonl", task="vqa", reward='reward_model(path="org/judge")')
    record = RowReader(source, "auto", None).read(line, 1)
    assert not isinstance(record, Problem)
    assert record.reward == source.reward


def test_what_a_recipe_may_allow() -> None:
    assert may_be_allowed(NAMED)
    assert not may_be_allowed("reward_model")
    assert exactly([NAMED, "iou", None]) == [NAMED]
    found = reward_models([NAMED, "iou", None, "my.rewards:Judge"])
    assert {name: (judge.path, judge.batch_size) for name, judge in found.items()} == {NAMED: ("org/judge", 4)}
    assert RewardModel(path="x", device="cuda:3").gpu == 3
    assert RewardModel(path="x", device="cuda").gpu is RewardModel(path="x", device="cpu").gpu is None
