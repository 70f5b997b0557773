"""Sampling with transformers: each prompt is prefilled once, its images are encoded once, its cache is shared."""

# pyright: standard

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.head import tempered_logits
from vlm_r1.policy.penalty import penalised
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.sampling.decoding import Decoding, choose_decoding
from vlm_r1.sampling.filters import draw, filter_logprobs, uniforms
from vlm_r1.types import Completion, EncodedPrompt, StopReason


class HFSampler:
    """Samples from the trainer's own model in place, so there are no weights to sync."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter, decoding: Decoding | None = None):
        self.model = model
        self.adapter = adapter
        self._decoding = decoding or choose_decoding(model, adapter)
        self._version = 0

    def sync(self, version: int) -> None:
        """See `Sampler.sync`. The weights are the trainer's own, so only the number changes."""
        self._version = version

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """See `Sampler.sample`. Decoding is batched over all groups and ends when every completion has ended."""
        training = self.model.training
        self.model.eval()
        columns = list(self._columns(prompts, seeds_P_G, params))
        self.model.train(training)
        ids_NT, logprobs_NT = (torch.stack(column, 1) for column in zip(*columns, strict=True))
        stop_ids = set(self.adapter.stop_ids(self.model))
        completions = [
            self._completion(ids, logprobs, stop_ids)
            for ids, logprobs in zip(ids_NT.tolist(), logprobs_NT.tolist(), strict=True)
        ]
        G = len(seeds_P_G[0])
        return [completions[start : start + G] for start in range(0, len(completions), G)]

    @torch.no_grad()
    def stream(self, prompt: EncodedPrompt, seed: int, params: SamplingParams) -> Generator[str, None, Completion]:
        """Draw one completion as `sample` does, token by token: yields its text so far, and returns the completion.

        The model must be in evaluation mode, since whoever closes the generator early leaves it as it is.
        """
        ids: list[int] = []
        logprobs: list[float] = []
        for id_N, logprob_N in self._columns([prompt], [[seed]], params):
            ids.append(int(id_N[0]))
            logprobs.append(float(logprob_N[0]))
            yield self.adapter.decode(ids)
        return self._completion(ids, logprobs, set(self.adapter.stop_ids(self.model)))

    def _columns(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the next token of each completion and its log-probability, until all have ended."""
        G, T = len(seeds_P_G[0]), params.max_completion_length
        logits_NV, next_logits = self._decoding(self.model, self.adapter, prompts, G)
        device = logits_NV.device
        uniforms_NT = uniforms([seed for seeds_G in seeds_P_G for seed in seeds_G], T).to(device)
        stop_ids = torch.tensor(self.adapter.stop_ids(self.model), device=device)
        seen_NV = _seen(prompts, G, logits_NV) if params.repetition_penalty != 1 else None
        done_N = torch.zeros(len(logits_NV), dtype=torch.bool, device=device)
        for step in range(T):
            banned_ids = self.adapter.banned_ids()
            token_N, logprob_N = choose_tokens(logits_NV, uniforms_NT[:, step], params, banned_ids, seen_NV)
            if seen_NV is not None:
                seen_NV.scatter_(1, token_N[:, None], True)
            yield token_N, logprob_N
            done_N |= torch.isin(token_N, stop_ids)
            if step + 1 == T or bool(done_N.all()):
                break
            logits_NV = next_logits(token_N, step)

    def _completion(self, ids: list[int], logprobs: list[float], stop_ids: set[int]) -> Completion:
        """Cut a row after its first stop token and decode it. Tokens after that are dropped."""
        end = next((t + 1 for t, token in enumerate(ids) if token in stop_ids), None)
        reason = StopReason.LENGTH if end is None else StopReason.STOP
        ids = ids[:end]
        return Completion.sampled(ids, logprobs[:end], self.adapter.decode(ids), reason, self._version)


def _seen(prompts: Sequence[EncodedPrompt], G: int, logits_NV: torch.Tensor) -> torch.Tensor:
    """Return which tokens stand in the prompt of each completion: bool (N, V)."""
    seen_PV = torch.zeros(len(prompts), logits_NV.shape[1], dtype=torch.bool)
    for seen_V, prompt in zip(seen_PV, prompts, strict=True):
        seen_V[list(prompt.ids_L)] = True
    return seen_PV.to(logits_NV.device).repeat_interleave(G, 0)


def choose_tokens(
    logits_NV: torch.Tensor,
    uniforms_N: torch.Tensor,
    params: SamplingParams,
    banned_ids: Sequence[int],
    seen_NV: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the next token of each completion; returns token ids (N,) and their log-probabilities (N,).

    Args:
        uniforms_N: numbers in [0, 1) that decide the draws.
        seen_NV: bool, the tokens of the prompt and of the completion so far; None: their repetition has no penalty.
    """
    logits_NV = tempered_logits(logits_NV, params.temperature or 1.0, banned_ids)
    if seen_NV is not None:
        logits_NV = penalised(logits_NV, seen_NV, params.repetition_penalty)
    logprobs_NV = logits_NV.log_softmax(-1)
    if params.temperature == 0:
        token_N = logprobs_NV.argmax(-1)
    else:
        logprobs_NV = filter_logprobs(logprobs_NV, params)
        token_N = draw(logprobs_NV, uniforms_N)
    return token_N, logprobs_NV.gather(1, token_N[:, None])[:, 0]
