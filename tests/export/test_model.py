"""`vlm-r1 export`: what it writes is the run's model, in plain transformers, with a card that says what it is."""

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
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

from testing_families import encode, picture_of, stock_arguments
from vlm_r1.cli.main import main
from vlm_r1.config.load import validate
from vlm_r1.export.snippet import _answering
from vlm_r1.grpo.trainer import train
from vlm_r1.models import load_adapter
from vlm_r1.questions.answers import make_records
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.run_folder import RunFolder
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import BoxFormat

LORA = {"r": 4, "lora_alpha": 16, "peft": {"use_dora": True}}


def trained(folder: Path, checkpoint: Path, data: dict[str, Path], **sections: Any) -> RunFolder:
    """A run of two steps with a held-out set, at a rate that makes two steps show."""
    tree: dict[str, Any] = {
        "output_dir": str(folder),
        "model": {"path": str(checkpoint), **sections.pop("model", {})},
        "data": {
            "train": [{"path": str(data["train"])}],
            "eval": {"in_domain": {"path": str(data["in_domain"])}},
            "template": "paper",
        },
        "sampling": {"max_completion_length": 8},
        "grpo": {"num_generations": 4},
        "rewards": {"accuracy": 1.0, "testing_rewards:letters": 1.0},
        "training": {"max_steps": 2, "prompts_per_step": 4, "learning_rate": 2e-2, "save_steps": 1, "eval_steps": 1},
    }
    for section, options in sections.items():
        tree[section] |= options
    train(validate(tree, "test"))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    """All weights trained, with a limit of pixels."""
    model = {"max_pixels": 112 * 84}
    return trained(tmp_path_factory.mktemp("full") / "run", tiny_checkpoint, rec_files, model=model)


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    """DoRA adapters trained."""
    return trained(tmp_path_factory.mktemp("lora") / "run", tiny_checkpoint, rec_files, model={"lora": LORA})


def export(run: RunFolder, target: Path, *options: str) -> int:
    return main(["export", str(run.path), "--to", str(target), *options])


def logits(model: Any, adapter: Any) -> torch.Tensor:
    """Of a prompt with a picture, by plain transformers."""
    arguments = stock_arguments(adapter, encode(adapter, "<image>the red circle", [picture_of(112, 84)]))
    with torch.no_grad():
        return model.eval()(**arguments).logits


def plain(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder)


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """(front matter, text)."""
    _, matter, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter), text


# Weights --------------------------------------------------------------------------------------------------------------


def test_a_lora_run_is_merged(lora, tiny_checkpoint, adapter, tmp_path, capsys) -> None:
    assert export(lora, tmp_path / "out") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"exporting {lora.model}, step 2 of 2" in shown
    (mean,) = re.findall(r"log-probabilities on a prompt with a picture differ by ([\d.e-]+) a token", shown)
    assert float(mean) < 1e-5
    own = logits(PeftModel.from_pretrained(plain(tiny_checkpoint), lora.model), adapter)
    torch.testing.assert_close(logits(plain(tmp_path / "out"), adapter), own, atol=1e-4, rtol=0)
    assert float((own - logits(plain(tiny_checkpoint), adapter)).abs().max()) > 0.05, "the run changed the model"
    assert not list((tmp_path / "out").glob("adapter_*"))
    assert (
        load_file(tmp_path / "out/model.safetensors").keys() == load_file(tiny_checkpoint / "model.safetensors").keys()
    )


def test_it_is_an_ordinary_folder(full, tiny_checkpoint, adapter, tmp_path) -> None:
    (tmp_path / "out").mkdir()  # an empty folder may be there
    assert export(full, tmp_path / "out") == 0
    written, own = load_file(tmp_path / "out/model.safetensors"), load_file(full.model / "model.safetensors")
    assert all(torch.equal(written[name], own[name]) for name in own)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"README.md", "config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"}
    assert not [name for name in names if name.startswith((".", "state"))]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    start, end = (GenerationConfig.from_pretrained(folder) for folder in (tiny_checkpoint, tmp_path / "out"))
    assert start.eos_token_id == end.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == adapter.tokenizer.chat_template
    assert load_adapter(tmp_path / "out").image_tokens(500, 400) <= 112 * 84 // 28**2, "as large as it saw them"
    assert load_adapter(tiny_checkpoint).image_tokens(500, 400) > 112 * 84 // 28**2


def test_bfloat16(lora, adapter, tmp_path) -> None:
    assert export(lora, tmp_path / "out", "--dtype", "bfloat16") == 0
    written = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert "weights in bfloat16" in card(tmp_path / "out")[1]


def test_the_adapter_alone(lora, tiny_checkpoint, adapter, tmp_path) -> None:
    assert export(lora, tmp_path / "out", "--adapter-only") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json", "vlm_r1.json"}
    own, exported = (
        logits(PeftModel.from_pretrained(plain(tiny_checkpoint), folder), adapter)
        for folder in (lora.model, tmp_path / "out")
    )
    assert torch.equal(own, exported)
    matter, text = card(tmp_path / "out")
    assert matter["library_name"] == "peft"
    assert "(LoRA adapter)" in text


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_checkpoint(unfinished: bool, full, tmp_path, capsys) -> None:
    run, options = full, ["--checkpoint", "1"]
    if unfinished:
        run, options = RunFolder(tmp_path / "unfinished"), []
        shutil.copytree(full.path, run.path, ignore=shutil.ignore_patterns("model", "step-000002"))
    assert export(run, tmp_path / "out", *options) == 0
    assert "step-000001, step 1 of 2" in " ".join(capsys.readouterr().out.split())
    written = load_file(tmp_path / "out/model.safetensors")
    own = load_file(full.checkpoints / "step-000001/model.safetensors")
    assert all(torch.equal(written[name], own[name]) for name in own)
    evaluation = json.loads((full.evaluations / "step-000001-in_domain.json").read_text())
    low, high = evaluation["metrics"]["iou"]["ci95"]
    assert f"{evaluation['metrics']['iou']['mean']:.3f} [{low:.3f}, {high:.3f}] |\n" in card(tmp_path / "out")[1]
    assert " after 1 steps of " in card(tmp_path / "out")[1]


def test_experts_with_adapters(family_checkpoint, rec_files, tmp_path) -> None:
    named = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    options = {"lora": {"r": 2, "lora_dropout": 0.0, "peft": named}}
    run = trained(tmp_path / "run", family_checkpoint("qwen3_vl_moe"), rec_files, model=options)
    assert export(run, tmp_path / "out") == 0
    start, end = (load_file(f / "model.safetensors") for f in (family_checkpoint("qwen3_vl_moe"), tmp_path / "out"))
    moved = {name.rpartition(".")[2] for name in start if not torch.equal(start[name], end[name])}
    assert {"gate_up_proj", "down_proj"} <= moved


# The card -------------------------------------------------------------------------------------------------------------


def test_the_card_says_what_it_is(lora, tiny_checkpoint, tmp_path) -> None:
    assert export(lora, tmp_path / "out") == 0
    matter, text = card(tmp_path / "out")
    tags = ["vlm-r1", "grpo", "rec"]
    assert matter == {"library_name": "transformers", "pipeline_tag": "image-text-to-text", "tags": tags}
    assert f"`{tiny_checkpoint.name}` after 2 steps of reinforcement learning" in text
    assert str(tiny_checkpoint.parent) not in text, "no folder of this machine"
    cells = []
    for moment in ("before", "after"):
        value = json.loads((lora.evaluations / f"{moment}-in_domain.json").read_text())["metrics"]["iou"]
        cells.append(f"{value['mean']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]")
    assert f"| in_domain | 12 | iou | {cells[0]} | {cells[1]} |" in text
    assert "* trained on `train.jsonl` (rec): 48 records" in text
    assert "* held out `in_domain.jsonl` (rec): 12 records" in text
    environment = json.loads((lora.path / "environment.json").read_text())
    assert f"seed 42; commit {environment['commit']}" in text
    assert f"torch {environment['packages']['torch']}" in text
    assert "in pixels of the image as the processor resized it" in text
    assert "Please provide the bounding box coordinates of the region this sentence describes: {question}." in text
    recipe = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0])
    assert recipe["model"] == {"path": tiny_checkpoint.name, "lora": LORA}
    assert recipe["training"]["learning_rate"] == 2e-2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task: rec", "task: a.b:C", 'task "a.b:C" is code, and a model folder may not run code.* --allow-task a.b:C'),
        ("template: null", "template: a.b:C", 'template "a.b:C" is code.* --allow-template a.b:C'),
        ("adapter: null", "adapter: a.b:C", 'adapter "a.b:C" is code.* --allow-adapter a.b:C'),
        (r"train:\n.*?(?=  eval:)", "train: []\n", "config.yaml: data.train is empty"),
    ],
)
def test_a_recipe_that_somebody_changed(old, new, message, full, tmp_path, capsys) -> None:
    run = RunFolder(Path(shutil.copytree(full.path, tmp_path / "run")))
    text, n = re.subn(old, new, run.config.read_text(), count=1, flags=re.DOTALL)
    assert n == 1
    run.config.write_text(text)
    assert export(run, tmp_path / "out") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_base_is_named_if_it_is_on_the_hub(full, tmp_path) -> None:
    moved = RunFolder(tmp_path / "moved")
    shutil.copytree(full.path, moved.path)
    config = yaml.safe_load((moved.path / "config.yaml").read_text())
    config["model"]["path"] = "owner/base-3B"  # a run of all weights needs its base no more
    (moved.path / "config.yaml").write_text(yaml.safe_dump(config))
    assert export(moved, tmp_path / "out") == 0
    matter, text = card(tmp_path / "out")
    assert matter["base_model"] == "owner/base-3B"
    assert "`owner/base-3B` after" in text


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
    run = trained(tmp_path / "run", family_checkpoint("gemma3"), rec_files, training={"max_steps": 1})
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
    run = trained(tmp_path / "run", tiny_checkpoint, rec_files, model=model, training={"max_steps": 1})
    assert export(run, tmp_path / "out", "--adapter-only") == 0
    shutil.copytree(tiny_checkpoint, tmp_path / "out" / tiny_checkpoint.name)  # the base, by its name
    names = run_card(tmp_path / "out", (300, 200))
    _, rows, columns = names["inputs"]["image_grid_thw"][0].tolist()
    assert rows * columns * 14 * 14 <= 56 * 56


def test_the_code_for_an_adapter_is_python(lora, tiny_checkpoint, tmp_path) -> None:
    assert export(lora, tmp_path / "out", "--adapter-only") == 0
    code = code_of(tmp_path / "out")
    assert "PeftModel.from_pretrained(model, adapter)" in [ast.unparse(n) for n in ast.walk(ast.parse(code))]
    assert f"base, adapter = ('{tiny_checkpoint.name}', '.')" in ast.unparse(ast.parse(code))


# What cannot be -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--adapter-only"], "trained all weights, so there is no adapter", id="no adapter"),
        pytest.param(["--checkpoint", "7"], "no checkpoint of step 7; checkpoints of steps: 1, 2", id="no such step"),
    ],
)
def test_what_a_run_does_not_have(options: list[str], message: str, full, tmp_path, capsys) -> None:
    assert export(full, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_and_folders_that_do_not_go(lora, tmp_path, capsys) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    cases = [
        (lora, tmp_path / "used", (), "is there already, and not an empty folder"),
        (
            lora,
            tmp_path / "out",
            ("--adapter-only", "--dtype", "bfloat16"),
            "--dtype has no effect with --adapter-only",
        ),
        (RunFolder(tmp_path / "used"), tmp_path / "out", (), "holds no run: there is no config.yaml"),
    ]
    for run, target, options, message in cases:
        assert export(run, target, *options) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_run_without_weights_yet(full, tmp_path, capsys) -> None:
    shutil.copytree(full.path, tmp_path / "run", ignore=shutil.ignore_patterns("model", "checkpoints"))
    assert export(RunFolder(tmp_path / "run"), tmp_path / "out") == 2
    assert "there is neither a model nor a checkpoint yet; checkpoints of steps: none" in capsys.readouterr().err


@pytest.mark.filterwarnings(
    "ignore:.*tie_word_embeddings.*:UserWarning", "ignore:.*save_embedding_layers.*:UserWarning"
)
def test_what_is_not_the_runs_model_is_not_written(tiny_checkpoint, rec_files, tmp_path, capsys) -> None:
    """An adapter on a head that is tied to the embeddings: merging it moves the embeddings too."""
    options = {"lora": {"r": 4, "target_modules": ["lm_head"]}}
    run = trained(tmp_path / "run", tiny_checkpoint, rec_files, model=options)
    assert export(run, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "what was written is not the run's model" in error
    assert "tied to the embeddings cannot be merged: use --adapter-only" in error
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert export(run, tmp_path / "out", "--adapter-only") == 0
