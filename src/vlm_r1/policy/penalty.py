"""The penalty for repetition: logits of tokens that stand in the text so far are made smaller before the softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return logits with those of seen tokens divided by the penalty if they are positive, else multiplied by it.

    A temperature that divides all logits makes no difference to the order of the two.

    Args:
        logits: (…, V).
        seen: bool (…, V), True for tokens that stand in the prompt or in the completion so far.
        penalty: above 1, repetition becomes less likely.

    Source: CTRL, arXiv 1909.05858, section 4.1; as in transformers' `RepetitionPenaltyLogitsProcessor`.

    >>> penalised(torch.tensor([3.0, -3.0, 3.0]), torch.tensor([True, True, False]), 1.5)
    tensor([ 2.0000, -4.5000,  3.0000])
    """
    return logits * penalty_slopes(logits, seen, penalty)


def penalty_slopes(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return the derivative of `penalised` by each logit, which is also the factor that it multiplies it with."""
    above, below = (torch.full_like(logits[..., :1], value) for value in (1 / penalty, penalty))
    return torch.where(logits < 0, below, above).masked_fill_(~seen, 1.0)


@dataclass(frozen=True)
class Seen:
    """The tokens that stand before each of K scored tokens, as ids; a mask over the vocabulary is made chunk by chunk.

    Attributes:
        penalty: for their repetition.
        prompts_PL: the tokens of each prompt, padded with −1.
        ids_NT: the tokens of each completion, given ones included, padded with −1.
        prompt_K, completion_K: numbers of the prompt and the completion of each scored token.
        step_K: how many tokens of the completion stand before it.
    """

    penalty: float
    prompts_PL: Tensor
    ids_NT: Tensor
    prompt_K: Tensor
    completion_K: Tensor
    step_K: Tensor

    @classmethod
    def of(
        cls,
        penalty: float,
        prompts: Sequence[Sequence[int]],
        ids_P_G_T: Sequence[Sequence[Sequence[int]]],
        counts_K: Tensor,
        device: torch.device,
    ) -> Seen:
        """Make it for completions of prompts.

        Args:
            counts_K: bool, over all tokens of all completions in order: which of them are scored.
        """
        ids_N = [torch.tensor(ids_T) for ids_G_T in ids_P_G_T for ids_T in ids_G_T]
        prompt_N = torch.tensor([p for p, ids_G_T in enumerate(ids_P_G_T) for _ in ids_G_T])
        lengths = [len(ids_T) for ids_T in ids_N]
        completion_K = torch.arange(len(ids_N)).repeat_interleave(torch.tensor(lengths))
        step_K = torch.cat([torch.arange(length) for length in lengths])
        return cls(
            penalty,
            pad_sequence([torch.tensor(ids_L) for ids_L in prompts], batch_first=True, padding_value=-1).to(device),
            pad_sequence(ids_N, batch_first=True, padding_value=-1).to(device),
            *(x_K[counts_K].to(device) for x_K in (prompt_N[completion_K], completion_K, step_K)),
        )

    def chunk(self, own: slice) -> Seen:
        """Return it for some of the scored tokens."""
        scored = (x_K[own] for x_K in (self.prompt_K, self.completion_K, self.step_K))
        return Seen(self.penalty, self.prompts_PL, self.ids_NT, *scored)

    def mask(self, vocabulary: int) -> Tensor:
        """Return for each scored token which tokens stand before it: bool (K, V)."""
        steps_T = torch.arange(self.ids_NT.shape[1], device=self.ids_NT.device)
        before_KT = self.ids_NT[self.completion_K].masked_fill(steps_T >= self.step_K[:, None], -1)
        found = torch.zeros(len(before_KT), vocabulary + 1, dtype=torch.bool, device=before_KT.device)
        for ids in (self.prompts_PL[self.prompt_K], before_KT):
            found.scatter_(1, torch.where(ids < 0, vocabulary, ids), True)
        return found[:, :vocabulary]
