"""LLaVA-OneVision: canvases, padding and newlines by hand, the pixel budget, and the newline among the vision part."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from testing_families import encode, picture_of, stock_arguments
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.types import BoxFormat

# views of 56 px = 4 × 4 features; canvases of 1×1, 2×1, 1×2, 2×2, 4×1 and 1×4 tiles; at most 3 tiles of features
SINGLE = [
    pytest.param((56, 56), (56, 56), 4 * (4 + 1), id="one tile"),
    # 140 × 56 on 224 × 56: of 16 columns int(150 · 4/60) = 10 are picture, 3 on each side are padding
    pytest.param((150, 60), (140, 56), 4 * (10 + 1), id="padding at the sides"),
    # 112 × 67.2 on 112 × 112: of 8 lines int(60 · 8/100) = 4 are picture, 2 at each end are padding
    pytest.param((100, 60), (112, 68), 4 * (8 + 1), id="padding above and below"),
    pytest.param((60, 100), (68, 112), 8 * (4 + 1), id="upright"),
    # 8 × 8 features are 4 tiles' worth: 8 / √(64 / 48) = 6.9
    pytest.param((112, 112), (112, 112), 6 * (6 + 1), id="interpolated"),
]


@pytest.mark.parametrize(("wh", "seen", "of_tiles"), SINGLE)
def test_one_image_by_hand(wh, seen, of_tiles: int, family_adapter) -> None:
    adapter = family_adapter("llava_onevision")
    encoded = encode(adapter, "<image>it", [Image.new("RGB", wh)])
    assert encoded.frames[0].input_wh == seen
    assert encoded.ids_L.count(adapter.placeholder_id) == 16 + of_tiles == adapter.image_tokens(*wh)


def test_several_images_are_base_views(family_adapter) -> None:
    adapter = family_adapter("llava_onevision")
    encoded = encode(adapter, "<image><image>", [picture_of(150, 60), picture_of(60, 100)])
    assert encoded.vision["pixel_values"].shape == (2, 1, 3, 56, 56)
    assert encoded.ids_L.count(adapter.placeholder_id) == 2 * (16 + 1)
    assert [frame.input_wh for frame in encoded.frames] == [(56, 23), (34, 56)], "60 · 56 / 150 and 60 · 56 / 100"


def test_the_budget_chooses_among_canvases(family_checkpoint, tmp_path) -> None:
    folder, area = family_checkpoint("llava_onevision"), 56 * 56
    adapter = load_adapter(folder, min_pixels=area + 1, max_pixels=2 * area)
    assert adapter.image_processor.image_grid_pinpoints == [[56, 112], [112, 56]]
    model = load_model(ModelSection(path=str(folder)), adapter).eval()
    prompt = encode(adapter, "<image>it", [picture_of(300, 250)])
    assert prompt.vision["pixel_values"].shape[1] == 1 + 2
    with torch.no_grad():
        logits = model(**stock_arguments(adapter, prompt)).logits
        (features,) = adapter.encode_images(model, [prompt])
    assert len(features) == prompt.ids_L.count(adapter.placeholder_id)
    model.save_pretrained(tmp_path)
    adapter.save(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    again = encode(load_adapter(tmp_path), "<image>it", [picture_of(300, 250)])
    with torch.no_grad():
        torch.testing.assert_close(plain(**stock_arguments(adapter, again)).logits, logits)


@pytest.mark.parametrize("limits", [{"max_pixels": 3135}, {"min_pixels": 3137, "max_pixels": 6271}])
def test_a_budget_without_canvas_is_an_error(limits, family_checkpoint) -> None:
    with pytest.raises(ModelError, match="leave no canvas: wanted limits that hold one of 3136, 6272, 12544 pixels"):
        load_adapter(family_checkpoint("llava_onevision"), **limits)


def test_the_newline_belongs_to_the_features(family_checkpoint, family_adapter) -> None:
    adapter = family_adapter("llava_onevision")
    section = ModelSection(path=str(family_checkpoint("llava_onevision")), freeze_vision_modules=True)
    model = load_model(section, adapter)
    assert not model.model.image_newline.requires_grad
    assert adapter.sees_with_frozen_parts(model)
    model.model.image_newline.requires_grad_(True)
    assert not adapter.sees_with_frozen_parts(model), "kept features would grow stale"


def test_boxes_are_fractions(family_adapter) -> None:
    assert family_adapter("llava_onevision").box_format is BoxFormat.NORM_1
