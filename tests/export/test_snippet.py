"""The code of a model card runs as it is printed, asks as in training, and gives boxes in pixels of the picture."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from testing_exports import LORA, card, export, trained
from vlm_r1.config.load import validate
from vlm_r1.export.snippet import _answering
from vlm_r1.grpo.trainer import train
from vlm_r1.models import load_adapter
from vlm_r1.questions.answers import make_records
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import BoxFormat

ONE_STEP = {"max_steps": 1, "eval_steps": 0}


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    """All weights trained, with a limit of pixels."""
    model = {"max_pixels": 112 * 84}
    return trained(tmp_path_factory.mktemp("full") / "run", tiny_checkpoint, rec_files, model=model, training=ONE_STEP)


def code_of(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card(folder)[1], flags=re.DOTALL)
    return code


def run_card(folder: Path, size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    """Run the code as it is printed, in its folder; returns its names."""
    Image.linear_gradient("L").resize(size).convert("RGB").save(folder / "picture.jpg")
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(compile(code_of(folder), "README.md", "exec"), names)
    return names


def test_the_code_of_the_card_runs(family_checkpoint, rec_files, tmp_path, capsys) -> None:
    """In a family whose combined processor needs no torchvision."""
    run = trained(tmp_path / "run", family_checkpoint("gemma3"), rec_files, training=ONE_STEP)
    assert export(run, tmp_path / "out") == 0
    capsys.readouterr()
    run_card(tmp_path / "out")
    assert capsys.readouterr().out.startswith("rec: ")


def test_the_code_asks_as_vlm_r1_ask_does(full, tmp_path, capsys) -> None:
    """In a family whose processor wants torchvision, which is not here: the same tokens, the same pixels."""
    assert export(full, tmp_path / "out") == 0
    capsys.readouterr()
    names = run_card(tmp_path / "out", (200, 120))
    assert capsys.readouterr().out.startswith("rec: ")
    (record,) = make_records([tmp_path / "out/picture.jpg"], ["the red circle"], task="rec")
    asked = Env(load_adapter(tmp_path / "out"), make_templates("paper"), {}).encode(record)
    assert names["inputs"]["input_ids"][0].tolist() == list(asked.ids_L)
    assert torch.equal(names["inputs"]["pixel_values"], asked.vision["pixel_values"])
    _, rows, columns = names["inputs"]["image_grid_thw"][0].tolist()
    assert (names["x_scale"], names["y_scale"]) == (200 / (14 * columns), 120 / (14 * rows))
    assert 14 * columns * 14 * rows <= 112 * 84, "the limit of the run"


def test_the_code_asks_each_task_of_a_mixture(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    files = [{"path": str(rec_files["train"]), "template": "direct"}, counted(tmp_path, rec_files)]
    tree: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "model": {"path": str(tiny_checkpoint)},
        "data": {"train": files, "template": "paper"},
        "sampling": {"max_completion_length": 8},
        "grpo": {"num_generations": 2},
        "rewards": {"accuracy": 1.0, "testing_rewards:letters": 1.0},
        "training": {"max_steps": 1, "prompts_per_step": 2},
    }
    train(validate(tree, "test"))
    run = RunFolder(tmp_path / "run")
    assert export(run, tmp_path / "out") == 0
    capsys.readouterr()
    names = run_card(tmp_path / "out")
    assert list(names["tasks"]) == ["rec", "counting"]
    assert "JSON format" in names["tasks"]["rec"]
    assert names["systems"] == {"counting": "Count."}
    assert re.findall(r"^(rec|counting): ", capsys.readouterr().out, flags=re.MULTILINE) == ["rec", "counting"]
    told = json.loads((tmp_path / "out/vlm_r1.json").read_text())
    assert (told["task"], told["tasks"]["counting"]) == (
        None,
        {"template": "paper", "thinking": "required", "system_prompt": "Count."},
    )


def counted(folder: Path, data: dict[str, Path]) -> dict[str, str]:
    """A source of another task on the same pictures."""
    rows = [json.loads(line) for line in data["train"].read_text().splitlines()]
    for row in rows:
        row["conversations"][1]["value"] = "2"
    (folder / "counted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"path": str(folder / "counted.jsonl"), "image_root": str(data["train"].parent)}
    return {**own, "task": "counting", "system_prompt": "Count."}


@pytest.mark.parametrize(
    ("box_format", "written", "expected"),
    [
        (BoxFormat.ORIGINAL_PIXELS, "[10, 20, 30, 40]", [10, 20, 30, 40]),
        (BoxFormat.NORM_1000, "[100, 200, 300, 400]", [20, 20, 60, 40]),  # of 200 × 100: x / 5, y / 10
        (BoxFormat.NORM_1000_YX, "[200, 100, 400, 300]", [20, 20, 60, 40]),
        (BoxFormat.NORM_1, "[0.1, 0.2, 0.3, 0.4]", [20, 20, 60, 40]),
        (BoxFormat.INPUT_PIXELS, "[14, 14, 28, 28]", [25, 25, 50, 50]),  # seen as 8 × 4 patches: 112 × 56
    ],
)
def test_the_lines_that_convert_boxes(box_format, written, expected, capsys) -> None:
    """Only those: everything from the answer on."""
    lines = _answering(validate({"model": {"path": "m"}, "output_dir": "o", "data": {"train": []}}, "t"), box_format)
    code = lines[lines.index('    print(task, answer, sep=": ")') + 1 :]
    pattern = next(line for line in lines if line.startswith("box = "))
    answer = f"<think>[1, 2, 3, 4]</think><answer>{written}</answer>"
    names = {"answer": answer, "width": 200, "height": 100, "inputs": {"image_grid_thw": torch.tensor([[1, 4, 8]])}}
    names["processor"] = SimpleNamespace(image_processor=SimpleNamespace(patch_size=14))
    exec(textwrap.dedent("\n".join(["import re", pattern])), names)
    exec(textwrap.dedent("\n".join(code)), names)
    (shown,) = re.findall(r"picture: (.*)", capsys.readouterr().out)
    assert ast.literal_eval(shown) == pytest.approx(expected)


def test_the_code_for_an_adapter_sets_the_limits_of_pixels(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    model = {"lora": LORA, "max_pixels": 56 * 56}
    run = trained(tmp_path / "run", tiny_checkpoint, rec_files, model=model, training=ONE_STEP)
    assert export(run, tmp_path / "out", "--adapter-only") == 0
    shutil.copytree(tiny_checkpoint, tmp_path / "out" / tiny_checkpoint.name)  # the base, by its name
    names = run_card(tmp_path / "out", (300, 200))
    _, rows, columns = names["inputs"]["image_grid_thw"][0].tolist()
    assert rows * columns * 14 * 14 <= 56 * 56


def test_the_code_for_an_adapter_is_python(tiny_checkpoint, rec_files, tmp_path) -> None:
    run = trained(tmp_path / "run", tiny_checkpoint, rec_files, model={"lora": LORA}, training=ONE_STEP)
    assert export(run, tmp_path / "out", "--adapter-only") == 0
    code = code_of(tmp_path / "out")
    assert "PeftModel.from_pretrained(model, adapter)" in [ast.unparse(n) for n in ast.walk(ast.parse(code))]
    assert f"base, adapter = ('{tiny_checkpoint.name}', '.')" in ast.unparse(ast.parse(code))
