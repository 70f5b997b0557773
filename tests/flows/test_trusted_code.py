"""A checkpoint with code of its own trains, is evaluated and exported if the user says so; else none of it runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration

from vlm_r1.cli.main import main
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.pretrained.remote_code import code_note
from vlm_r1.runtime.metrics_log import read_metrics

CODE = """
from transformers import LlavaConfig, LlavaForConditionalGeneration

with open({canary!r}, "a") as file:
    file.write("ran\\n")

class OutsideConfig(LlavaConfig):
    model_type = "outside_vl"

class OutsideModel(LlavaForConditionalGeneration):
    config_class = OutsideConfig
"""


@pytest.fixture
def canary(tmp_path) -> Path:
    """The file that the code of `outside` writes."""
    return tmp_path / "it ran"


@pytest.fixture
def outside(family_checkpoint, tmp_path, canary, monkeypatch) -> Path:
    """A checkpoint whose model type is known to nobody but the code in its folder."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = Path(shutil.copytree(family_checkpoint("llava"), tmp_path / "outside"))
    (folder / "modeling_outside.py").write_text(CODE.format(canary=str(canary)))
    weights = LlavaForConditionalGeneration.from_pretrained(folder).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "OutsideConfig", "AutoModelForImageTextToText": "OutsideModel"}
    config |= {"model_type": "outside_vl", "auto_map": {key: f"modeling_outside.{name}" for key, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def trusting(recipe, outside):
    """`trusting(**options)`: path of a recipe for that checkpoint."""

    def write(**options: object) -> str:
        return str(
            recipe(
                **{
                    "model.path": str(outside),
                    "model.box_format": "norm_1000",
                    "model.trust_remote_code": True,
                    "training.max_steps": 1,
                    **options,
                }
            )
        )

    return write


def test_it_trains_is_evaluated_and_exported(trusting, canary, rec_files, tmp_path, capsys) -> None:
    """And goes on from its own copy of the code. A run folder switches nothing on: each command has to be told."""
    assert main(["train", trusting(**{"training.save_steps": 1})]) == 0
    shown = capsys.readouterr().out
    assert f"code of {tmp_path}/outside runs with your rights" in shown.replace("\n", "")
    assert "trust checks" in shown
    run, data = tmp_path / "run", str(rec_files["in_domain"])
    assert (run / "model/modeling_outside.py").exists()
    assert canary.exists()
    more = ["--resume", "--training.max_steps=2", "--allow", "training.max_steps"]
    assert main(["train", trusting(), *more]) == 0
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == [1, 2]

    canary.unlink()
    evaluation = ["eval", str(run), data, "--limit=2", "--max-completion-length=4", f"--out={tmp_path / 'eval'}"]
    export = ["export", str(run), "--to", str(tmp_path / "exported")]
    capsys.readouterr()
    assert main(evaluation) == 2
    assert "--trust-remote-code of eval" in capsys.readouterr().err
    assert main(export) == 2
    assert "If you have read it and trust it, add --trust-remote-code" in capsys.readouterr().err
    assert not canary.exists()
    assert main([*evaluation, "--trust-remote-code"]) == 0
    assert f"code of {run}/model runs with your rights" in capsys.readouterr().err.replace("\n", "")
    assert main([*export, "--trust-remote-code"]) == 0
    assert (tmp_path / "exported/modeling_outside.py").exists()
    assert 'dtype="auto", trust_remote_code=True)' in (tmp_path / "exported/README.md").read_text()


def test_without_the_option_none_of_it_runs(trusting, outside, canary, rec_files, tmp_path, capsys) -> None:
    """Whatever command meets it. The error names the remedy."""
    path = trusting(**{"model.trust_remote_code": False})
    commands = (
        ["train", path],
        ["sft", path],
        ["train", path, "--dry-run"],
        ["trace", path],
        ["plan", path, "--gpu=80GB"],
        ["check-model", str(outside), "--box-format=norm_1000", "--only=loads"],
        ["eval", str(outside), str(rec_files["in_domain"]), "--box-format=norm_1000", f"--out={tmp_path / 'eval'}"],
    )
    for command in commands:
        main(command)
        shown = capsys.readouterr()
        told = " ".join((shown.out + shown.err).split())
        assert "auto_map in config.json names code of this checkpoint, which is not run" in told, command
        assert "model.trust_remote_code=true in a recipe" in told
    assert not canary.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["trace", "train --dry-run", "check-model"])
def test_other_commands_warn_before_it_runs(command, trusting, outside, canary, capsys) -> None:
    name, *options = command.split()
    words = [trusting()] if name != "check-model" else [str(outside), "--box-format=norm_1000", "--trust-remote-code"]
    assert main([name, *words, *options]) == 0
    told = capsys.readouterr()
    assert f"code of {outside} runs with your rights" in told.err.replace("\n", "")
    assert canary.exists()


def test_the_code_belongs_to_the_run(trusting, outside, capsys) -> None:
    """Changed code is a changed model. Control: another file of the folder is not looked at."""
    assert main(["train", trusting()]) == 0
    more = ["--resume", "--training.max_steps=2", "--allow=training.max_steps"]
    (outside / "notes.rst").write_text("read me")
    with (outside / "modeling_outside.py").open("a") as file:
        file.write("\n# another line\n")
    assert main(["train", trusting(), *more]) == 2
    assert "model.path: its files are not those that the run has used" in capsys.readouterr().err
    assert main(["train", trusting(**{"model.trust_remote_code": False}), *more]) == 2
    assert "model.trust_remote_code: run True, now False" in capsys.readouterr().err


def test_trust_without_code_has_no_effect(tiny_checkpoint, recipe, tmp_path, capsys) -> None:
    with pytest.raises(ConfigError, match="brings no code of its own, so that to trust it has no effect"):
        load_adapter(tiny_checkpoint, trust_remote_code=True)
    assert main(["train", str(recipe()), "--model.trust_remote_code=true"]) == 2
    assert not (tmp_path / "run/config.yaml").exists()
    assert main(["check-model", str(tiny_checkpoint), "--trust-remote-code"]) == 2
    assert capsys.readouterr().err.count("brings no code of its own") == 2
    with pytest.raises(ConfigError, match="nobody/nothing: brings no code"):
        code_note("nobody/nothing")


def test_code_that_is_not_for_images_and_text(outside) -> None:
    config = json.loads((outside / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = config["auto_map"].pop("AutoModelForImageTextToText")
    (outside / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match='model type "outside_vl" does not take images and text'):
        load_adapter(outside, trust_remote_code=True)


def test_it_computes_what_transformers_own_class_computes(outside, family_checkpoint) -> None:
    """The same weights in the class of the folder and in transformers' own."""
    ids = torch.arange(5, 12)[None]
    logits = []
    for path, trust in ((outside, True), (family_checkpoint("llava"), False)):
        section = ModelSection(path=str(path), box_format="norm_1000", trust_remote_code=trust)  # type: ignore[arg-type]
        adapter = load_adapter(path, box_format=section.box_format, trust_remote_code=trust)
        with torch.no_grad():
            logits.append(load_model(section, adapter)(input_ids=ids).logits)
    assert torch.equal(*logits)


def test_a_saved_recipe_keeps_the_option(trusting, tmp_path) -> None:
    assert main(["train", trusting()]) == 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["trust_remote_code"] is True
