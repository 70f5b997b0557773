"""Gemma 3: image tokens that see both ways, windows, and a size that nobody chooses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma3Config

from testing_families import encode, picture_of
from testing_policy import TOLERANCE, completions, largest_difference, score
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter
from vlm_r1.models.gemma3 import Gemma3
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout
from vlm_r1.sampling.decoding import choose_decoding, expanded
from vlm_r1.types import BoxFormat


class CausalImages(Gemma3):
    """Forgets that image tokens see both ways."""

    def token_types(self, ids_NL: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}


def batch_of(adapter: Any, words_before: int) -> CompletionBatch:
    """Two groups; in the second, images stand at other places."""
    before = "red " * words_before
    pictures = [picture_of(56, 56, seed) for seed in range(3)]
    prompts = [
        encode(adapter, f"{before}<image> the small circle", pictures[:1]),
        encode(adapter, f"<image>{before}<image><image> the region", pictures),
    ]
    return CompletionBatch(prompts, [completions(adapter, [4, 40], 1), completions(adapter, [9, 2, 5], 2)])


@pytest.mark.parametrize("words_before", [0, 9, 30])
def test_packed_is_rows_wherever_windows_cut_images(words_before: int, family_adapter, family_model64) -> None:
    """Windows of 32 tokens: no image is left behind, some are, all are."""
    adapter, model = family_adapter("gemma3"), family_model64("gemma3")
    batch, policy = batch_of(adapter, words_before), Policy(model, adapter)
    rows = score(policy, batch, "rows")
    assert max(largest_difference(score(policy, batch), rows)) < TOLERANCE
    forgetful = CausalImages(adapter.config, adapter.tokenizer, adapter.image_processor)
    for layout in ("packed", "rows"):
        wrong = score(Policy(model, forgetful), batch, layout)
        logprobs, _, gradients = largest_difference(wrong, rows)
        assert logprobs > 500 * TOLERANCE
        assert gradients > 500 * TOLERANCE


def test_layout_and_decoding(family_adapter, family_model64) -> None:
    model = family_model64("gemma3")
    assert choose_layout("auto", Gemma3Config().get_text_config())[0] == "packed"
    assert choose_decoding(model, family_adapter("gemma3")) is expanded
    model.config.text_config.layer_types = ["full_attention"] * 3
    assert choose_decoding(model, family_adapter("gemma3")) is expanded, "its images see both ways without windows too"


def test_every_image_is_one_square_and_there_is_no_budget(family_checkpoint, family_adapter) -> None:
    adapter = family_adapter("gemma3")
    encoded = encode(adapter, "<image> and <image>", [picture_of(500, 20), picture_of(9, 300)])
    assert [frame.input_wh for frame in encoded.frames] == [(56, 56), (56, 56)]
    assert encoded.vision["pixel_values"].shape == (2, 3, 56, 56)
    budgets: list[dict[str, Any]] = [{"min_pixels": 10}, {"max_pixels": 10_000}]
    for limits in budgets:
        with pytest.raises(ModelError, match="no effect on Gemma 3, which sees every image as 56 x 56 pixels in 4 tok"):
            load_adapter(family_checkpoint("gemma3"), **limits)


def test_pan_and_scan_stays_off(family_checkpoint) -> None:
    """As in the combined processor, whatever the saved image processor says."""
    adapter = load_adapter(family_checkpoint("gemma3"))
    options = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 8}
    for name, value in {**options, "pan_and_scan_max_num_crops": 4, "pan_and_scan_min_ratio_to_activate": 1.2}.items():
        setattr(adapter.image_processor, name, value)
    crops = adapter.image_processor(images=[picture_of(500, 100)], return_tensors="pt")
    assert len(crops["pixel_values"]) > 1, "it would make crops"
    assert len(encode(adapter, "<image>", [picture_of(500, 100)]).vision["pixel_values"]) == 1


def test_boxes_have_y_first(family_adapter) -> None:
    assert family_adapter("gemma3").box_format is BoxFormat.NORM_1000_YX
