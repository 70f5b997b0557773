"""Two ways to decode G completions of each prompt, one token at a time, after one prefill of each prompt.

`shared`: the prompts' keys and values exist once, and all completions attend to them. `expanded`: transformers' cache
is copied G times. It serves architectures whose attention cannot be split so, and tests compare `shared` with it.
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.attention import use_shared_prefix
from vlm_r1.policy.head import AfterHead
from vlm_r1.policy.kernels import attend, wide_scores
from vlm_r1.policy.packed import packing_obstacle
from vlm_r1.policy.rows import as_forward_takes, prompt_rows
from vlm_r1.types import EncodedPrompt

FIRST_ROOM = 32
"""Number of completion tokens for which `PrefixCache` allocates memory at first."""

NextLogits = Callable[[Tensor, int], Tensor]
"""(token of each completion, its number from 0) → logits (N, V) of the next token; N = P · G, prompt by prompt."""

Decoding = Callable[[PreTrainedModel, Adapter, Sequence[EncodedPrompt], int], tuple[Tensor, NextLogits]]
"""(model, adapter, prompts, G) → logits (N, V) of the first token, and the function for the next ones."""


def choose_decoding(model: PreTrainedModel, adapter: Adapter) -> Decoding:
    """Return `shared` for causal full attention in all layers; else, or where the adapter says so, `expanded`."""
    text_config = adapter.unwrap(model).config.get_text_config()
    windows = "sliding_attention" in (getattr(text_config, "layer_types", None) or ())
    both_ways = adapter.token_types(torch.zeros(1, 1, dtype=torch.long))
    return expanded if windows or both_ways or adapter.why_not_shared or packing_obstacle(text_config) else shared


def shared(
    model: PreTrainedModel, adapter: Adapter, prompts: Sequence[EncodedPrompt], G: int
) -> tuple[Tensor, NextLogits]:
    """Prefill all prompts in one row without padding; see `PrefixCache`."""
    base, device = adapter.unwrap(model), model.device
    use_shared_prefix(base)
    backbone, head = adapter.backbone(model), base.get_output_embeddings()
    after_head = AfterHead(adapter.logit_scale, adapter.logit_cap)
    cache = PrefixCache([len(prompt.ids_L) for prompt in prompts], G)
    positions_P = adapter.positions(model, prompts)
    ids_1L = torch.tensor([[token for prompt in prompts for token in prompt.ids_L]], device=device)
    hidden_1LH = backbone(
        input_ids=ids_1L,
        attention_mask=torch.ones_like(ids_1L),
        position_ids=as_forward_takes(torch.cat(positions_P, 1)[:, None]),
        use_cache=False,
        shared_prefix=cache,
        **adapter.vision_arguments(adapter.image_features(model, prompts)),
    ).last_hidden_state
    last_P = torch.tensor(cache.lengths_P, device=device).cumsum(0) - 1
    next_N = torch.stack([positions.max() + 1 for positions in positions_P]).repeat_interleave(G)
    ones_N1 = torch.ones(len(next_N), 1, dtype=torch.long, device=device)

    def next_logits(token_N: Tensor, step: int) -> Tensor:
        hidden_N1H = backbone(
            input_ids=token_N[:, None],
            attention_mask=ones_N1,
            position_ids=as_forward_takes((next_N + step)[None, :, None].expand(len(positions_P[0]), -1, -1)),
            use_cache=False,
            shared_prefix=cache,
        ).last_hidden_state
        return after_head(head(hidden_N1H[:, 0]))

    return after_head(head(hidden_1LH[0, last_P])).repeat_interleave(G, 0), next_logits


def expanded(
    model: PreTrainedModel, adapter: Adapter, prompts: Sequence[EncodedPrompt], G: int
) -> tuple[Tensor, NextLogits]:
    """Prefill all prompts as rows padded on the left, and repeat the cache."""
    rows = prompt_rows(model, adapter, prompts)
    output = model(
        input_ids=rows.ids_PL,
        attention_mask=rows.mask_PL,
        position_ids=as_forward_takes(rows.positions_APL),
        use_cache=True,
        logits_to_keep=1,
        **adapter.token_types(rows.ids_PL),
        **adapter.vision_arguments(adapter.image_features(model, prompts)),
    )
    cache = output.past_key_values
    cache.reorder_cache(
        torch.arange(len(prompts)).repeat_interleave(G)
    )  # this also repeats the state of linear attention
    mask_NL = rows.mask_PL.repeat_interleave(G, 0)
    next_N = rows.next_P.repeat_interleave(G)

    def next_logits(token_N: Tensor, step: int) -> Tensor:
        decoded = model(
            input_ids=token_N[:, None],
            attention_mask=torch.cat([mask_NL, mask_NL.new_ones(len(mask_NL), step + 1)], 1),
            position_ids=as_forward_takes((next_N + step)[None, :, None].expand(len(rows.positions_APL), -1, -1)),
            past_key_values=cache,
            use_cache=True,
        )
        return decoded.logits[:, -1]

    return output.logits[:, -1].repeat_interleave(G, 0), next_logits


class PrefixCache:
    """Keys and values of P prompts, each once, and of their P · G completions, which grow by one token in each pass.

    It is a forward keyword like `PackedLayout`. The first pass has all prompts in one packed row; every later pass has
    one token of each completion. Prompts are stored padded on the right, (P, heads, longest, head_dim).
    """

    def __init__(self, lengths_P: Sequence[int], G: int):
        self.lengths_P = list(lengths_P)
        self._G = G
        self._prompts: dict[int, tuple[Tensor, Tensor]] = {}  # by layer
        self._own: dict[int, tuple[Tensor, Tensor]] = {}  # (P, heads, G, room for more, head_dim)
        self._used: dict[int, int] = {}
        self._padding: Tensor | None = None

    @staticmethod
    def room(tokens: int) -> int:
        """Return for how many tokens of a completion memory is allocated once `tokens` are stored. Full memory doubles.

        >>> [PrefixCache.room(tokens) for tokens in (1, 32, 33)]
        [32, 32, 64]
        """
        room = FIRST_ROOM
        while room < tokens:
            room *= 2
        return room

    @property
    def reach(self) -> int:
        """See `SharedPrefix.reach`."""
        return max(self.lengths_P) + max(self._used.values(), default=0)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, scale: float
    ) -> Tensor:
        """Store the keys and values of this layer; returns its attention (…, heads, tokens, head_dim)."""
        if layer in self._prompts:
            return self._decode(layer, q, k, v, scale)
        self._prompts[layer] = (self._padded(k), self._padded(v))
        self._used[layer] = 0
        return attend(q, k, v, self.lengths_P, self.lengths_P, True, scale)[0]

    def _decode(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attention with one softmax over the keys of the prompt and of the completion itself."""
        (prompt_k, prompt_v), (own_k, own_v) = self._prompts[layer], self._append(layer, k, v)
        P, heads, length, _ = prompt_k.shape
        q_PhGqD = self._by_prompt(q, heads)
        to_prompt = wide_scores(q_PhGqD.flatten(2, 3), prompt_k, scale)
        if min(self.lengths_P) < length:
            to_prompt = to_prompt.masked_fill_(self._padding_of(prompt_k), float("-inf"))
        to_own = wide_scores(q_PhGqD, own_k, scale).flatten(2, 3)
        weights = torch.cat([to_prompt, to_own], -1).softmax(-1)
        of_prompt, of_own = weights.to(v.dtype).split([length, own_k.shape[3]], -1)
        out = of_prompt @ prompt_v + (of_own.unflatten(2, (self._G, -1)) @ own_v).flatten(2, 3)
        return out.unflatten(2, (self._G, -1)).transpose(1, 2).reshape(P * self._G, -1, 1, q.shape[-1])

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store a token's keys and values; returns views (P, heads, G, tokens, d) of all of the completions' so far."""
        used = self._used[layer]
        new = [self._by_prompt(x, x.shape[1]) for x in (k, v)]
        if used == 0 or used == self._own[layer][0].shape[3]:
            old = self._own.get(layer, (new[0][:, :, :, :0], new[1][:, :, :, :0]))
            more = torch.zeros_like(new[0]).expand(-1, -1, -1, self.room(used + 1) - used, -1)
            self._own[layer] = (torch.cat([old[0], more], 3), torch.cat([old[1], more], 3))
        self._used[layer] = used + 1
        own_k, own_v = self._own[layer]
        own_k[:, :, :, used : used + 1], own_v[:, :, :, used : used + 1] = new
        return own_k[:, :, :, : used + 1], own_v[:, :, :, : used + 1]

    def _padded(self, x: Tensor) -> Tensor:
        """(1, heads, all tokens, d) → (P, heads, longest, d)."""
        prompts = [own[0].transpose(0, 1) for own in x.split(self.lengths_P, 2)]
        return torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).transpose(1, 2).contiguous()

    def _padding_of(self, prompt_k: Tensor) -> Tensor:
        if self._padding is None:
            lengths = torch.tensor(self.lengths_P, device=prompt_k.device)
            columns = torch.arange(prompt_k.shape[2], device=prompt_k.device)
            self._padding = (columns >= lengths[:, None])[:, None, None]
        return self._padding

    def _by_prompt(self, x: Tensor, heads: int) -> Tensor:
        """(P · G, heads · n, 1, d) → (P, heads, G, n, d); a view if possible."""
        return x.reshape(-1, self._G, heads, x.shape[1] // heads, x.shape[-1]).transpose(1, 2)
