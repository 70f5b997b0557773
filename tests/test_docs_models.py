"""docs/add_a_model.md is followed to the letter: its adapter, its tiny checkpoint, its commands, its recipe."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm_r1.cli.main import main
from vlm_r1.conformance import CHECKS
from vlm_r1.errors import ModelError
from vlm_r1.models import ADAPTERS, load_adapter

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/add_a_model.md").read_text(encoding="utf-8")
ADAPTER = "my_package.mistral3:Mistral3"


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line) for block in snippets("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each snippet in the file that its first line names."""
    root = tmp_path_factory.mktemp("add_a_model")
    for snippet in [*snippets("python"), *snippets("yaml")]:
        file = root / snippet.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(snippet, encoding="utf-8")
    return root


@pytest.fixture
def inside(folder, monkeypatch):
    """In the folder, with PYTHONPATH=., as the page's commands are run."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


def run(words, monkeypatch):
    """One command of the page, in this process."""
    path, rest = (words[0], words[1:]) if words[0].startswith("PYTHONPATH=") else ("", words)
    assert path in ("", "PYTHONPATH=.")
    if rest[0] == "vlm-r1":
        return main(rest[1:])
    assert rest[0] == "python"
    monkeypatch.setattr(sys, "argv", rest[1:])
    runpy.run_path(rest[1], run_name="__main__")
    return 0


def test_the_family_is_not_built_in_and_takes_few_lines():
    assert "mistral3" not in ADAPTERS
    adapter, tiny = snippets("python")
    assert len((adapter + tiny).splitlines()) <= 100
    assert f"worth its {len(adapter.splitlines()) // 5 * 5} lines" in PAGE


def test_every_check_is_named():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("| what must hold |")[2], flags=re.MULTILINE)
    assert rows == [(check.name, check.asks) for check in CHECKS]


def test_the_page_is_followed(inside, monkeypatch, capsys):
    write, check, synth, train = COMMANDS
    assert run(write, monkeypatch) == 0
    assert run(check, monkeypatch) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert "all well" in printed
    idle = [line.split()[0] for line in printed.splitlines() if "not applicable" in line]
    assert idle in ([], ["processor"]), "the family's own processor needs torchvision"
    assert run(synth, monkeypatch) == 0
    assert run(train, monkeypatch) == 0
    (row,) = [json.loads(line) for line in (inside / "first/metrics.jsonl").read_text().splitlines()]
    assert (row["step"], row["stage"]) == (1, "grpo")
    # a random model earns nothing by the page's rewards; by another, its weights move, all of them
    assert run([*train, "--output_dir=second", "--rewards.testing_rewards:letters=1.0"], monkeypatch) == 0
    before, after = (load_file(inside / name / "model.safetensors") for name in ("tiny", "second/model"))
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert load_adapter(inside / "first/model", adapter=ADAPTER).config.model_type == "mistral3"


@pytest.mark.parametrize(
    ("wh", "grid"),
    [
        pytest.param((112, 84), (4, 3), id="whole tokens"),
        pytest.param((84, 140), (3, 4), id="shrunk to 67 × 112, filled up to 84 × 112"),
        pytest.param((224, 8), (4, 1), id="shrunk to 112 × 4"),
        pytest.param((29, 1), (2, 1), id="filled up, never enlarged"),
    ],
)
def test_its_sizes_by_hand(wh, grid, inside, monkeypatch):
    if not (inside / "tiny").exists():
        run(COMMANDS[0], monkeypatch)
    adapter = load_adapter(inside / "tiny", adapter=ADAPTER)
    columns, rows = grid
    assert adapter.seen_sizes([wh]) == [(28 * columns, 28 * rows)]
    (text,) = adapter.expansions([wh])
    assert (text.count("[IMG]"), text.count("[IMG_BREAK]"), text.count("[IMG_END]")) == (columns * rows, rows - 1, 1)
    with pytest.raises(ModelError, match="max_pixels from 784 on"):
        load_adapter(inside / "tiny", max_pixels=700, adapter=ADAPTER)
    small = load_adapter(inside / "tiny", max_pixels=60 * 60, adapter=ADAPTER)  # longest edge 56
    assert max(small.grid(*wh)) <= 2
