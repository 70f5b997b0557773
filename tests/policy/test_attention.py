"""Packed attention against one dense mask over the whole row, in values and gradients, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vlm_r1.policy.attention import (
    PackedGroup,
    PackedLayout,
    SharedPrefixAttention,
    masked_attention,
    shared_prefix_attention,
)

TOLERANCE = 1e-12
HEADS, HEAD_DIM, SCALE = 4, 8, 0.3

LAYOUTS = {
    "G=1": [(5, (3,))],
    "G=2": [(7, (2, 6))],
    "G=8, ragged": [(11, (1, 2, 30, 4, 1, 9, 5, 5))],
    "several groups": [(3, (2, 2)), (17, (1,)), (1, (8, 1, 3))],
    "shortest": [(1, (1,))],
}


def layout_of(groups: list[tuple[int, tuple[int, ...]]]) -> PackedLayout:
    return PackedLayout(tuple(PackedGroup(prompt, completions) for prompt, completions in groups))


def causal_rows(layout: PackedLayout) -> list[Tensor]:
    """For each group, what an ordinary row [prompt | longest completion] may see: bool (R, R)."""
    lengths = [group.prompt + max(group.completions) for group in layout.groups]
    return [torch.ones(max(lengths), max(lengths), dtype=torch.bool).tril() for _ in lengths]


def dense_mask(layout: PackedLayout, rows: list[Tensor]) -> Tensor:
    """bool (L, L): each completion sees its prompt and itself, as in a row of its own; nothing else."""
    mask = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    end = 0
    for group, row in zip(layout.groups, rows, strict=True):
        P, prompt = group.prompt, slice(end, end + group.prompt)
        mask[prompt, prompt] = row[:P, :P]
        end += P
        for n in group.completions:
            own = slice(end, end + n)
            mask[own, prompt] = row[P : P + n, :P]
            mask[own, own] = row[P : P + n, P : P + n]
            end += n
    return mask


def random_qkv(length: int, key_heads: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, HEAD_DIM) for heads in (HEADS, key_heads, key_heads)]
    q, k, v = (torch.randn(one, generator=generator, dtype=torch.float64, requires_grad=True) for one in shapes)
    return q, k, v


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=SCALE, enable_gqa=grouped)


def assert_same(out: Tensor, expected: Tensor, leaves: Sequence[Tensor]) -> None:
    """Values and the gradients of all leaves, for one random cotangent."""
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=out.dtype)
    mine = torch.autograd.grad(out, leaves, grad)
    theirs = torch.autograd.grad(expected, leaves, grad)
    for a, b in zip([out, *mine], [expected, *theirs], strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("name", LAYOUTS)
def test_equals_a_dense_mask(name: str, key_heads: int) -> None:
    layout = layout_of(LAYOUTS[name])
    leaves = random_qkv(layout.length, key_heads)
    out: Any = SharedPrefixAttention.apply(*leaves, layout, SCALE)
    assert_same(out, dense(*leaves, dense_mask(layout, causal_rows(layout))), leaves)


group_lists = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40)
@given(groups=group_lists, key_heads=st.sampled_from([4, 2, 1]), seed=st.integers(0, 999))
def test_equals_a_dense_mask_for_any_layout(groups, key_heads, seed) -> None:
    layout = layout_of(groups)
    leaves = random_qkv(layout.length, key_heads, seed)
    out: Any = SharedPrefixAttention.apply(*leaves, layout, SCALE)
    assert_same(out, dense(*leaves, dense_mask(layout, causal_rows(layout))), leaves)


@settings(max_examples=40)
@given(groups=group_lists, key_heads=st.sampled_from([4, 1]), window=st.integers(1, 14), data=st.data())
def test_masked_attention_equals_a_dense_mask_with_windows_and_image_blocks(groups, key_heads, window, data) -> None:
    """Each row may see a window of the past; a block of each prompt (an image) sees itself both ways."""
    layout = layout_of(groups)
    rows = []
    for group, row in zip(layout.groups, causal_rows(layout), strict=True):
        start = data.draw(st.integers(0, group.prompt - 1))
        image = slice(start, data.draw(st.integers(start + 1, group.prompt)))
        row = row & torch.ones_like(row).triu(1 - window)
        row[image, image] = True
        rows.append(row)
    leaves = random_qkv(layout.length, key_heads)
    out = masked_attention(*leaves, torch.stack(rows)[:, None], layout, SCALE)
    assert_same(out, dense(*leaves, dense_mask(layout, rows)), leaves)


def siblings_see_each_other(mask: Tensor) -> None:
    mask[4:9, 4:9] = torch.ones(5, 5).tril().bool()


def groups_see_each_other(mask: Tensor) -> None:
    mask[9:, :4] = True


def the_prompts_end_is_hidden(mask: Tensor) -> None:
    mask[4:9, 3] = False


@pytest.mark.parametrize("wrong", [siblings_see_each_other, groups_see_each_other, the_prompts_end_is_hidden])
def test_controls_that_must_differ(wrong) -> None:
    layout = layout_of([(4, (2, 3)), (3, (2,))])  # tokens 0–3, 4–5, 6–8; 9–11, 12–13
    q, k, v = (x.detach() for x in random_qkv(layout.length, 2))
    mask = dense_mask(layout, causal_rows(layout))
    wrong(mask)
    out: Any = SharedPrefixAttention.apply(q, k, v, layout, SCALE)
    assert float((out - dense(q, k, v, mask)).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("prompt", "completions"),
    [
        pytest.param(0, (3,), id="prompt"),
        pytest.param(4, (3, 0), id="completion"),
        pytest.param(4, (), id="group"),
    ],
)
def test_nothing_may_be_empty(prompt: int, completions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="empty prompt, group or completion"):
        PackedGroup(prompt, completions)


def test_layout_by_hand() -> None:
    layout = layout_of([(4, (2, 3)), (3, (2,)), (1, (1, 1))])
    assert (layout.blocks, layout.length) == ([4, 2, 3, 3 + 2, 1, 1, 1], 17)
    assert list(layout.spans()) == [(slice(0, 4), slice(4, 9)), (slice(14, 15), slice(15, 17))], "G = 1 shares nothing"


# The registered function ----------------------------------------------------------------------------------------------

LAYER: Any = SimpleNamespace(layer_idx=5, num_key_value_groups=2, is_causal=True)
LAYOUT = layout_of([(4, (2, 3))])


def test_the_registered_function_marks_its_layer_and_puts_tokens_first() -> None:
    layout, (q, k, v) = layout_of([(4, (2, 3))]), random_qkv(9, 2)
    out, weights = shared_prefix_attention(LAYER, q, k, v, None, shared_prefix=layout)
    expected: Any = SharedPrefixAttention.apply(q, k, v, layout, HEAD_DIM**-0.5)
    assert torch.equal(out, expected.transpose(1, 2))
    assert weights is None
    assert layout.served.indices == {5}


def test_without_a_layout_it_is_sdpa() -> None:
    q, k, v = random_qkv(9, 2)
    out, _ = shared_prefix_attention(LAYER, q, k, v, None, scaling=SCALE)
    expected = scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE, enable_gqa=True)
    torch.testing.assert_close(out, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("shapes", "options", "reason"),
    [
        pytest.param([(1, 10), (1, 10)], {}, "a packed row of 9 tokens", id="longer row"),
        pytest.param([(2, 9), (2, 9)], {}, "a packed row of 9 tokens", id="two rows"),
        pytest.param([(1, 9), (1, 12)], {}, "a packed row of 9 tokens", id="keys from a cache"),
        pytest.param([(1, 9), (1, 9)], {"dropout": 0.1}, "has no dropout", id="dropout"),
        pytest.param([(1, 9), (1, 9)], {"softcap": 50.0}, "caps its scores", id="capped scores"),
        pytest.param([(1, 9), (1, 9)], {"sliding_window": 4}, "window without masks", id="window without masks"),
    ],
)
def test_what_it_cannot_compute_is_an_error(shapes, options: dict, reason: str) -> None:
    q, k = (torch.zeros(batch, HEADS, length, HEAD_DIM) for batch, length in shapes)
    with pytest.raises(ValueError, match=reason):
        shared_prefix_attention(LAYER, q, k, k, None, shared_prefix=LAYOUT, **options)


def test_autocast_computes_in_bfloat16_and_is_near() -> None:
    q, k, v = leaves = [x.detach().float().requires_grad_() for x in random_qkv(9, 2)]
    exact, _ = shared_prefix_attention(LAYER, q, k, v, None, shared_prefix=LAYOUT)
    with torch.autocast("cpu", torch.bfloat16):
        near, _ = shared_prefix_attention(LAYER, q, k, v, None, shared_prefix=LAYOUT)
    assert (exact.dtype, near.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(near.float(), exact, atol=0.02, rtol=0)
    exact_grads, near_grads = (torch.autograd.grad(out.float().sin().sum(), leaves) for out in (exact, near))
    for a, b in zip(near_grads, exact_grads, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=0.03, rtol=0)
