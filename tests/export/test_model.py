"""`vlm-r1 export`: what it writes is the run's model, in plain transformers, with a card that says what it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

from testing_exports import LORA, card, export, trained
from testing_families import encode, picture_of, stock_arguments
from vlm_r1.models import load_adapter
from vlm_r1.runtime.run_folder import RunFolder


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    """All weights trained, with a limit of pixels."""
    model = {"max_pixels": 112 * 84}
    return trained(tmp_path_factory.mktemp("full") / "run", tiny_checkpoint, rec_files, model=model)


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_checkpoint, rec_files) -> RunFolder:
    """DoRA adapters trained."""
    return trained(tmp_path_factory.mktemp("lora") / "run", tiny_checkpoint, rec_files, model={"lora": LORA})


def logits(model: Any, adapter: Any) -> torch.Tensor:
    """Of a prompt with a picture, by plain transformers."""
    arguments = stock_arguments(adapter, encode(adapter, "<image>the red circle", [picture_of(112, 84)]))
    with torch.no_grad():
        return model.eval()(**arguments).logits


def plain(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder)


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
