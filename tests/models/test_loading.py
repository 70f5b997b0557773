"""Checkpoints as different versions of transformers write them, and clear errors for those that cannot work."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from testing_families import encode, picture_of, stock_arguments
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import ADAPTERS, load_adapter, load_model
from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.policy.packed import choose_layout
from vlm_r1.types import Prompt

FAMILIES = sorted(family for family, adapter in ADAPTERS.items() if issubclass(adapter, PatchGrid))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")


@pytest.fixture
def copy_of(family_checkpoint, tmp_path):
    """`copy_of(family, change)`: the tiny checkpoint's folder, copied and changed."""

    def make(family: str, change: Callable[[Path], object]) -> Path:
        folder = Path(shutil.copytree(family_checkpoint(family), tmp_path / "copy"))
        change(folder)
        return folder

    return make


def test_the_table_of_families_says_what_the_adapters_say(family_checkpoint) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text(encoding="utf-8")
    table = page.split("|---|---|---|---|---|---|\n")[1].split("\n\n")[0]
    said: dict[str, tuple[str, str]] = {}
    for line in table.splitlines():
        types, _, boxes, _, layout, _ = line.strip("|").replace("\\|", "").split("|")
        said |= dict.fromkeys(re.findall(r"`(\w+)`", types), (boxes.split("`")[1], re.findall(r"\w+", layout)[0]))
    assert said.keys() == ADAPTERS.keys()
    for family, adapter in ADAPTERS.items():
        text_config = AutoConfig.from_pretrained(family_checkpoint(family)).get_text_config()
        layout, _ = choose_layout("auto", text_config)
        assert (family, *said[family]) == (family, adapter.box_format.value, layout)


# Versions of transformers ---------------------------------------------------------------------------------------------


def as_version_4(folder: Path) -> None:
    """Rewrite a folder as transformers 4 wrote it (4.41 to 4.57, by what the families' published files look like)."""
    config = read(folder / "config.json")
    family = config["model_type"]
    weights = load_file(folder / "model.safetensors")
    save_file(weights_4(family, weights), folder / "model.safetensors", {"format": "pt"})
    write(folder / "config.json", config_4(family, config))
    processor_4(family, folder)
    tokenizer_4(folder)


def weights_4(family: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first two families' names lack a level. Experts lie one by one, but in Qwen3-VL together and transposed."""
    if family in ("qwen2_vl", "qwen2_5_vl"):
        old = {name.replace("model.visual.", "visual."): tensor for name, tensor in weights.items()}
        return {name.replace("model.language_model.", "model."): tensor for name, tensor in old.items()}
    if family == "qwen3_vl_moe":
        return {name: w.mT.contiguous() if ".mlp.experts." in name else w for name, w in weights.items()}
    if family.endswith("_moe"):
        assert any(name.endswith("mlp.experts.0.gate_proj.weight") for name in weights), "transformers 5 saves them so"
    return weights


def config_4(family: str, config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling`, `torch_dtype`; the first two families' text parameters on top."""
    text, vision = config.pop("text_config"), config.pop("vision_config")
    rope = text.pop("rope_parameters")
    text |= {key: rope.pop(key) for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    text["rope_scaling"] = rope
    del vision["rope_parameters"]
    config |= {"torch_dtype": config.pop("dtype"), "transformers_version": "4.57.1"}
    if family in ("qwen2_vl", "qwen2_5_vl"):
        rope |= {"type": "mrope"}
        del rope["rope_type"], text["layer_types"], text["model_type"]
        return {**text, **config, "vision_config": {**vision, "model_type": family}}
    if family.startswith("qwen3_vl"):
        vision["model_type"] = family
    if family == "qwen3_vl_moe":
        text["num_experts"] = text.pop("num_local_experts")
    return {**config, "text_config": text, "vision_config": vision}


def processor_4(family: str, folder: Path) -> None:
    settings = read(folder / "preprocessor_config.json")
    if family in ("qwen2_vl", "qwen2_5_vl"):
        size = settings.pop("size")
        settings |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    elif family.startswith("qwen3"):
        settings["image_processor_type"] = "Qwen2VLImageProcessorFast"
    settings["processor_class"] = "Glm4vProcessor" if family.startswith("glm") else "Qwen2VLProcessor"
    write(folder / "preprocessor_config.json", settings)


def tokenizer_4(folder: Path) -> None:
    """The template in a file of its own; named tokens only as a list."""
    tokenizer, settings = read(folder / "tokenizer.json"), read(folder / "tokenizer_config.json")
    added = {str(token.pop("id")): token for token in tokenizer["added_tokens"]}
    settings = {key: settings[key] for key in ("eos_token", "pad_token", "tokenizer_class")}
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    special = [token["content"] for token in added.values() if token["special"]]
    settings |= {"added_tokens_decoder": added, "additional_special_tokens": special, "add_prefix_space": False}
    write(folder / "tokenizer_config.json", settings)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    write(folder / "chat_template.json", {"chat_template": template})
    (folder / "chat_template.jinja").unlink()


def as_version_5(folder: Path) -> None:
    """As its combined processor writes it: image processor inside processor_config.json."""
    settings = read(folder / "preprocessor_config.json")
    write(folder / "processor_config.json", {"processor_class": "Qwen2VLProcessor", "image_processor": settings})
    (folder / "preprocessor_config.json").unlink()
    weights = load_file(folder / "model.safetensors")
    if any(name.startswith("visual.") for name in weights):
        weights = {name.replace("model.", "model.language_model."): tensor for name, tensor in weights.items()}
        weights = {name.replace("visual.", "model.visual."): tensor for name, tensor in weights.items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})


def logits_of(folder: Path) -> torch.Tensor:
    adapter = load_adapter(folder)
    model = load_model(ModelSection(path=str(folder)), adapter).eval()
    arguments = stock_arguments(adapter, encode(adapter, "<image>the red circle", [picture_of(84, 56)]))
    with torch.no_grad():
        return model(**arguments).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", [as_version_4, as_version_5])
def test_either_version_loads_to_the_same_model(version, family: str, family_checkpoint, copy_of) -> None:
    folder = copy_of(family, version)
    torch.testing.assert_close(logits_of(folder), logits_of(family_checkpoint(family)), atol=1e-6, rtol=0)


def test_the_processors_template_wins_over_the_tokenizers(copy_of) -> None:
    """Several published checkpoints have a tokenizer whose own template is for text alone."""

    def change(folder: Path) -> None:
        as_version_4(folder)
        settings = read(folder / "tokenizer_config.json")
        write(folder / "tokenizer_config.json", {**settings, "chat_template": "{{ messages[0]['role'] }}"})

    adapter = load_adapter(copy_of("qwen2_vl", change))
    assert "<|image_pad|>" in adapter.render(Prompt("<image>what", ("a.png",)))


# Checkpoints that cannot work -----------------------------------------------------------------------------------------


def with_keys(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write(folder / file, {**read(folder / file), **changes})

    return change


def without(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = list(folder.glob(pattern))
        assert found
        for path in found:
            path.unlink()

    return change


def with_wider_layers(folder: Path) -> None:
    config = read(folder / "config.json")
    write(folder / "config.json", {**config, "text_config": {**config["text_config"], "intermediate_size": 100}})


def with_half_of(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return change


def without_images(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}{% endfor %}")


BAD_ADAPTERS = [
    pytest.param("qwen2_vl", shutil.rmtree, "cannot load the config: .*wanted a Hugging Face folder", id="no folder"),
    pytest.param(
        "qwen2_vl", with_half_of("config.json"), "cannot load the config: .*not a valid JSON", id="torn config"
    ),
    pytest.param(
        "qwen2_vl",
        with_keys("config.json", model_type="qwen99"),
        "model type `qwen99` but Transformers does not recognize .*may need a newer transformers",
        id="type unknown to transformers",
    ),
    pytest.param(
        "qwen3_vl",
        with_keys("config.json", model_type="qwen3", architectures=None),
        'model type "qwen3" does not take images and text. Did you mean "qwen3_',
        id="text-only model",
    ),
    pytest.param(
        "qwen3_5",
        with_keys("config.json", model_type="qwen3_5_text", architectures=None),
        'model type "qwen3_5_text" does not take images and text',
        id="text half of a family",
    ),
    pytest.param(
        "qwen2_vl",
        without("*token*"),
        r"does not have <\|image_pad\|> as token \d+, .*copy the tokenizer files",
        id="no tokenizer",
    ),
    pytest.param("glm4v", without("*token*"), "cannot load the tokenizer: .*copy them", id="no tokenizer, GLM"),
    pytest.param(
        "qwen2_vl", without("chat_template.jinja"), "no chat template; copy chat_template.jinja", id="no template"
    ),
    pytest.param(
        "glm4v",
        without("preprocessor_config.json"),
        "cannot load the image processor: .*copy it from the original checkpoint",
        id="no image processor",
    ),
    pytest.param(
        "qwen3_vl",
        with_keys("preprocessor_config.json", patch_size=14),
        r"Qwen2VLImageProcessor\w* has {'patch_size': 14, .*, the model {'patch_size': 16, .*: it belongs to another",
        id="image processor of another family",
    ),
    pytest.param(
        "glm4v",
        with_keys("preprocessor_config.json", image_processor_type="CLIPImageProcessor", size={"shortest_edge": 56}),
        r"CLIPImageProcessor\w* has no grid, the model {'patch_size': 14, ",
        id="image processor of another kind",
    ),
]


@pytest.mark.parametrize(("family", "damage", "message"), BAD_ADAPTERS)
def test_what_cannot_encode_is_an_error_that_says_what_to_do(family: str, damage, message: str, copy_of) -> None:
    folder = copy_of(family, damage)
    with pytest.raises(ModelError, match=f"{folder}: .*{message}"):
        load_adapter(folder)


BAD_WEIGHTS = [
    pytest.param(
        "qwen2_vl",
        with_keys("config.json", model_type="qwen2_5_vl", architectures=None),
        r"not those of the qwen2_5_vl that config.json describes: no model.visual.*, and \d+ more; take config.json",
        id="Qwen2-VL under the name of Qwen2.5-VL",
    ),
    pytest.param(
        "qwen3_vl",
        with_keys("config.json", model_type="qwen3_5", architectures=None),
        "not those of the qwen3_5 .*linear_attn",
        id="Qwen3-VL under the name of Qwen3.5",
    ),
    pytest.param("glm4v", with_wider_layers, r"of shape \(\d+, \d+\), not \(\d+, \d+\)", id="other shapes"),
    pytest.param("glm4v", with_half_of("model.safetensors"), "cannot load the model: .*whole", id="torn weights"),
    pytest.param("glm4v", without("model.safetensors"), "cannot load the model: .*no file named", id="no weights"),
]


@pytest.mark.parametrize(("family", "damage", "message"), BAD_WEIGHTS)
def test_weights_that_do_not_fit_are_an_error(family: str, damage, message: str, copy_of) -> None:
    folder = copy_of(family, damage)
    adapter = load_adapter(folder)
    with pytest.raises(ModelError, match=f"{folder}: .*{message}"):
        load_model(ModelSection(path=str(folder)), adapter)


def test_a_template_without_images_is_an_error(copy_of) -> None:
    adapter = load_adapter(copy_of("qwen2_vl", without_images))
    with pytest.raises(ModelError, match=r"wrote 0 <\|image_pad\|> for 1 images.*take the one of the original"):
        encode(adapter, "<image>x", [picture_of(56, 56)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("no mark", "0 <image> for 1 images", id="marks and images differ"),
        pytest.param(
            "<image>say <|image_pad|>", r"the model's own placeholder <\|image_pad\|>", id="placeholder in data"
        ),
    ],
)
def test_bad_prompts(text: str, message: str, family_adapter) -> None:
    with pytest.raises(ModelError, match=message):
        encode(family_adapter("qwen2_vl"), text, [picture_of(56, 56)])


def test_a_lora_folder_loads_through_its_base(tiny_checkpoint, adapter, tmp_path) -> None:
    section = ModelSection(path=str(tiny_checkpoint), lora=LoraSection(r=2, lora_alpha=4))
    load_model(section, adapter).save_pretrained(tmp_path / "adapter")
    assert load_adapter(tmp_path / "adapter").config.model_type == "qwen2_5_vl"
    model = load_model(ModelSection(path=str(tmp_path / "adapter")), adapter)
    assert model.get_base_model().config.model_type == "qwen2_5_vl"
