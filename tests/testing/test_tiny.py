"""Tiny checkpoints are ordinary ones: plain transformers loads them, and their tokenizers survive a reload."""

from __future__ import annotations

import hashlib

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from testing_families import FAMILIES
from vlm_r1.errors import ConfigError
from vlm_r1.models import ADAPTERS
from vlm_r1.testing import TINY, TinySize, write_tiny, write_tiny_qwen2_5_vl

CORPUS = ["user\n<image>the red circle\nassistant\n[1, 2, 30, 4]"] * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_loads_it(family: str, family_checkpoint) -> None:
    folder, vocabulary = family_checkpoint(family), TINY[family].vocabulary
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.config.model_type == family
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for token in (*vocabulary.special_tokens, *vocabulary.plain_tokens):
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    assert len(tokenizer) <= model.config.get_text_config().vocab_size
    stop = model.generation_config.eos_token_id
    stop_ids = tokenizer.convert_tokens_to_ids(list(vocabulary.stop_tokens))
    assert (stop if isinstance(stop, list) else [stop]) == stop_ids
    text = "<think>der größte 圆 circle</think><answer>[1, 20, 300, 4]</answer>\n\t x"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.tokenize("300") == ["3", "0", "0"]
    assert AutoImageProcessor.from_pretrained(folder).model_input_names


def test_every_family_has_one() -> None:
    assert ADAPTERS.keys() == TINY.keys()


def test_the_template_is_the_familys(tiny_checkpoint) -> None:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hi"}]}]
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
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


def test_the_demos_model_stays_what_it_is(tmp_path) -> None:
    """Published numbers were measured with it: tokenizer to the byte; weights by sums, which other CPUs round alike."""
    folder = write_tiny_qwen2_5_vl(tmp_path / "model", CORPUS, seed=0)
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    model = AutoModelForImageTextToText.from_pretrained(folder)
    sums = {name: float(p.detach().double().abs().sum()) for name, p in model.named_parameters()}
    assert (digest[:16], len(sums)) == ("59afa018a20623d1", 68)
    assert sum(sums.values()) == pytest.approx(20764.964622, rel=1e-6)
    assert sums["model.language_model.embed_tokens.weight"] == pytest.approx(904.813790, rel=1e-6)


def test_a_size_is_what_it_says(tmp_path) -> None:
    size = TinySize(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vision_depth=1, patch_size=8)
    config = AutoModelForImageTextToText.from_pretrained(write_tiny("qwen3_vl", tmp_path, CORPUS, 0, size)).config
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (32, 2)
    assert (config.vision_config.depth, config.vision_config.patch_size) == (1, 8)


def test_an_unknown_type_is_an_error(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r'no tiny checkpoint of model type "qwen3vl". Did you mean "qwen3_vl"'):
        write_tiny("qwen3vl", tmp_path, CORPUS)
