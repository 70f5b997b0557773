"""The outside witness of every family: the stock processor makes our tokens, the stock model the policy's numbers."""

from __future__ import annotations

import pytest
import torch

from testing_families import FAMILIES, GENERIC, picture_of
from vlm_r1.errors import ModelError
from vlm_r1.models.stock import inputs_of, stock_attention, stock_inputs, stock_processor
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import choose_layout
from vlm_r1.training.witness import Witness
from vlm_r1.types import Prompt

IDS = [(5, 6, 7, 8), (9, 10)]
WITHOUT = {
    "smolvlm": "SmolVLMProcessor cannot be built here: .*num2words",
    "glmga": 'transformers has no processor for model type "glmga"',
}
"""Families whose processor cannot be built here, and why."""

PICTURES = [picture_of(84, 56, 2), picture_of(50, 121)]
TEXTS = ["what is red", "<image>what is red", "before <image> and <image>, what?"]


@pytest.mark.parametrize("family", [*FAMILIES, *GENERIC])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # GLM's
@torch.no_grad()
def test_processor_and_model_agree_with_the_adapter(family: str, family_adapter, family_model64) -> None:
    adapter, model = family_adapter(family), family_model64(family)
    layout, _ = choose_layout("auto", adapter.config.get_text_config(), adapter.why_not_shared)
    policy = Policy(model, adapter, 0.7, layout).eval()
    for text in TEXTS:
        images = PICTURES[: text.count("<image>")]
        prompt = Prompt(text, tuple(map(str, range(len(images)))))
        encoded = adapter.encode(prompt, images)
        if family in WITHOUT:
            with pytest.raises(ModelError, match=WITHOUT[family]):
                stock_processor(adapter)
            inputs = inputs_of(encoded, adapter, model)
        else:
            inputs = stock_inputs(stock_processor(adapter), adapter, prompt, images)
        assert inputs["input_ids"][0].tolist() == list(encoded.ids_L)
        batch = CompletionBatch([encoded], [IDS])
        stock = Witness(policy, [inputs], 0.7).side(batch, [])
        torch.testing.assert_close(policy(batch).logprobs_NT, stock.logprobs_NT, atol=2e-5, rtol=0)
        other = Witness(policy, [inputs], 0.8).side(batch, [])
        assert float((other.logprobs_NT - stock.logprobs_NT).abs().max()) > 1e-3, "the temperature counts"
        decoded = Witness(policy, [inputs], 0.7).decoded(batch)
        torch.testing.assert_close(decoded.double(), stock.logprobs_NT, atol=2e-5, rtol=0)  # (its logits are float32)


def test_the_attention_is_put_back(family_adapter, family_model64) -> None:
    adapter, model = family_adapter("qwen2_5_vl"), family_model64("qwen2_5_vl")
    policy = Policy(model, adapter)
    name = model.config.text_config._attn_implementation
    with stock_attention(adapter, policy.model, "eager"):
        assert model.config.text_config._attn_implementation == "eager"
    assert model.config.text_config._attn_implementation == name == "shared_prefix"
    with pytest.raises(KeyError), stock_attention(adapter, policy.model):
        raise KeyError("what goes wrong within")
    assert model.config.text_config._attn_implementation == name


def test_a_model_type_that_transformers_does_not_know(family_adapter) -> None:
    class Unknown(type(family_adapter("qwen2_5_vl"))):
        pass

    own = family_adapter("qwen2_5_vl")
    unknown = Unknown(own.config.__class__(**own.config.to_dict()), own.tokenizer, own.image_processor)
    unknown.config.model_type = "mine"
    with pytest.raises(ModelError, match='no processor for model type "mine"'):
        stock_processor(unknown)
