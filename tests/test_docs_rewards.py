"""Every snippet of docs/add_a_reward.md does what the page says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vlm_r1.config import load_config
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS, RewardInput
from vlm_r1.rewards.call import resolve_reward
from vlm_r1.rewards.model import is_reward_model
from vlm_r1.types import ImageFrame, Record, Thinking

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/add_a_reward.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
RECIPES = [text for language, text in SNIPPETS if language == "yaml"]


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """Write each Python snippet into the file that its first line names, and make the files importable."""
    folder = tmp_path_factory.mktemp("add_a_reward")
    for language, text in SNIPPETS:
        if language == "python":
            name, _, code = text.partition("\n")
            file = folder / name.removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text((file.read_text() if file.exists() else "") + code, encoding="utf-8")
    sys.path[:0] = [str(folder), str(ROOT / "examples")]
    yield folder
    del sys.path[:2]
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_package", "test_my_rewards")]:
        del sys.modules[name]


def test_there_are_snippets_and_each_is_run():
    assert {language for language, _ in SNIPPETS} == {"python", "yaml", "bash"}
    assert len(RECIPES) == 5


@pytest.mark.parametrize("fragment", RECIPES, ids=["ours", "accuracy", "trl", "reward_model", "judge"])
def test_recipes_load_and_their_rewards_resolve(fragment, tmp_path):
    file = tmp_path / "recipe.yaml"
    base = {"output_dir": "run", "model": {"path": "model"}, "data": {"train": [{"path": "x.jsonl"}]}}
    file.write_text(yaml.safe_dump(base | yaml.safe_load(fragment)), encoding="utf-8")
    config = load_config(file)
    sources = [source.reward for source in config.data.train if source.reward]
    names = [name for name in config.rewards if name != "accuracy"] + sources
    assert any(":" in name or is_reward_model(name) for name in names)
    for name in names:
        resolve_reward(name, REWARDS)


def test_the_tests_of_the_page_pass():
    module = importlib.import_module("test_my_rewards")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test()


def test_rewards_of_the_image(tmp_path):
    """A white square of 20 × 20 pixels, from (10, 10), on black; the model saw it at twice the size."""
    picture = Image.new("RGB", (100, 100))
    picture.paste((255, 255, 255), (10, 10, 30, 30))
    picture.save(tmp_path / "a.png")
    record = Record("1", "rec", "<image>?", (str(tmp_path / "a.png"),), [10, 10, 30, 30])
    module = importlib.import_module("my_package.image_rewards")

    def given(value):
        frames = (ImageFrame((100, 100), (200, 200)),)
        return RewardInput("", split_tags(""), Thinking.REQUIRED, value, (10.0, 10.0, 30.0, 30.0), frames, record)

    boxes = [(10.0, 10.0, 30.0, 30.0), (10.0, 10.0, 50.0, 30.0), (40.0, 40.0, 50.0, 50.0), (5.0, 5.0, 5.0, 5.0), None]
    assert [module.brightness(given(box)) for box in boxes] == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert module.brightness(given((-1e6, 0.0, 1e6, 1e6))) == pytest.approx(400 / 10_000)
    assert [module.as_large_as_a_patch(given(box)) for box in boxes] == [1.0, 1.0, 0.0, 0.0, 0.0]  # 40, 20 and 0 px


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
