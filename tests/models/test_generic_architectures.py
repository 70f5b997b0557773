"""Model types whose processors need torchvision: their real models suit the generic adapter.

The pixels are drawn by hand, in the shape that the family's processor makes. Everything else is real.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from testing_families import SIZE, VISION, VOCABULARY, encode, picture_of
from testing_policy import completions, take_gradients
from vlm_r1.errors import ModelError
from vlm_r1.models.generic import Generic
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.testing import text_sizes
from vlm_r1.testing.common import train_tokenizer

TOKENIZER = train_tokenizer(VOCABULARY, ["where is the small red circle? [12, 34, 56, 78]"] * 8, SIZE.vocab_size)
TEXT = text_sizes(TOKENIZER, SIZE)
PIXELS = torch.randn(24 * 3 * 14 * 14, generator=torch.Generator().manual_seed(0))
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "out_hidden_size": 64,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 1,
    "fullatt_block_indexes": [1],
    "window_size": 56,
}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}


class Architecture(NamedTuple):
    """A model type in small; what its processor makes of one image, and how many tokens that is."""

    config: Mapping[str, Any]
    vision: Mapping[str, torch.Tensor]
    tokens: int


ARCHITECTURES = {
    "cohere2_vision": Architecture(
        {
            "text_config": {"model_type": "cohere2", **TEXT, "logit_scale": 0.25},
            "vision_config": {"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
            "downsample_factor": 2,
            "alignment_intermediate_size": 64,
        },
        {"pixel_values": PIXELS[: 3 * 56 * 56].view(1, 3, 56, 56)},
        4,
    ),
    "mistral3": Architecture(
        {
            "text_config": {"model_type": "mistral", **TEXT, "head_dim": 16},
            "vision_config": {"model_type": "pixtral", **VISION, "head_dim": 16, "image_size": 112},
            "spatial_merge_size": 2,
        },
        {"pixel_values": PIXELS.view(1, 3, 56, 84), "image_sizes": torch.tensor([[56, 84]])},
        6,
    ),
    "kimi_k25": Architecture(
        {
            "text_config": {"model_type": "deepseek_v3", **TEXT, **DEEPSEEK},
            "vision_config": {
                **{name: size for name, size in VISION.items() if name != "image_size"},
                "pos_emb_height": 8,
                "pos_emb_width": 8,
            },
            "projection_hidden_size": 64,
            "tie_word_embeddings": False,
        },
        {"pixel_values": PIXELS.view(24, 3, 14, 14), "image_grid_thw": torch.tensor([[1, 4, 6]])},
        6,
    ),
    "hyperclovax_vision_v2": Architecture(
        {
            "text_config": {"model_type": "hyperclovax", **TEXT, "logits_scaling": 0.125},
            "vision_config": {"model_type": "qwen2_5_vl_vision", **QWEN_VISION},
        },
        {"pixel_values": PIXELS.view(24, 3 * 14 * 14), "image_grid_thw": torch.tensor([[1, 4, 6]])},
        6,
    ),
}
SCALED = "hyperclovax_vision_v2"
"""Of these, the only one whose forward scales its logits (transformers 5.23); Cohere2-Vision's config names a scale."""


class ByHand:
    """A processor of text, beside which the pixels are given."""

    image_token = "<image>"
    image_processor = None
    tokenizer = TOKENIZER

    def __init__(self, own: Architecture):
        self.own = own

    def __call__(self, text: list[str], images: Any, return_tensors: str, add_special_tokens: bool) -> dict[str, Any]:
        expanded = text[0].replace("<image>", "<image>" * self.own.tokens)
        ids = TOKENIZER(expanded, add_special_tokens=add_special_tokens, return_tensors=return_tensors)
        return {**ids, **(self.own.vision if images else {})}


class WithoutProcessor(Generic):
    def load_processor(self, config: Any) -> Any:
        return ByHand(ARCHITECTURES[config.model_type])


@pytest.fixture(scope="module")
def made():
    """`made("mistral3")`: (adapter, model in float64)."""

    @cache
    def make(model_type: str) -> tuple[Any, Any]:
        ids = {"image_token_id": TOKENIZER.convert_tokens_to_ids("<image>")}
        config = AutoConfig.for_model(model_type, **ARCHITECTURES[model_type].config, **ids)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForImageTextToText.from_config(config).double().eval()
        model.set_experts_implementation("eager")
        for module in model.modules():  # uninitialised in a new model
            if type(module).__name__ == "DeepseekV3TopkRouter":
                module.e_score_correction_bias.zero_()
        adapter = WithoutProcessor(config, TOKENIZER, None)
        adapter.prepare(model)
        return adapter, model

    return make


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_rows_and_gradients_equal_the_stock_forward(model_type: str, made) -> None:
    adapter, model = made(model_type)
    prompts = [encode(adapter, "<image>the small circle", [picture_of(56, 56)]), encode(adapter, "no picture", [])]
    ids_P_G_T = [completions(adapter, lengths, 1) for lengths in ([5, 9], [4])]
    scored = Policy(model, adapter, 0.7, "rows")(CompletionBatch(prompts, ids_P_G_T)).logprobs_NT
    members = [(prompt, ids_T) for prompt, own in zip(prompts, ids_P_G_T, strict=True) for ids_T in own]
    expected = torch.zeros_like(scored)
    for row, (prompt, ids_T) in enumerate(members):
        ids_1L = torch.tensor([[*prompt.ids_L, *ids_T]])
        vision = {name: x.double() if x.is_floating_point() else x for name, x in prompt.vision.items()}
        logits = model(ids_1L, attention_mask=torch.ones_like(ids_1L), **vision).logits
        own = logits[0, len(prompt.ids_L) - 1 : -1].index_fill(-1, torch.tensor(adapter.banned_ids()), float("-inf"))
        logprobs_TV = (own / 0.7).log_softmax(-1)
        expected[row, : len(ids_T)] = logprobs_TV.gather(1, torch.tensor([ids_T]).T)[:, 0]
    torch.testing.assert_close(scored, expected, atol=2e-6, rtol=0)  # norms are float32
    weights = torch.randn(scored.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for values in (scored, expected):
        (values * weights).sum().backward()
        gradients.append(take_gradients(model))
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_scale_is_what_the_forward_does_not_what_the_config_names(model_type: str, made) -> None:
    adapter, model = made(model_type)
    assert (adapter.logit_scale, adapter.logit_cap) == (0.125 if model_type == SCALED else 1.0, None)
    ids = torch.tensor([adapter.tokenize("the small circle")])
    hidden = model.base_model(ids).last_hidden_state
    torch.testing.assert_close(model(ids).logits, model.get_output_embeddings()(hidden) * adapter.logit_scale)


def test_without_the_constant_the_numbers_are_others(made) -> None:
    adapter, model = made(SCALED)
    prompt = encode(adapter, "<image>the small circle", [picture_of(56, 56)])
    batch = CompletionBatch([prompt], [completions(adapter, [9], 1)])
    forgetful = WithoutProcessor(adapter.config, TOKENIZER, None)
    forgetful.prepare(model)
    forgetful.logit_scale = 1.0
    with torch.no_grad():
        right, wrong = (Policy(model, own, 1.0, "rows")(batch).logprobs_NT for own in (adapter, forgetful))
    assert float((right - wrong).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        pytest.param(lambda logits: logits * 0.25, False, id="the scale of the config"),
        pytest.param(lambda logits: logits / 0.25, False, id="divided by it"),
        pytest.param(lambda logits: logits * 0.3, True, id="another scale"),
        pytest.param(lambda logits: 20 * torch.tanh(logits / 20), True, id="a cap that no setting names"),
        pytest.param(lambda logits: logits + 1, True, id="shifted"),
    ],
)
def test_what_is_done_to_logits_is_measured(change: Any, refused: bool, made) -> None:
    _, model = made("cohere2_vision")
    stock = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = stock(*args, **kwargs)
        output.logits = change(output.logits)
        return output

    adapter = WithoutProcessor(model.config, TOKENIZER, None)
    model.forward = forward
    try:
        if refused:
            with pytest.raises(ModelError, match="changes its logits after the output head, and not by a scale"):
                adapter.prepare(model)
            return
        adapter.prepare(model)
    finally:
        del model.forward
    assert adapter.logit_scale in (0.25, 4.0)
    assert torch.equal(change(torch.tensor(2.0)), torch.tensor(2.0 * adapter.logit_scale))
