"""The family of a model: by its config on this machine, by its name, or as the user says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_r1.config.model import ModelSection
from vlm_r1.errors import ConfigError
from vlm_r1.rehearsal.family import family_of_name, find_family


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl"),
        ("Qwen/Qwen2.5-VL-72B-Instruct-AWQ", "qwen2_5_vl"),
        ("omlab/VLM-R1-Qwen2.5VL-3B-OVD-0321", "qwen2_5_vl"),
        ("Qwen/Qwen3-VL-4B-Thinking", "qwen3_vl"),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct", "qwen3_vl_moe"),
        ("Qwen/Qwen3.5-4B", "qwen3_5"),
        ("Qwen/Qwen3.5-35B-A3B", "qwen3_5_moe"),
        ("OpenGVLab/InternVL3_5-8B-HF", "internvl"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("google/gemma-4-E4B-it", "gemma4"),
        ("zai-org/GLM-4.1V-9B-Thinking", "glm4v"),
        ("zai-org/GLM-4.5V", "glm4v_moe"),
        ("zai-org/GLM-4.6V-Flash", "glm46v"),
        ("HuggingFaceM4/Idefics3-8B-Llama3", "idefics3"),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm"),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava_onevision"),
        ("my/model", None),
        ("Qwen/Qwen2.5-3B-Instruct", None),
    ],
)
def test_names(name: str, model_type: str | None) -> None:
    assert family_of_name(name) == model_type


def test_a_config_on_the_disk_wins_over_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-3-4b-it"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    assert find_family(ModelSection(path=str(folder))).model_type == "qwen3_vl"
    assert find_family(ModelSection(path=str(folder)), "internvl").model_type == "internvl"


def test_a_lora_folder_leads_to_its_base(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_checkpoint)}))
    assert find_family(ModelSection(path=str(tmp_path))).model_type == "qwen2_5_vl"


def test_a_model_of_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    commit = tmp_path / "models--my--model/snapshots/abc"
    commit.mkdir(parents=True)
    (commit / "config.json").write_text(json.dumps({"model_type": "smolvlm"}))
    (tmp_path / "models--my--model/refs").mkdir()
    (tmp_path / "models--my--model/refs/main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    family = find_family(ModelSection(path="my/model"))
    assert family == ("smolvlm", "as config.json of my/model in the cache says")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "wanted the folder of a model, with its config.json", id="no config"),
        pytest.param({"config.json": "[]"}, "wanted a JSON object", id="a list"),
        pytest.param({"config.json": "{"}, "cannot be read as JSON", id="torn"),
        pytest.param({"config.json": '{"model_type": "llama"}'}, "no tiny model of this family", id="other family"),
    ],
)
def test_what_says_no_family(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_family(ModelSection(path=str(tmp_path)))
