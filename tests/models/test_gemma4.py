"""Gemma 4: budgets of tokens, image tokens that see both ways in some layers, capped logits, reused keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma4TextConfig

from testing_families import SIZE, encode, picture_of
from testing_policy import TOLERANCE, completions, largest_difference, score
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import DataError, ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.gemma4 import Gemma4
from vlm_r1.models.stock import stock_inputs, stock_processor
from vlm_r1.policy.attention import shared_prefix_attention
from vlm_r1.policy.build import head_dims
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout, packing_obstacle
from vlm_r1.sampling.decoding import choose_decoding, expanded
from vlm_r1.testing import TINY, write_checkpoint
from vlm_r1.training.witness import Witness, gap, policy_side
from vlm_r1.types import BoxFormat, Prompt

AS_SMALL = {"use_bidirectional_attention": None}
"""As in E2B and E4B: plainly causal; embeddings in every layer and reused keys are in the tiny checkpoint anyway."""

AS_LARGE = {
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 32,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
}
"""As in 26B-A4B: experts, values that are the keys, fewer key heads in layers without windows."""

AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "output_proj_dims": 24,
    "subsampling_conv_channels": [4, 4],
}


@pytest.fixture(scope="module")
def variant(tmp_path_factory) -> Callable[..., Path]:
    """`variant({...text config...})`: folder of a tiny Gemma 4 with that instead."""

    def make(text: dict[str, Any], audio: dict[str, Any] | None = None) -> Path:
        def config(tokenizer: Any, size: Any) -> dict[str, Any]:
            own = TINY["gemma4"].config(tokenizer, size)
            return {**own, "text_config": {**own["text_config"], **text}, "audio_config": audio}

        folder = tmp_path_factory.mktemp("gemma4")
        corpus = ["where is the small red circle? [12, 34, 56, 78]"] * 8
        return write_checkpoint("gemma4", replace(TINY["gemma4"], config=config), folder, corpus, 1, SIZE)

    return make


def loaded(path: Path, family: type[Gemma4] = Gemma4) -> tuple[Any, Any]:
    adapter = load_adapter(path)
    adapter = family(adapter.config, adapter.tokenizer, adapter.image_processor)
    return adapter, load_model(ModelSection(path=str(path), dtype="float64"), adapter).eval()


TEXTS = ("red red <image> the small circle", "<image> red <image> the region", "no picture at all")
PICTURES = [picture_of(56, 56, seed) for seed in range(3)]


def batch_of(adapter: Any) -> CompletionBatch:
    prompts = [encode(adapter, text, PICTURES[: text.count("<image>")]) for text in TEXTS]
    return CompletionBatch(prompts, [completions(adapter, lengths, 1) for lengths in ([4, 40], [9, 2, 5], [7])])


class CausalImages(Gemma4):
    """Forgets that image tokens see both ways."""

    def token_types(self, ids_NL: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}


class Uncapped(Gemma4):
    """Forgets that logits are capped."""

    def __init__(self, *parts: Any):
        super().__init__(*parts)
        self.logit_cap = None


@pytest.mark.parametrize(
    ("text", "audio"),
    [
        pytest.param({}, None, id="all"),
        pytest.param(AS_SMALL, AUDIO, id="small"),
        pytest.param(AS_LARGE, None, id="large"),
    ],
)
def test_packed_rows_and_the_stock_forward_are_equal(text: dict[str, Any], audio: Any, variant) -> None:
    path = variant(text, audio)
    adapter, model = loaded(path)
    assert choose_layout("auto", model.config.get_text_config(), adapter.why_not_shared)[0] == "packed"
    batch, policy = batch_of(adapter), Policy(model, adapter, 0.7)
    packed, rows = score(policy, batch), score(policy, batch, "rows")
    assert max(largest_difference(packed, rows)) < TOLERANCE
    processor = stock_processor(adapter)
    pictures = [PICTURES[: text.count("<image>")] for text in TEXTS]
    asked = [Prompt(text, ("",) * len(own)) for text, own in zip(TEXTS, pictures, strict=True)]
    inputs = [stock_inputs(processor, adapter, *pair) for pair in zip(asked, pictures, strict=True)]
    for prompt, own in zip(batch.prompts, inputs, strict=True):
        assert list(prompt.ids_L) == own["input_ids"][0].tolist()
    chosen = ("k_proj", "embed_vision", "embed_tokens")
    parameters = [p for name, p in model.named_parameters() if p.requires_grad and any(part in name for part in chosen)]
    stock = Witness(policy, inputs, 0.7).side(batch, parameters)
    own, scored = policy_side(policy, batch, parameters)
    differs = gap(scored, own, stock)
    assert differs.logprobs.largest < 2e-5, "norms are float32"
    assert differs.gradients < 1e-5


@pytest.mark.parametrize(
    ("family", "least"), [pytest.param(CausalImages, 1e-3, id="causal"), pytest.param(Uncapped, 1e-2, id="uncapped")]
)
def test_who_forgets_the_cap_or_that_images_see_both_ways_is_found_out(
    family: type[Gemma4], least: float, family_adapter, family_model64
) -> None:
    adapter, model = family_adapter("gemma4"), family_model64("gemma4")
    batch = batch_of(adapter)
    right = score(Policy(model, adapter), batch, "rows")
    forgetful = family(adapter.config, adapter.tokenizer, adapter.image_processor)
    logprobs, _, gradients = largest_difference(score(Policy(model, forgetful), batch), right)
    assert logprobs > least
    assert gradients > least


def test_only_the_large_models_images_see_both_ways(variant, family_adapter) -> None:
    ids = torch.tensor([[1, family_adapter("gemma4").placeholder_id, 2]])
    assert family_adapter("gemma4").token_types(ids)["mm_token_type_ids"].tolist() == [[0, 1, 0]]
    assert load_adapter(variant(AS_SMALL)).token_types(ids) == {}
    assert packing_obstacle(Gemma4TextConfig(use_bidirectional_attention="vision")) is None
    assert packing_obstacle(Gemma4TextConfig(use_bidirectional_attention="all")) == "its tokens see both ways"
    assert choose_decoding(family_adapter("gemma4"), family_adapter("gemma4")) is expanded


def test_layers_have_heads_of_two_sizes(family_adapter) -> None:
    assert head_dims(family_adapter("gemma4").config.get_text_config()) == [16, 32]


def test_the_last_tokens_of_a_row_see_what_they_saw() -> None:
    """Gemma 4 computes its last layers for the tokens whose logits are wanted; torch's mask would begin at key 0."""
    q, k, v = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = torch.nn.Module()
    layer.is_causal = True
    layer.num_key_value_groups = 1
    whole, _ = shared_prefix_attention(layer, q, k, v, None)
    for kept in (1, 2, 5):
        last, _ = shared_prefix_attention(layer, q[:, :, -kept:], k, v, None)
        torch.testing.assert_close(last, whole[:, -kept:], atol=1e-12, rtol=0)


def test_what_hears_never_trains_and_is_no_part_of_language(variant) -> None:
    adapter, model = loaded(variant(AS_SMALL, AUDIO))
    heard = [name for name, _ in model.named_parameters() if "audio" in name]
    assert heard
    assert {adapter.part_of(name) for name in heard} == {"vision"}
    assert not any(p.requires_grad for name, p in model.named_parameters() if "audio" in name)
    trains = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any(name.startswith("model.vision_tower") for name in trains)


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wh", "seen"),
    [
        # 70 tokens of 6 × 6 px are 2,520 px; √(2520 / wh) enlarges or shrinks, sides go down to multiples of 6
        pytest.param((56, 56), (48, 48), id="square: 50.2 each"),
        pytest.param((112, 56), (66, 30), id="70.99 × 35.5"),
        pytest.param((28, 112), (24, 96), id="25.1 × 100.4"),
        pytest.param((5, 1), (108, 18), id="tiny: 112.2 × 22.4"),
        pytest.param((1000, 4), (420, 6), id="793.7 × 3.2: one token high, 250 wide, at most 70"),
    ],
)
def test_an_image_fills_its_budget(wh: tuple[int, int], seen: tuple[int, int], family_adapter) -> None:
    adapter = family_adapter("gemma4")
    encoded = encode(adapter, "<image>", [picture_of(*wh)])
    assert encoded.frames[0].input_wh == seen
    tokens = seen[0] * seen[1] // 36
    assert encoded.ids_L.count(adapter.placeholder_id) == adapter.image_tokens(*wh) == tokens <= 70
    places = encoded.vision["image_position_ids"][0]
    assert int((places >= 0).all(-1).sum()) == tokens * 9


def test_max_pixels_chooses_the_budget(family_checkpoint) -> None:
    """280 tokens of 36 px are 10,080 px, 140 are 5,040."""
    path = family_checkpoint("gemma4")
    for max_pixels, budget in ((5_040, 140), (10_079, 140), (10_080, 280), (10**9, 1120)):
        assert load_adapter(path, max_pixels=max_pixels).image_processor.max_soft_tokens == budget
    assert load_adapter(path, max_pixels=10_080).image_tokens(56, 56) == 256  # 16 × 16 of 6 px; √10080 = 100.4
    with pytest.raises(ModelError, match="max_pixels 2519: wanted at least 2520, 70 tokens"):
        load_adapter(path, max_pixels=2_519)
    with pytest.raises(ModelError, match="min_pixels has no effect on Gemma 4"):
        load_adapter(path, min_pixels=100)


def test_an_image_that_the_resize_refuses_is_named(family_adapter, monkeypatch) -> None:
    adapter = family_adapter("gemma4")
    monkeypatch.setattr(adapter.image_processor, "max_soft_tokens", 0)  # a budget of nothing: both sides round to 0
    with pytest.raises(DataError, match=r"an image of 9 x 7 pixels: .*0 x 0 image.*; crop it or drop the record"):
        adapter.image_tokens(9, 7)


def test_boxes_and_banned_tokens(family_adapter) -> None:
    adapter = family_adapter("gemma4")
    assert adapter.box_format is BoxFormat.NORM_1000_YX
    names = ["<|image|>", "<|image>", "<image|>", "<|audio|>", "<|audio>", "<audio|>", "<|video|>"]
    assert set(adapter.banned_ids()) == set(adapter.tokenizer.convert_tokens_to_ids(names))
    grey = adapter.blank(encode(adapter, "<image>", [picture_of(56, 56)]))
    assert grey.vision["pixel_values"].unique().tolist() == [0.5]
