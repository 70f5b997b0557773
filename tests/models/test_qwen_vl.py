"""What sets the Qwen families apart: box formats, deep-stacked features, opened thoughts, experts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from testing_families import encode, family_prompts, picture_of, stock_arguments
from testing_policy import completions, largest_difference, score
from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.models import load_adapter
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.types import Prompt

SQUARE = (100.0, 50.0, 200.0, 250.0)
"""A box in pixels of an image of 400 × 280."""


@pytest.mark.parametrize(
    ("family", "input_wh", "written"),
    [
        # max 64 tokens of 28 × 28 px: 400 × 280 shrinks by 1.494 to 267.7 × 187.4, down to multiples of 28: 252 × 168;
        # 100 · 252 / 400 = 63, 50 · 168 / 280 = 30, 200 · 252 / 400 = 126, 250 · 168 / 280 = 150
        pytest.param("qwen2_5_vl", (252, 168), (63.0, 30.0, 126.0, 150.0), id="Qwen2.5-VL: pixels of the input"),
        # 100 · 1000 / 400 = 250, 50 · 1000 / 280 = 178.57, 200 · 1000 / 400 = 500, 250 · 1000 / 280 = 892.86
        pytest.param("qwen2_vl", (252, 168), (250.0, 178.571, 500.0, 892.857), id="Qwen2-VL: 0 to 1000"),
        # max 64 tokens of 32 × 32 px: shrinks by 1.307 to 306 × 214.2, down to multiples of 32: 288 × 192
        pytest.param("qwen3_vl", (288, 192), (250.0, 178.571, 500.0, 892.857), id="Qwen3-VL: 0 to 1000"),
        pytest.param("qwen3_vl_moe", (288, 192), (250.0, 178.571, 500.0, 892.857), id="Qwen3-VL of experts"),
        pytest.param("qwen3_5", (288, 192), (250.0, 178.571, 500.0, 892.857), id="Qwen3.5: 0 to 1000"),
        pytest.param("qwen3_5_moe", (288, 192), (250.0, 178.571, 500.0, 892.857), id="Qwen3.5 of experts"),
    ],
)
def test_boxes_are_written_and_read_in_the_familys_coordinates(family, input_wh, written, family_adapter) -> None:
    adapter = family_adapter(family)
    (frame,) = encode(adapter, "<image>the square", [picture_of(400, 280)]).frames
    assert frame.input_wh == input_wh
    assert from_original(SQUARE, frame, adapter.box_format) == pytest.approx(written, abs=1e-3)
    back = to_original(from_original(SQUARE, frame, adapter.box_format), frame, adapter.box_format)
    assert back == pytest.approx(SQUARE)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5", "qwen3_vl_moe"])
def test_tokens_of_images_are_banned_and_answers_end_at_the_stop_token(family, family_adapter, family_model64) -> None:
    adapter, tokens = family_adapter(family), ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    assert set(adapter.banned_ids()) == set(adapter.tokenizer.convert_tokens_to_ids(tokens))
    model = family_model64(family)
    assert adapter.stop_ids(model) == (adapter.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    model.generation_config.eos_token_id = [3, 5]
    assert adapter.stop_ids(model) == (3, 5)


# Qwen3-VL: features of inner layers -----------------------------------------------------------------------------------


@pytest.fixture
def deep(family_model64, family_adapter):
    """(adapter, model, prompts) of Qwen3-VL."""
    adapter = family_adapter("qwen3_vl")
    return adapter, family_model64("qwen3_vl").eval(), family_prompts(adapter)


@torch.no_grad()
def test_deep_stacked_features_lie_beside_the_last(deep) -> None:
    adapter, model, prompts = deep
    chosen = [prompts["several"], prompts["wide"]]
    features = adapter.encode_images(model, chosen)
    stock = adapter.vision_output(model, chosen)
    assert len(stock.deepstack_features) == 2
    assert [image.shape for image in features] == [(len(image), 3 * 64) for image in stock.pooler_output]
    again = adapter.as_output(tuple(features))
    for own, expected in zip(
        [again.pooler_output, *again.deepstack_features], [stock.pooler_output, *stock.deepstack_features], strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))


def test_the_language_model_reads_them_and_they_learn(deep) -> None:
    adapter, model, prompts = deep
    with torch.no_grad():
        (own,) = adapter.image_features(model, [prompts["one"]])
    flat = tuple(torch.cat([image[:, :64], torch.zeros_like(image[:, 64:])], -1) for image in own)
    policy = Policy(model, adapter)
    ids = [completions(adapter, [6, 9])]
    right = score(policy, CompletionBatch([prompts["one"]], ids))
    without = score(policy, CompletionBatch([replace(prompts["one"], features=flat)], ids))
    assert float((without.logprobs_NT - right.logprobs_NT).abs().max()) > 1e-3
    mergers = [g for name, g in right.gradients.items() if "deepstack_merger_list" in name and name.endswith("weight")]
    assert len(mergers) == 2 * 3
    assert all(float(gradient.abs().max()) > 1e-6 for gradient in mergers)


# Thoughts that the template opens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_vl"])
def test_a_completion_holds_its_own_thinking_tag(family: str, family_adapter, family_checkpoint) -> None:
    adapter = family_adapter(family)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it"}]}]
    stock = AutoTokenizer.from_pretrained(family_checkpoint(family))
    theirs = stock.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ours = adapter.render(Prompt("<image>what is it", ("a.png",)))
    opened = "<think>\n" if family == "qwen3_5" else ""
    assert theirs == ours + opened
    assert ours.endswith("<|im_start|>assistant\n")
    assert adapter.tokenize(ours) + adapter.tokenize(opened) == tuple(stock(theirs)["input_ids"])


def test_decoding_keeps_the_tags_even_where_a_tokenizer_calls_them_special(family_checkpoint) -> None:
    adapter = load_adapter(family_checkpoint("qwen2_vl"))
    text = "<think>a hat</think><answer>[1, 2]</answer>"
    ids_T = adapter.tokenize(f"<|vision_start|>{text}<|im_end|>")
    assert adapter.decode(ids_T) == text
    adapter.tokenizer.add_tokens([AddedToken(tag, special=True) for tag in ("<think>", "</answer>")])
    assert adapter.tokenizer.decode(ids_T, skip_special_tokens=True) == "a hat</think><answer>[1, 2]"
    del adapter._unspoken_ids
    assert adapter.decode(ids_T) == text


# Experts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "qwen3_5_moe", "glm4v_moe"])
def test_routers_are_deterministic_and_add_no_loss(family: str, family_model64, family_adapter) -> None:
    adapter, model = family_adapter(family), family_model64(family)
    layout = "rows" if family == "qwen3_5_moe" else "packed"
    batch = CompletionBatch([family_prompts(adapter)["wide"]], [completions(adapter, [6, 9])])
    policy = Policy(model.train(), adapter, layout=layout)
    first = score(policy, batch)
    assert largest_difference(score(policy, batch), first) == (0.0, 0.0, 0.0)
    routers = [name for name in first.gradients if name.endswith(("mlp.gate.weight", "mlp.router.weight"))]
    assert routers
    text_config = model.config.get_text_config()
    text_config.output_router_logits, text_config.router_aux_loss_coef = True, 1e6
    assert largest_difference(score(policy, batch), first) == (0.0, 0.0, 0.0)


def test_float32_experts_equal_those_in_float64(family_model64, family_adapter) -> None:
    """The grouped matrix product that trains, against one expert at a time."""
    adapter = family_adapter("qwen3_vl_moe")
    exact = family_model64("qwen3_vl_moe").eval()
    single = copy.deepcopy(exact).float()
    single.set_experts_implementation("grouped_mm")
    arguments = stock_arguments(adapter, encode(adapter, "<image>what is it", [picture_of(84, 56)]))
    with torch.no_grad():
        torch.testing.assert_close(single(**arguments).logits.double(), exact(**arguments).logits, atol=1e-3, rtol=1e-3)
