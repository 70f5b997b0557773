"""Encoding against the family's own processors, and clear errors for checkpoints that cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.parts import count_parameters, lora_targets
from vlm_r1.types import ImageFrame, Prompt

SIZES = [(56, 56), (64, 60), (52, 52), (84, 56), (200, 31), (31, 200), (500, 400)]


@pytest.mark.parametrize("wh", SIZES)
def test_frames_placeholders_and_features_agree(wh: tuple[int, int], adapter, model64) -> None:
    encoded = adapter.encode(Prompt("<image>what is it", ("a.png",)), [Image.new("RGB", wh)])
    limits = adapter.image_processor.size
    height, width = smart_resize(wh[1], wh[0], 28, limits["shortest_edge"], limits["longest_edge"])
    assert encoded.frames == (ImageFrame(wh, (width, height)),)
    placeholders = encoded.ids_L.count(adapter.config.image_token_id)
    assert placeholders == (width // 28) * (height // 28) == adapter.image_tokens(*wh)
    (features,) = adapter.encode_images(model64, [encoded])
    assert len(features) == placeholders
    assert adapter.prompt_length(Prompt("<image>what is it", ("a.png",)), [wh]) == len(encoded.ids_L)


def test_several_images_keep_their_order(adapter) -> None:
    prompt = Prompt("first <image> then <image> end", ("a.png", "b.png"))
    red, blue = Image.new("RGB", (56, 56), "red"), Image.new("RGB", (112, 56), "blue")
    encoded = adapter.encode(prompt, [red, blue])
    assert [frame.input_wh for frame in encoded.frames] == [(56, 56), (112, 56)]
    pixels = encoded.vision["pixel_values"]
    channels = pixels.reshape(len(pixels), 3, -1).mean(-1)
    assert (channels[:16, 0] > channels[:16, 2]).all(), "the first 16 patches are the red image's"
    assert (channels[16:, 2] > channels[16:, 0]).all()
    assert encoded.text.index("first") < encoded.text.index("<|image_pad|>") < encoded.text.index("then")
    assert adapter.prompt_length(prompt, [(56, 56), (112, 56)]) == len(encoded.ids_L)


def test_positions_equal_the_familys_own(adapter, model64, prompts) -> None:
    for prompt in prompts.values():
        (positions,) = adapter.positions(model64, [prompt])
        assert positions.shape == (3, len(prompt.ids_L))
        if not prompt.frames:
            assert torch.equal(positions, torch.arange(len(prompt.ids_L)).expand(3, -1))
        else:
            assert positions.max() < len(prompt.ids_L) - 1, "an image takes fewer positions than tokens"


BAD_PROMPTS = {
    "marks and images differ": (Prompt("no mark", ("a.png",)), "0 <image> for 1 images"),
    "placeholder in the data": (Prompt("<image>say <|image_pad|>", ("a.png",)), "the model's own placeholder"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_bad_prompts(name: str, adapter) -> None:
    prompt, message = BAD_PROMPTS[name]
    with pytest.raises(ModelError, match=message.replace("|", r"\|")):
        adapter.encode(prompt, [Image.new("RGB", (56, 56))])


def damaged(tiny_checkpoint: Path, folder: Path, damage) -> Path:
    shutil.copytree(tiny_checkpoint, folder / "copy")
    damage(folder / "copy")
    return folder / "copy"


def other_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama", "architectures": None}))


def text_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}{% endfor %}")


BAD_CHECKPOINTS = {
    "no folder": (lambda p: shutil.rmtree(p), "cannot load the config"),
    "unknown family": (other_type, 'unknown model type "llama"'),
    "no tokenizer": (lambda p: [f.unlink() for f in p.glob("*token*")], r"tokenizer does not have <\|image_pad\|>"),
    "no image processor": (lambda p: (p / "preprocessor_config.json").unlink(), "cannot load the image processor"),
    "no chat template": (lambda p: (p / "chat_template.jinja").unlink(), "no chat template"),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_bad_checkpoints(name: str, tiny_checkpoint, tmp_path) -> None:
    damage, message = BAD_CHECKPOINTS[name]
    with pytest.raises(ModelError, match=message):
        load_adapter(damaged(tiny_checkpoint, tmp_path, damage))


def test_a_template_without_images_is_an_error(tiny_checkpoint, tmp_path) -> None:
    adapter = load_adapter(damaged(tiny_checkpoint, tmp_path, text_template))
    with pytest.raises(ModelError, match=r"wrote 0 <\|image_pad\|> for 1 images"):
        adapter.encode(Prompt("<image>x", ("a.png",)), [Image.new("RGB", (56, 56))])


def test_pixel_limits(tiny_checkpoint) -> None:
    small = load_adapter(tiny_checkpoint, max_pixels=56 * 56)
    assert small.image_tokens(500, 400) <= 4
    large = load_adapter(tiny_checkpoint, min_pixels=140 * 140)
    assert large.image_tokens(56, 56) >= 25
    with pytest.raises(ModelError, match="at least 784, one merged patch"):
        load_adapter(tiny_checkpoint, max_pixels=100)


def test_lora_targets_leave_head_and_vision_out(model64, adapter) -> None:
    without = lora_targets(model64, adapter.vision_modules, include_vision=False)
    every = lora_targets(model64, adapter.vision_modules, include_vision=True)
    assert not any(name.startswith("model.visual.") or name == "lm_head" for name in without)
    assert set(without) < set(every)
    assert "lm_head" not in every


def test_a_lora_folder_loads_through_its_base(tiny_checkpoint, adapter, tmp_path) -> None:
    section = ModelSection(path=str(tiny_checkpoint), lora=LoraSection(r=2, lora_alpha=4))
    load_model(section, adapter).save_pretrained(tmp_path / "adapter")
    assert load_adapter(tmp_path / "adapter").config.model_type == "qwen2_5_vl"
    model = load_model(ModelSection(path=str(tmp_path / "adapter")), adapter)
    assert model.get_base_model().config.model_type == "qwen2_5_vl"


def test_nothing_to_train_is_an_error(model64) -> None:
    trainable, total = count_parameters(model64)
    assert trainable == total > 100_000
    model64.requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter would train"):
        count_parameters(model64)
