"""Recipes: overrides, round trip, and errors that name the key. (More bad recipes: tests/cli/test_commands.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.config import as_dict, load_config, parse_overrides, save_config
from vlm_r1.config.data import NOTHING
from vlm_r1.config.load import validate
from vlm_r1.config.markdown import reference
from vlm_r1.config.schema import Config
from vlm_r1.config.training import TrainingSection
from vlm_r1.errors import ConfigError

RECIPE = """
output_dir: runs/x
model: {path: ckpt}
data: {train: [{path: a.jsonl}, {path: b.jsonl, task: vqa}]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_overrides_reach_lists_mappings_and_new_entries(recipe) -> None:
    arguments = ["--data.train.1.path=c.jsonl", "--data.train.2.path", "d.jsonl", "--data.eval.val.path=v.jsonl"]
    arguments += ["--model.lora.r=8", "--training.learning_rate=1e-5", "--rewards={accuracy: 2}", "--grpo.beta=0"]
    config = load_config(recipe, arguments)
    assert [source.path for source in config.data.train] == ["a.jsonl", "c.jsonl", "d.jsonl"]
    assert config.data.train[1].task == "vqa"
    assert config.data.eval["val"].path == "v.jsonl"
    assert config.model.lora is not None
    assert config.model.lora.r == 8
    assert config.training.learning_rate == 1e-5
    assert config.rewards == {"accuracy": 2.0}


def test_the_saved_config_reads_back_equal(recipe, tmp_path) -> None:
    config = load_config(recipe, ["--seed=7", "--model.lora.r=8"])
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize(
    ("overrides", "frozen"),
    [
        pytest.param([], set(), id="nothing by default"),
        pytest.param(["--model.freeze_vision_modules=true"], {"vision", "projector"}, id="as TRL says it"),
        pytest.param(["--model.freeze=[vision]"], {"vision"}, id="one part"),
        pytest.param(["--model.lora.r=4"], {"vision", "projector"}, id="with lora, vision"),
        pytest.param(
            ["--model.lora.r=4", "--model.freeze_vision_modules=true"], {"vision", "projector"}, id="with lora, said"
        ),
        pytest.param(["--model.lora.r=4", "--model.freeze=[]"], set(), id="with lora, nothing"),
    ],
)
def test_what_is_frozen_survives_saving(overrides, frozen, recipe, tmp_path) -> None:
    config = load_config(recipe, overrides)
    assert config.model.frozen == frozen
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml").model.frozen == frozen


def test_frozen(recipe) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(recipe).grpo.beta = 1.0  # type: ignore[misc]


BAD = {
    "nested typing error": (["--model.lora.ranks=3"], 'unknown key "model.lora.ranks"'),
    "inside a list": (["--data.train.0.tusk=rec"], 'unknown key "data.train.0.tusk". Did you mean "task"?'),
    "inside a mapping": (["--data.eval.val.pathh=x", "--data.eval.val.path=y"], 'Did you mean "path"?'),
    "wrong type": (["--grpo.beta=high"], "grpo.beta"),
    "out of range": (["--sampling.top_p=1.5"], "sampling.top_p"),
    "a choice": (["--training.mixed_precision=fp8"], "'auto', 'no', 'bf16' or 'fp16', got 'fp8'"),
    "a name of a table": (
        ["--grpo.loss_type=dr_gpro"],
        'grpo.loss_type: unknown name "dr_gpro". Did you mean "dr_grpo"? Known: grpo, dr_grpo, dapo, gspo, cispo',
    ),
    "a clip that nothing reaches": (["--grpo.epsilon_high=0.3"], "no effect with num_iterations 1"),
    "a lower limit of cispo": (
        ["--grpo.loss_type=cispo", "--grpo.epsilon_high=5", "--grpo.epsilon=0.1"],
        "epsilon has no effect with loss_type cispo",
    ),
    "a cap of cispo below 1": (["--grpo.loss_type=cispo", "--grpo.epsilon_high=0.3"], "got 0.3, wanted at least 1"),
    "no cap of cispo": (["--grpo.loss_type=cispo"], "caps the ratio at epsilon_high itself"),
    "into a scalar": (["--model.path.x=1"], "--model.path.x: model.path has no options inside"),
    "one weight of two": (["--data.train.0.weight=2"], "either all of at least two have one or none has; got 1 of 2"),
    "a weight of held-out data": (
        ["--data.eval.val.path=v.jsonl", "--data.eval.val.weight=1"],
        "data.eval.val.weight has no effect",
    ),
    "an empty split": (["--data.train.0.split_range=[0.5, 0.5]"], "wanted 0 <= first < last <= 1"),
    "a template nobody uses": (["--data.templates.mine.thinking=free"], "data.templates.mine is used nowhere"),
    "a gate without a door": (
        ["--rewards={accuracy: 1}", "--reward_combination=gate"],
        "needs the component format among rewards",
    ),
    "bad YAML": (["--seed=[1"], "not valid YAML"),
    "no date": (["--seed=2001-99-99"], '"--seed=2001-99-99": the value is not valid YAML'),
    "a tag without sense": (["--seed=!!int abc"], "not valid YAML"),
    "thousands of brackets": ([f"--seed={'[' * 3000}"], "not valid YAML"),
    "a comment": (["--seed=3 # three"], "'# three' would be left out as a comment"),
    "a comment behind a mapping": (["--rewards={accuracy: 1} # one"], "'# one' would be left out as a comment"),
    "pixels": (["--model.min_pixels=10", "--model.max_pixels=5"], "min_pixels 10 > max_pixels 5"),
    "save_total_limit": (
        ["--training.save_total_limit=9", "--training.save_steps=0"],
        "no effect with save_steps 0",
    ),
    "save_minutes": (
        ["--training.save_minutes=5", "--training.save_steps=100"],
        "save_minutes has no effect with save_steps 100",
    ),
    "save_minutes at the end": (["--training.save_minutes=5", "--training.save_steps=0"], "save_minutes has no effect"),
    "no minutes": (["--training.save_minutes=0"], "training.save_minutes"),
    "eval_batch_size": (["--training.eval_batch_size=9"], "no effect without data.eval"),
    "freeze twice": (
        ["--model.freeze=[vision]", "--model.freeze_vision_modules=true"],
        "freeze_vision_modules is short for freeze: [vision, projector]: give one",
    ),
    "freeze what is no part": (["--model.freeze=[head]"], "'vision', 'projector' or 'language', got 'head'"),
    "freeze all": (["--model.freeze=[vision, projector, language]"], "nothing would train"),
    "4 bits without lora": (["--model.load_in_4bit=true"], "load_in_4bit needs lora"),
    "rate of a frozen part": (
        ["--training.learning_rates.vision=1e-5", "--model.freeze_vision_modules=true"],
        "training.learning_rates.vision has no effect: this part is frozen",
    ),
    "rate of a part that lora leaves out": (
        ["--training.learning_rates.projector=1e-5", "--model.lora.r=4"],
        "training.learning_rates.projector has no effect",
    ),
    "rate of no part": (["--training.learning_rates.head=1e-5"], "training.learning_rates.head"),
    "rate of 0": (["--training.learning_rates.vision=0"], "greater than 0, got 0"),
    "rate that no part has": (
        ["--model.freeze=[language, vision]", "--training.learning_rates.projector=1e-5", "--training.learning_rate=1"],
        "training.learning_rate has no effect: every part that trains has a rate of its own",
    ),
    "box format": (["--model.box_format=norm_100"], "'input_pixels', 'norm_1000'"),
    "reward of a source": (["--data.train.0.reward=iou", "--rewards={format: 1}"], "data.train.0.reward has no effect"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_key(name: str, recipe) -> None:
    overrides, message = BAD[name]
    with pytest.raises(ConfigError) as error:
        load_config(recipe, overrides)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("- a list", "wanted a mapping", id="a list"),
        pytest.param("a: [1", "not valid YAML", id="broken"),
        pytest.param("seed: 2001-99-99", "not valid YAML", id="no date"),
        pytest.param("model: {path: x}", "output_dir is missing", id="missing key"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_config(tmp_path / "missing.yaml")


def test_an_option_without_effect_is_one_that_is_not_at_its_default() -> None:
    class Other(TrainingSection):
        save_total_limit: int = 5

    kept = [Other(save_steps=0), Other(save_steps=0, save_total_limit=5)]
    assert [own.save_total_limit for own in kept] == [5, 5]
    with pytest.raises(ValueError, match="save_total_limit has no effect"):
        Other(save_steps=0, save_total_limit=2)


def test_overrides_need_their_form() -> None:
    assert parse_overrides(["--a.b=null", "--c", "1e-3"]) == [(["a", "b"], None), (["c"], "1e-3")]
    with pytest.raises(ConfigError, match="unexpected argument"):
        parse_overrides(["a=1"])


def test_every_option_is_documented() -> None:
    def check(section, prefix: str) -> None:
        for name, field in section.model_fields.items():
            assert field.description, prefix + name

    check(Config, "")
    text = reference()
    for key in (
        "grpo.epsilon_high",
        "data.train.0.image_root",
        "model.lora.r",
        "training.max_grad_norm",
        "sampling.min_p",
    ):
        assert f"| `{key}` |" in text
    assert "| |" not in text


def test_a_bias_correction_without_a_kl_has_no_effect(recipe) -> None:
    assert load_config(recipe, ["--grpo.beta=0.1", "--grpo.use_bias_correction_kl=true"]).grpo.use_bias_correction_kl
    with pytest.raises(ConfigError, match="use_bias_correction_kl has no effect with beta 0"):
        load_config(recipe, ["--grpo.use_bias_correction_kl=true"])


TEXTS = {  # as a shell hands them over; YAML reads something else in each
    "a comment": "runs/exp #2",
    "a mapping": "a: b",
    "a yes": "yes",
    "a no": "no",
    "a null where none may be": "null",
    "a number": "1e3",
    "digits": "007",
    "a date": "2024-01-01",
    "an alias": "*best",
    "an anchor": "&best",
    "a tag": "!exp",
    "a list": "[1, 2",
    "quotes": "'quoted'",
    "spaces": " two  words ",
    "an equals sign": "lr=1e-5",
    "nothing": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_override_of_a_text_is_taken_as_it_stands(name: str, recipe) -> None:
    text = TEXTS[name]
    overrides = [f"--output_dir={text}", "--data.train.0.path", text, f"--data.eval.val.path={text}"]
    overrides += [f"--data.templates.mine.instruction={text}", "--data.template=mine"]
    overrides += ["--model.lora.target_modules=[q_proj]", f"--model.lora.target_modules.0={text}"]
    config = load_config(recipe, overrides)
    assert config.output_dir == config.data.train[0].path == config.data.eval["val"].path == text
    assert config.data.templates["mine"].instruction == text
    assert config.model.lora is not None
    assert config.model.lora.target_modules == [text]


VALUES = {
    "a choice of words": ("--training.mixed_precision=no", "no"),
    "null of a text that may be null": ("--data.train.0.reward=null", None),
    "a tilde of a text that may be null": ("--model.adapter=~", "~"),
    "null of a choice": ("--model.box_format=null", None),
    "a number": ("--training.learning_rate=1e-5", 1e-5),
    "a number within a mapping": ("--rewards.accuracy=2", 2.0),
    "a truth": ("--training.trust_checks=no", False),
    "null of a number": ("--model.max_pixels=null", None),
    "a list": ("--training.report_to=[wandb]", ["wandb"]),
    "anything": ("--model.lora.peft.use_dora=yes", True),
}


@pytest.mark.parametrize("name", VALUES)
def test_other_overrides_are_yaml(name: str, recipe) -> None:
    override, expected = VALUES[name]
    found = load_config(recipe, [override]).model_dump()
    for key in override[2:].partition("=")[0].split("."):
        found = found[int(key) if isinstance(found, list) else key]
    assert found == expected
    assert type(found) is type(expected)


def test_a_tilde_is_the_home_folder_in_the_paths_of_a_recipe(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    recipe.write_text(RECIPE.replace("runs/x", "~/runs/x").replace("ckpt", "~/ckpt").replace("b.jsonl", "~/b.jsonl"))
    config = load_config(recipe, ["--data.train.0.path=~/a.jsonl", "--data.train.0.image_root=~", "--model.adapter=~"])
    assert (config.output_dir, config.model.path) == ("/home/ada/runs/x", "/home/ada/ckpt")
    assert [source.path for source in config.data.train] == ["/home/ada/a.jsonl", "/home/ada/b.jsonl"]
    assert config.data.train[0].image_root == "/home/ada"
    assert config.model.adapter == "~", "no path"


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "hub:owner/~name:train", "https://x.org/~ada/", "a~b"])
def test_names_and_urls_keep_their_tilde(name: str, recipe) -> None:
    config = load_config(recipe, [f"--model.path={name}", f"--data.train.0.path={name}"])
    assert config.model.path == config.data.train[0].path == name


def test_rows_may_name_nothing_more_by_default():
    config = Config.model_validate({"output_dir": "runs/x", "model": {"path": "m"}, "data": {}})
    assert {name: getattr(config.data, name) for name in type(NOTHING).model_fields} == NOTHING.model_dump()
    assert not any(NOTHING.model_dump().values())


LEVELS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else '1'}]" for i in range(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("seed: 2001-99-99", "not valid YAML", id="no date"),
        pytest.param("seed: !!int abc", "not valid YAML", id="no integer"),
        pytest.param("seed: !!float abc", "not valid YAML", id="no float"),
        pytest.param("seed: !!timestamp abc", "not valid YAML", id="no time"),
        pytest.param(f"seed: {'9' * 5000}", "not valid YAML", id="5,000 digits"),
        pytest.param("seed: " + "[" * 3000, "not valid YAML", id="3,000 brackets"),
        pytest.param("{[a]: 1}", "not valid YAML", id="a list as key"),
        pytest.param("!!python/object/apply:os.system ['true']", "not valid YAML", id="a Python object"),
        pytest.param(LEVELS, "its aliases make [0-9,]+ values; wanted at most 100,000", id="aliases of aliases"),
        pytest.param("a: &a [*a]", "line 1: an alias lies in what it stands for", id="an alias of itself"),
        pytest.param(
            "training: {}\nseed: 1\ntraining: {}", 'key "training" stands twice, in lines 1 and 3', id="twice"
        ),
        pytest.param("{1: 2}", "1", id="a number as key"),
        pytest.param("data: [1, 2]", "data", id="a list for a section"),
        pytest.param("rewards: {a: !!set {x}}", "rewards", id="a set"),
        pytest.param('output_dir: "a\\0b"', "no NUL character", id="NUL in a path"),
    ],
)
def test_yaml_that_is_hostile_or_wrong_is_a_short_error(tmp_path: Path, text: str, message: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert len(str(caught.value)) < 5000


def test_a_long_value_is_cut_in_the_message(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"output_dir: [{'x' * 100_000}]\n{'y' * 1000}: 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="output_dir") as caught:
        load_config(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("key", ["²", "٣", "-1", "9" * 5000])
def test_an_index_is_of_plain_digits(recipe: Path, key: str):
    with pytest.raises(ConfigError):
        load_config(recipe, [f"--data.train.{key}.path=x"])


@pytest.mark.parametrize(
    "name", ["../../evil", "[/x]", "[red]a", "a/b", ".hidden", "", "a b", "é", "x" * 65, "-n", "a\nb"]
)
def test_a_held_out_set_has_a_plain_name(recipe: Path, name: str):
    with pytest.raises(ConfigError, match="becomes a file name"):
        validate(as_dict(load_config(recipe)) | {"data": {"eval": {name: {"path": "x.jsonl"}}}}, where="here")
    with pytest.raises(ConfigError, match="becomes a file name"):
        validate(as_dict(load_config(recipe)) | {"data": {"templates": {name: {}}}}, where="here")


@pytest.mark.parametrize("name", ["in_domain", "val-2", "refcoco.testA", "7", "x" * 64])
def test_control_these_names_are_plain(recipe: Path, name: str):
    tree = as_dict(load_config(recipe)) | {"data": {"eval": {name: {"path": "x.jsonl"}}}}
    assert list(validate(tree, where="here").data.eval) == [name]


def test_a_written_config_holds_no_secret_and_differs_only_there(recipe: Path, tmp_path: Path):
    spec, peft = 'my:Judge(api_key="S3CRET", model="$X")', "{hf_token: S3CRET, use_dora: true}"
    overrides = [f"--rewards={{'{spec}': 1.0}}", f"--model.lora={{peft: {peft}}}", "--training.learning_rates={}"]
    config = load_config(recipe, [*overrides, "--data.train.0.path=https://me:S3CRET@host/x?token=S3CRET"])
    save_config(config, tmp_path / "config.yaml")
    assert "S3CRET" not in (tmp_path / "config.yaml").read_text(encoding="utf-8")
    read = load_config(tmp_path / "config.yaml")
    assert as_dict(read) == as_dict(config), "a resumed run compares these"
    assert spec in config.rewards, "control: the config itself holds it"


def test_two_rewards_may_not_differ_in_their_secrets_alone(recipe: Path):
    with pytest.raises(ConfigError, match="stands twice, with secrets that differ"):
        load_config(recipe, ["""--rewards={'a:B(key="1")': 1.0, 'a:B(key="2")': 1.0}"""])
