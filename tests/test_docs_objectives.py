"""Every snippet of docs/add_an_objective.md does what the page says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/add_an_objective.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
RECIPES = [yaml.safe_load(text) for language, text in SNIPPETS if language == "yaml"]


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """Write each Python snippet into the file that its first line names, and make the files importable."""
    folder = tmp_path_factory.mktemp("add_an_objective")
    for language, text in SNIPPETS:
        if language == "python":
            file = folder / text.partition("\n")[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_package", "test_my_objective")]:
        del sys.modules[name]


def test_there_are_snippets_and_each_is_run():
    assert {language for language, _ in SNIPPETS} == {"python", "yaml"}
    assert len(RECIPES) == 4


def test_the_tests_of_the_page_pass():
    module = importlib.import_module("test_my_objective")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test()


@pytest.mark.parametrize("loss", ["losses:TAPERED", "losses:SEQUENCE_CISPO", "corrected:CORRECTED"])
def test_a_run_with_everything_of_the_page(loss, recipe, tmp_path):
    options = {
        f"{section}.{key}": value for tree in RECIPES for section in tree for key, value in tree[section].items()
    }
    options |= {"grpo.loss_type": f"my_package.{loss}", "grpo.epsilon_high": 1.5, "training.max_steps": 2}
    train(load_config(recipe(**options)))
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    assert len(rows) == 2
    assert all(row["grad_norm"] > 0 for row in rows)
