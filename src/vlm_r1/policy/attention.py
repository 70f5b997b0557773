"""Exact attention for packed groups: [prompt | completion 1 | … | completion G] [next group] … in one row.

A block is a run of tokens that attend to one another: a prompt or a completion. Every completion sees its own prompt
and itself. That is computed as two attentions, which are merged exactly. In one, causal, each block attends to itself.
In the other, without a causal mask, all completions of a group attend to the keys of their prompt.

    own, lse_own     = attend(q, k, v) of each block, causal
    cross, lse_cross = attend(q, k_prompt, v_prompt)
    out = own + sigmoid(lse_cross − lse_own) (cross − own);   lse = log(exp lse_own + exp lse_cross)

Backward: a flash kernel recomputes its probabilities as exp(scores − lse) and also needs rowsum(grad · out). So the
backward kernel of each of the two attentions, called with the merged out and lse, gives its exact gradient. (Ring
attention does the same.) Nothing of size L × L exists, no key is repeated, nothing is padded. Autograd keeps q, k, v,
out and lse.

The function is registered with transformers. The layout travels as a forward keyword to every attention layer. Without
it the function is transformers' own sdpa, so that the same model samples, evaluates and trains.
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlm_r1.policy.kernels import attend, attend_backward

NAME = "shared_prefix"
"""Name of the attention implementation in transformers."""


@dataclass(frozen=True)
class PackedGroup:
    """Token counts of one group, e.g. PackedGroup(prompt=64, completions=(17, 9, 12))."""

    prompt: int
    completions: tuple[int, ...]

    def __post_init__(self):
        if min(self.prompt, *self.completions, len(self.completions)) < 1:  # a kernel dies on an empty query
            raise ValueError(f"empty prompt, group or completion in {self}")

    @property
    def shares(self) -> bool:
        """True if several completions see the prompt. A single completion simply continues it."""
        return len(self.completions) > 1


class LayersServed:
    """Indices of the layers that used the layout. It is no plain set, because FSDP2 copies those in a forward pass."""

    def __init__(self) -> None:
        self.indices: set[int] = set()


@dataclass(frozen=True)
class PackedLayout:
    """The groups in the order of the row. `served` proves that the layout reached every layer."""

    groups: tuple[PackedGroup, ...]
    served: LayersServed = field(default_factory=LayersServed, compare=False, repr=False)

    @property
    def blocks(self) -> list[int]:
        """Lengths of the blocks, in order: a prompt, each completion; if G is 1, prompt and completion together."""
        return [
            n
            for group in self.groups
            for n in ((group.prompt, *group.completions) if group.shares else (group.prompt + group.completions[0],))
        ]

    @property
    def length(self) -> int:
        return sum(self.blocks)

    @property
    def reach(self) -> int:
        """See `SharedPrefix.reach`."""
        return max(group.prompt + max(group.completions) for group in self.groups)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, scale: float
    ) -> Tensor:
        """Attention of one layer over the packed row.

        Args:
            attention_mask: None, or `row_masks` of `masked_attention`.

        Raises:
            ValueError: the row has another length.
        """
        if q.shape[0] != 1 or q.shape[2] != self.length or k.shape[2] != self.length:
            raise ValueError(f"a packed row of {self.length} tokens was expected, got a query {tuple(q.shape)}")
        self.served.indices.add(layer)
        if attention_mask is None:
            return SharedPrefixAttention.apply(q, k, v, self, scale)  # type: ignore[return-value]
        return masked_attention(q, k, v, attention_mask, self, scale)

    def spans(self) -> Iterator[tuple[slice, slice]]:
        """(slice of the prompt, slice of all its completions) of each group that shares its prompt."""
        end = 0
        for group in self.groups:
            start, middle = end, end + group.prompt
            end = middle + sum(group.completions)
            if group.shares:
                yield slice(start, middle), slice(middle, end)


class SharedPrefix(Protocol):
    """The forward keyword `shared_prefix` of a model: it knows which token sees which, and computes the attention."""

    @property
    def reach(self) -> int:
        """Number of tokens that the last token of the longest completion sees."""
        ...

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, scale: float
    ) -> Tensor:
        """Attention of one layer, all tensors (batch, heads, tokens, head_dim)."""
        ...


class SharedPrefixAttention(torch.autograd.Function):
    """(q, k, v, layout, scale) → out, shapes (1, heads, L, head_dim); keys may have fewer heads (grouped queries)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, scale: float) -> Tensor:
        out, lse = attend(q, k, v, layout.blocks, layout.blocks, True, scale)
        if spans := list(layout.spans()):
            prompts, tails = zip(*spans, strict=True)
            cross, cross_lse = attend(
                _take(q, tails), _take(k, prompts), _take(v, prompts), _lengths(tails), _lengths(prompts), False, scale
            )
            _merge(out, lse, tails, cross, cross_lse)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        (grad,), blocks = grads, ctx.layout.blocks
        dq, dk, dv = attend_backward(grad, q, k, v, out, lse, blocks, blocks, True, ctx.scale)
        if not (spans := list(ctx.layout.spans())):
            return dq, dk, dv, None, None
        prompts, tails = zip(*spans, strict=True)
        dq_cross, dk_cross, dv_cross = attend_backward(
            _take(grad, tails),
            _take(q, tails),
            _take(k, prompts),
            _take(v, prompts),
            _take(out, tails),
            _take(lse, tails),
            _lengths(tails),
            _lengths(prompts),
            False,
            ctx.scale,
        )
        _add(dq, tails, dq_cross)
        _add(dk, prompts, dk_cross)
        _add(dv, prompts, dv_cross)
        return dq, dk, dv, None, None


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, row_masks: Tensor, layout: PackedLayout, scale: float | None
) -> Tensor:
    """The same for layers with windows, or with tokens that attend in both directions: public sdpa, block by block.

    Args:
        row_masks: bool (groups, 1, R, R), the masks of an ordinary row [prompt | longest completion] of each group.
    """
    out, end = [], 0
    for mask, group in zip(row_masks, layout.groups, strict=True):
        prompt, end = slice(end, end + group.prompt), end + group.prompt
        P = group.prompt
        out.append(_sdpa(q[:, :, prompt], k[:, :, prompt], v[:, :, prompt], mask[None, :, :P, :P], scale))
        for length in group.completions:
            own, end = slice(end, end + length), end + length
            keys, values = (torch.cat([x[:, :, prompt], x[:, :, own]], 2) for x in (k, v))
            out.append(_sdpa(q[:, :, own], keys, values, mask[None, :, P : P + length, : P + length], scale))
    return torch.cat(out, 2)


def shared_prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The registered function: `shared_prefix.attend`, or transformers' sdpa if there is no `shared_prefix`.

    Raises:
        ValueError: this attention cannot be exact: the layer has dropout, capped scores or a window without masks.
    """
    if shared_prefix is None:
        if attention_mask is None and 1 < query.shape[2] < key.shape[2]:
            # a model that computes its last layers for the last tokens alone (Gemma 4) gives its own "sdpa" a mask then
            attention_mask = _seen_by_the_last(query.shape[2], key)
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)  # type: ignore[return-value]
    if dropout:
        raise ValueError("packed attention has no dropout: set the checkpoint's attention_dropout to 0")
    window = kwargs.get("sliding_window")
    if kwargs.get("softcap") or (window and window < shared_prefix.reach and attention_mask is None):
        raise ValueError("this layer caps its scores or has a window without masks: use training.layout rows")
    if torch.is_autocast_enabled(query.device.type):  # autocast does not convert the arguments of these kernels
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = shared_prefix.attend(module.layer_idx, query, key, value, attention_mask, scale)
    return out.transpose(1, 2).contiguous(), None


def use_shared_prefix(model: PreTrainedModel) -> None:
    """Switch the language model to this attention; the vision tower and the saved config stay as they are."""
    AttentionInterface.register(NAME, shared_prefix_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # an unregistered name gets no mask, silently
    model.set_attn_implementation({"text_config": NAME})


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def _seen_by_the_last(length: int, keys: Tensor) -> Tensor:
    """(1, 1, length, keys): which keys the last tokens of a row see. (torch's causal mask begins at the first.)"""
    ones = torch.ones(length, keys.shape[2], dtype=torch.bool, device=keys.device)
    return ones.tril(keys.shape[2] - length)[None, None]


def _take(x: Tensor, slices: Sequence[slice]) -> Tensor:
    """Return the tokens of these slices (axis 2), one after the other; a view if possible."""
    pieces = [x[:, :, one] for one in slices]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def _merge(out: Tensor, lse: Tensor, tails: Sequence[slice], cross: Tensor, cross_lse: Tensor) -> None:
    """Merge the attention of the tails to their prompts into `out` and `lse` of their attention to themselves."""
    pieces = zip(tails, cross.split(_lengths(tails), 2), cross_lse.split(_lengths(tails), 2), strict=True)
    for tail, one, one_lse in pieces:
        own, own_lse = out[:, :, tail], lse[:, :, tail]
        share = torch.sigmoid(one_lse - own_lse)[..., None]
        out[:, :, tail] = torch.lerp(own.to(share.dtype), one.to(share.dtype), share)  # float32 in bf16 runs too
        lse[:, :, tail] = torch.logaddexp(own_lse, one_lse)


def _add(x: Tensor, slices: Sequence[slice], values: Tensor) -> None:
    for one, value in zip(slices, values.split(_lengths(slices), 2), strict=True):
        x[:, :, one] += value


def _lengths(slices: Sequence[slice]) -> list[int]:
    return [one.stop - one.start for one in slices]
