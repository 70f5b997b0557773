"""Which layers stay, for how many each stands, and that a reduced model still runs."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vlm_r1.planning.representatives import choose_representatives, keep_representatives


@pytest.mark.parametrize(
    ("kinds", "first", "chosen"),
    [
        pytest.param("a", 1, {0: (1, True)}, id="one layer"),
        pytest.param("aa", 1, {0: (1, True), 1: (1, True)}, id="two"),
        pytest.param("aaa", 1, {0: (1, True), 1: (1, False), 2: (1, True)}, id="three: nothing to leave out"),
        pytest.param("aaaaa", 1, {0: (1, True), 1: (2, False), 3: (1, False), 4: (1, True)}, id="five"),
        pytest.param("a" * 7, 3, {0: (1, True), 1: (1, True), 2: (1, True), 3: (2, False), 5: (1, False), 6: (1, True)},
                     id="the first three are ends"),
        pytest.param("aaabaaabaaab", 1,
                     {0: (1, True), 1: (6, False), 3: (2, False), 9: (1, False), 10: (1, True), 11: (1, True)},
                     id="every fourth is of another kind"),
    ],
)  # fmt: skip
def test_layers_that_stay(kinds: str, first: int, chosen: dict[int, tuple[int, bool]]) -> None:
    found = choose_representatives(list(kinds), first)
    assert found == chosen
    assert list(found) == sorted(found), "in order"
    for kind in set(kinds):
        assert sum(times for n, (times, _) in found.items() if kinds[n] == kind) == kinds.count(kind)


def test_a_reduced_model_has_few_layers_and_stands_for_all(family_adapter) -> None:
    config = family_adapter("qwen3_vl").config
    config = type(config).from_dict(config.to_dict())
    config.text_config.num_hidden_layers, config.vision_config.depth = 20, 12
    config.text_config.layer_types = ["full_attention"] * 20
    config.vision_config.deepstack_visual_indexes = [2, 5, 8]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    every = sum(p.numel() for p in model.parameters())
    layers = keep_representatives(model, family_adapter("qwen3_vl").vision_taps)
    assert len(model.model.language_model.layers) == 6, "three take features of inner vision layers, one is the last"
    assert len(model.model.visual.blocks) == 6
    assert [layer.self_attn.layer_idx for layer in model.model.language_model.layers] == list(range(6))
    times = {id(p): layer.times for layer in layers for p in layer.module.parameters()}
    assert sum(p.numel() * times.get(id(p), 1) for p in model.parameters()) == every
