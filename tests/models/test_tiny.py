"""The tiny checkpoint is an ordinary one: plain transformers loads it, and its tokenizer survives a reload."""

from __future__ import annotations

import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from vlm_r1.models.tiny import SPECIAL_TOKENS, TAGS, write_tiny_qwen2_5_vl

CORPUS = ["user\n<image>the red circle\nassistant\n[1, 2, 30, 4]"] * 4


def test_plain_transformers_loads_it(tiny_checkpoint) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    assert type(AutoImageProcessor.from_pretrained(tiny_checkpoint)).__name__.startswith("Qwen2VLImageProcessor")
    for token in (*SPECIAL_TOKENS, *TAGS):
        assert len(tokenizer.encode(token)) == 1
    assert len(tokenizer) <= model.config.text_config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = "<think>the größte 圆 circle</think><answer>[1, 20, 300, 4]</answer>\n\t x"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.tokenize("300") == ["3", "0", "0"]
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hi"}]}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>hi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_seed_decides_the_weights_and_nothing_else_is_touched(tmp_path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_tiny_qwen2_5_vl(tmp_path / name, CORPUS, seed)
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
