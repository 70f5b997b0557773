"""`vlm-r1 config OPTION`: what the reference says of one option or section, found by the whole key or its last word."""

from __future__ import annotations

import pytest

from vlm_r1.cli.main import main
from vlm_r1.config.markdown import explain, reference
from vlm_r1.errors import ConfigError

FOUND = {
    "a whole key": ("training.max_steps", "training.max_steps\n  int"),
    "an override": ("--training.max_steps=3", "training.max_steps\n  int"),
    "the last word": ("max_steps", "training.max_steps\n  int"),
    "a choice": ("reward_combination", "reward_combination\n  sum | product | gate, default sum\n  How weighted"),
    "an option of the third file": ("data.train.2.task", "data.train.0.task\n  str, default rec\n  Task"),
    "an option of a held-out set": ("data.eval.val.task", "data.eval.<name>.task\n  str, default rec\n  Task"),
    "an option of a template": ("data.templates.mine.wraps", "data.templates.<name>.wraps\n  bool, default True"),
    "one that is required": ("model.path", "model.path\n  str, required\n  Hugging Face"),
    "a section": ("model.lora", "model.lora\n  section | null, default null\n  Train low-rank"),
}


@pytest.mark.parametrize("name", FOUND)
def test_an_option(name: str) -> None:
    key, told = FOUND[name]
    assert explain(key).startswith(told)


def test_how_it_is_set() -> None:
    assert explain("grpo.num_generations").endswith("\n\nvlm-r1 train RECIPE --grpo.num_generations=8")
    assert explain("data.eval.val.task").endswith("--data.eval.val.task=rec"), "the name that was asked for"
    assert explain("rewards").endswith("--rewards='{accuracy: 1.0, format: 1.0}'"), "for a shell"
    assert explain("model.path").endswith("--model.path=VALUE")


def test_a_section_has_all_its_options() -> None:
    whole = [line.split("`")[1] for line in reference().splitlines() if line.startswith("| `model.")]
    blocks = explain("model").split("\n\n")
    assert sorted(block.partition("\n")[0] for block in blocks) == sorted(["model", *whole])
    assert "vlm-r1 train" not in blocks[-1]


def test_all_options_are_explained() -> None:
    keys = [line.split("`")[1] for line in reference().splitlines() if line.startswith("| `")]
    assert len(keys) > 100
    assert [key for key in keys if not explain(key).startswith(f"{key}\n")] == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        pytest.param("training.save_step", "training.save_steps", id="a letter"),
        pytest.param("svae_steps", "save_steps", id="the last word"),
        pytest.param("optimizer", "optim", id="another word"),
        pytest.param("training.num_generations", "grpo.num_generations", id="another section"),
    ],
)
def test_mistyped(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f'unknown option "{key}". Did you mean "{meant}"'):
        explain(key)


def test_the_command(capsys) -> None:
    assert main(["config", "training.save_steps"]) == 0
    assert capsys.readouterr().out.startswith("training.save_steps\n  int | null, default null\n  Steps between")
    assert main(["config", "zzzzz"]) == 2
    assert capsys.readouterr().err.startswith('ConfigError: unknown option "zzzzz". `vlm-r1 config` lists all')
