"""InternVL, Gemma 3, Idefics3, SmolVLM and LLaVA-OneVision as transformers 4 and 5 write them.

The version 4 layouts follow what the families' published checkpoints look like.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from testing_families import KINDS, family_prompts
from vlm_r1.config.schema import ModelSection
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.inline import InlineImages

PROCESSORS = {name: own.processor_class for name, own in ADAPTERS.items() if issubclass(own, InlineImages)}
FAMILIES = sorted(set(PROCESSORS) - {"gemma4"})  # which transformers 4 never had
SIGLIP = ("gemma3", "llava_onevision")
IDEFICS = ("idefics3", "smolvlm")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")


def rename(folder: Path, new_name: Callable[[str], str]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({new_name(name): w for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def as_version_4(folder: Path) -> None:
    """Names of the first releases; settings with `torch_dtype` and `rope_theta`; template and processor apart."""
    config = read(folder / "config.json")
    family = config["model_type"]
    if family in SIGLIP:
        rename(folder, lambda name: name.replace("vision_tower.", "vision_tower.vision_model."))
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    if family == "gemma3":
        text |= {"rope_theta": rope["full_attention"]["rope_theta"], "rope_scaling": None, "sliding_window_pattern": 3}
        text["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        del text["layer_types"]
    else:
        text |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    config |= {"torch_dtype": config.pop("dtype"), "transformers_version": "4.51.3"}
    write(folder / "config.json", config)
    settings = read(folder / "preprocessor_config.json") | {"processor_class": PROCESSORS[family]}
    write(folder / "preprocessor_config.json", settings)
    write(folder / "processor_config.json", {"processor_class": PROCESSORS[family]})
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    write(folder / "chat_template.json", {"chat_template": template})
    (folder / "chat_template.jinja").unlink()


def as_late_version_4(folder: Path) -> None:
    """From 4.52 on the names are the modules' own."""
    if read(folder / "config.json")["model_type"] in IDEFICS:
        return  # as they always were
    rename(folder, lambda name: f"model.{name.replace('language_model.model.', 'language_model.')}")


def as_version_5(folder: Path) -> None:
    """As the combined processor writes it: the image processor inside processor_config.json."""
    settings = read(folder / "preprocessor_config.json")
    family = read(folder / "config.json")["model_type"]
    nested = {"processor_class": PROCESSORS[family], "image_processor": settings}
    write(folder / "processor_config.json", nested)
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", [as_version_4, as_late_version_4, as_version_5])
def test_every_version_loads_to_the_same(version, family: str, family_checkpoint, family_adapter, tmp_path) -> None:
    folder = Path(shutil.copytree(family_checkpoint(family), tmp_path / "copy"))
    version(folder)
    adapter, original = load_adapter(folder), family_adapter(family)
    prompts, expected = family_prompts(adapter), family_prompts(original)
    for kind in KINDS:
        assert prompts[kind].ids_L == expected[kind].ids_L
        assert prompts[kind].vision.keys() == expected[kind].vision.keys()
        for name, tensor in prompts[kind].vision.items():
            assert torch.equal(tensor, expected[kind].vision[name])
    one, other = (
        load_model(ModelSection(path=str(path)), own)
        for path, own in ((folder, adapter), (family_checkpoint(family), original))
    )
    text, expected_text = (model.config.get_text_config().to_dict() for model in (one, other))
    assert {name: text[name] for name in expected_text} == expected_text
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name
