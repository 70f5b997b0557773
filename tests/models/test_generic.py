"""The generic adapter on model types that are not built in: LLaVA and LLaVA-NeXT suit it, others are refused.

What it shares with the families' own adapters is in test_families.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from testing_families import GENERIC, encode, picture_of
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models import ADAPTERS, load_adapter
from vlm_r1.models.generic import Generic
from vlm_r1.models.stock import stock_processor
from vlm_r1.policy.packed import choose_layout
from vlm_r1.pretrained.foreign import foreign
from vlm_r1.sampling.decoding import choose_decoding, expanded
from vlm_r1.types import BoxFormat

every_suited_type = pytest.mark.parametrize("model_type", GENERIC)

# What it takes --------------------------------------------------------------------------------------------------------


@every_suited_type
def test_it_finds_the_vision_part_and_the_placeholder(model_type: str, family_adapter, family_model64) -> None:
    adapter, model = family_adapter(model_type), family_model64(model_type)
    assert isinstance(adapter, Generic)
    assert model_type not in ADAPTERS
    projecting = {"model.multi_modal_projector"} | ({"model.image_newline"} if model_type == "llava_next" else set())
    assert set(adapter.vision_modules) == {"model.vision_tower"} | projecting
    assert set(adapter.projector_modules) == projecting
    others = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "TILE_GLOBAL")
    banned = {adapter.placeholder, *(others if model_type == "aya_vision" else ())}
    assert banned <= set(adapter.tokenizer.convert_ids_to_tokens(list(adapter.banned_ids())))
    assert adapter.stop_ids(model) == (adapter.tokenizer.eos_token_id,)
    assert adapter.box_format is BoxFormat.NORM_1


def test_prompts_are_shared_only_if_the_recipe_says_so(family_adapter, family_model64) -> None:
    adapter, model = family_adapter("llava"), family_model64("llava")
    text_config = model.config.get_text_config()
    layout, reason = choose_layout("auto", text_config, adapter.why_not_shared)
    assert layout == "rows"
    assert "no adapter of its own; training.layout packed tries" in reason
    assert choose_layout("packed", text_config, adapter.why_not_shared)[0] == "packed"
    assert choose_decoding(model, adapter) is expanded


@every_suited_type
def test_a_saved_folder_holds_its_combined_processor(model_type: str, family_adapter, tmp_path) -> None:
    adapter, picture = family_adapter(model_type), picture_of(56, 56)
    adapter.save(tmp_path)
    encoded = encode(adapter, "<image>the small red circle", [picture])
    inputs = AutoProcessor.from_pretrained(tmp_path)(images=[picture], text=encoded.text, return_tensors="pt")
    assert tuple(inputs["input_ids"][0].tolist()) == encoded.ids_L


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # PaliGemma's processor
@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        pytest.param("paligemma", "its image tokens do not have ordinary positions", id="positions from 1 on"),
    ],
)
def test_a_model_that_does_not_suit_is_refused(model_type: str, reason: str, family_adapter, family_model64) -> None:
    family_adapter(model_type)
    with pytest.raises(ModelError, match=f"{reason}. It needs an adapter of its own: see docs/add_a_model.md"):
        family_model64(model_type)


class FromParts(Generic):
    """By a processor without its half for videos."""

    def load_processor(self, config: Any) -> Any:
        return stock_processor(load_adapter(config.name_or_path))


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        pytest.param("qwen2_5_vl", "its image tokens do not have ordinary positions", id="positions of three axes"),
        pytest.param("qwen3_vl", "its images have deepstack_features besides their features", id="inner features"),
        pytest.param("gemma3", "its attention is not plainly causal", id="image tokens that see both ways"),
        pytest.param("internvl", None, id="InternVL, which would suit"),
        pytest.param("llava_onevision", None, id="LLaVA-OneVision, which would suit"),
    ],
)
def test_families_with_an_adapter_show_what_is_found_out(family: str, reason: str | None, family_adapter) -> None:
    own = family_adapter(family)
    adapter = FromParts(own.config, own.tokenizer, own.image_processor)
    model = AutoModelForImageTextToText.from_pretrained(own.config.name_or_path)
    if reason is None:
        adapter.prepare(model)
        assert set(adapter.vision_modules) == set(own.vision_modules)
        assert set(adapter.projector_modules) == set(own.projector_modules)
        return
    with pytest.raises(ModelError, match=f"does not suit model type .*: {reason}"):
        adapter.prepare(model)


@pytest.mark.parametrize("box_format", [None, BoxFormat.INPUT_PIXELS])
def test_the_box_format_has_to_be_said(box_format, family_checkpoint) -> None:
    message = r'"llava" has no adapter of its own, so model.box_format has to say how it writes boxes: original_pixels'
    with pytest.raises(ConfigError, match=message):
        load_adapter(family_checkpoint("llava"), box_format=box_format)


def test_pixels_cannot_be_limited(family_checkpoint) -> None:
    with pytest.raises(ModelError, match="min_pixels and max_pixels have no effect on model type"):
        load_adapter(family_checkpoint("llava"), max_pixels=10_000, box_format=BoxFormat.NORM_1)


def test_without_its_processor_nothing_works(family_checkpoint, tmp_path) -> None:
    for path in family_checkpoint("llava").iterdir():
        if path.name not in ("processor_config.json", "preprocessor_config.json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="cannot load the"):
        load_adapter(tmp_path, box_format=BoxFormat.NORM_1)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_prompt_without_images_for_a_model_that_needs_one(family_adapter) -> None:
    adapter = family_adapter("paligemma")
    with pytest.raises(ModelError, match=r'model type "paligemma" wants an image in every prompt: .*\. Leave records'):
        encode(adapter, "the small red circle", [])


# What a foreign processor raises --------------------------------------------------------------------------------------


def changed(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    settings = json.loads((folder / file).read_text(encoding="utf-8"))
    change(settings)
    (folder / file).write_text(json.dumps(settings), encoding="utf-8")


PROCESSOR, IMAGES = "processor_config.json", "preprocessor_config.json"
COPY = "Copy the files of processor, tokenizer and template from the original checkpoint"
INSTALL = "Install torchvision, in the release that belongs to your torch: pip install torchvision"
BROKEN = {
    "its class needs torchvision": (
        PROCESSOR,
        lambda own: own.update(processor_class="PixtralProcessor"),
        f'cannot load the processor .model type "llava" has no adapter of its own.*: ImportError: .*{INSTALL}',
    ),
    "its image processor needs torchvision": (
        IMAGES,
        lambda own: own.update(image_processor_type="Cohere2VisionImageProcessor"),
        f"cannot load the image processor: .*{INSTALL}",
    ),
    "its class does not exist": (
        PROCESSOR,
        lambda own: own.update(processor_class="NobodysProcessor"),
        "there is no processor for images and text|cannot load the processor",
    ),
    "a setting has another type": (
        PROCESSOR,
        lambda own: own.update(patch_size="many"),
        rf'processor of model type "llava" fails on images of 56 x 40 pixels: TypeError: .*\. {COPY}\. It needs',
    ),
    "a setting is missing": (
        PROCESSOR,
        lambda own: own.pop("patch_size"),
        rf'processor of model type "llava" fails on images of 56 x 40 pixels: TypeError: .*\. {COPY}',
    ),
    "a setting of images that is nonsense": (
        IMAGES,
        lambda own: own.update(image_mean=[0.5, 0.5]),
        rf'processor of model type "llava" fails on images of 56 x 40 pixels: ValueError: .*\. {COPY}',
    ),
}


@pytest.mark.parametrize(("file", "change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_a_foreign_processor_raises_is_a_model_error(file, change, message, family_checkpoint, tmp_path) -> None:
    folder = Path(shutil.copytree(family_checkpoint("llava"), tmp_path / "copy"))
    changed(folder, file, change)
    with pytest.raises(ModelError, match=message) as caught:
        encode(load_adapter(folder, box_format=BoxFormat.NORM_1), "<image>what", [picture_of(56, 40)])
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None or "there is no processor" in str(caught.value)


def test_our_own_bugs_and_full_memory_stay_what_they_are() -> None:
    with (
        pytest.raises(ModelError, match=r"theirs: ZeroDivisionError: division by zero. It needs an adapter"),
        foreign("theirs"),
    ):
        _ = 1 / 0
    with pytest.raises(torch.OutOfMemoryError), foreign("theirs"):
        raise torch.OutOfMemoryError("full")
    with pytest.raises(ModelError, match=r"^ours$"), foreign("theirs"):
        raise ModelError("ours")
    with pytest.raises(KeyboardInterrupt), foreign("theirs"):
        raise KeyboardInterrupt
