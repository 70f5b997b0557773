"""System prompts and switches of the chat template in a recipe: which counts, and what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlm_r1.config import Config, load_config
from vlm_r1.errors import ConfigError


def load(folder: Path, **data: object) -> Config:
    path = folder / "recipe.yaml"
    tree = {"output_dir": "run", "model": {"path": "m"}, "data": {"train": [{"path": "a.jsonl"}], **data}}
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_config(path)


A, B = {"path": "a.jsonl"}, {"path": "b.jsonl"}


def test_a_sources_own_system_prompt_wins(tmp_path) -> None:
    own, none = B | {"system_prompt": "Be kind."}, B | {"system_prompt": ""}
    config = load(tmp_path, train=[A, own, none], eval={"one": A, "two": own}, system_prompt="Be brief.")
    assert [source.system_prompt for source in config.data.train_sources] == ["Be brief.", "Be kind.", ""]
    asked = {name: source.system_prompt for name, source in config.data.eval_sources.items()}
    assert asked == {"one": "Be brief.", "two": "Be kind."}
    assert [source.system_prompt for source in config.data.train] == [None, "Be kind.", ""], "the recipe stays"
    nobody = load(tmp_path)
    assert [source.system_prompt for source in nobody.data.train_sources] == [None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param({"system_prompt": ""}, "data.system_prompt is empty: write a system message", id="empty"),
        pytest.param({"system_prompt": " \n"}, "a system prompt of blanks says nothing", id="blanks"),
        pytest.param({"system_prompt": "See <image>"}, "a system prompt has no images", id="an image"),
        pytest.param({"train": [A | {"system_prompt": ""}]}, 'system_prompt "" of a source has no', id="no none"),
        pytest.param(
            {"train": [A | {"system_prompt": "Be kind."}], "system_prompt": "Be brief."},
            "data.system_prompt has no effect: every source has a system_prompt of its own",
            id="nobody left",
        ),
        pytest.param({"chat_template_kwargs": {"messages": []}}, "messages is set by the program", id="messages"),
        pytest.param(
            {"chat_template_kwargs": {"add_generation_prompt": False}}, "add_generation_prompt is set by", id="ours"
        ),
        pytest.param({"chat_template_kwargs": ["x"]}, "data.chat_template_kwargs", id="a list"),
    ],
)
def test_what_has_no_effect_is_an_error(data, message, tmp_path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, **data)
    assert message in str(raised.value)


def test_switches_hold_any_json_and_come_from_the_command_line(tmp_path) -> None:
    switches = {"enable_thinking": False, "effort": "low", "tags": [1, {"a": None}]}
    config = load(tmp_path, chat_template_kwargs=switches)
    assert config.data.chat_template_kwargs == switches
    changed = load_config(tmp_path / "recipe.yaml", ["--data.chat_template_kwargs.enable_thinking=true"])
    assert changed.data.chat_template_kwargs == switches | {"enable_thinking": True}
