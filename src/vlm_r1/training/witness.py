"""Computes log-probabilities and gradients of the same completions twice: by the policy and by an outside witness."""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import RepetitionPenaltyLogitsProcessor

from vlm_r1.models.precision import weights_dtype
from vlm_r1.models.stock import Inputs, decoded_logits, stock_attention, stock_logits
from vlm_r1.policy.head import tempered_logits
from vlm_r1.policy.logprobs import CompletionBatch, Policy, TokenLogProbs
from vlm_r1.sampling.filters import uniforms
from vlm_r1.training.differences import Difference, difference, gradient_difference

GRADIENT_NUMBERS = 1 << 25
"""Gradients of this many numbers are compared, of the smallest parameters first: all layers have small ones."""

NOISE = 3.0
"""A difference is tolerated up to this multiple of the noise of the type that computes."""


class Tolerance(NamedTuple):
    """Differences that rounding is known to cause.

    Attributes:
        logprobs: mean difference in nats.
        gradients: relative difference.
        draws: how far the number that drew a token lies outside the token's share of the distribution.
    """

    logprobs: float
    gradients: float
    draws: float


TOLERANCES = {
    torch.float64: Tolerance(1e-5, 1e-4, 1e-3),
    torch.float32: Tolerance(1e-4, 5e-3, 1e-3),
    torch.bfloat16: Tolerance(1e-3, 0.05, 0.05),
    torch.float16: Tolerance(3e-4, 0.02, 0.02),
}
"""Tolerances by the type that computes. A larger difference is compared with the noise, which is then measured."""


Logits = Callable[[Any, Inputs, Sequence[int]], Tensor]
"""`stock_logits` or `decoded_logits`."""


class Side(NamedTuple):
    """The result of one way to compute: log-probabilities (N, T) of all completions, and gradients of a sum of them."""

    logprobs_NT: Tensor
    gradients: list[Tensor | None]


class Gap(NamedTuple):
    """How far two sides are apart."""

    logprobs: Difference
    gradients: float


@dataclass(frozen=True)
class Witness:
    """The stock model of transformers on inputs that its own processor made, one completion at a time.

    Attributes:
        policy: the policy whose model is used; its weights are not copied.
        inputs: the inputs of each prompt.
        temperature, repetition_penalty: the recipe's, which the policy should have too.
    """

    policy: Policy
    inputs: Sequence[Inputs]
    temperature: float
    repetition_penalty: float = 1.0

    def side(self, batch: CompletionBatch, parameters: Sequence[nn.Parameter]) -> Side:
        """Compute the completions of the prompts, in the order of groups; with gradients if there are parameters."""
        with stock_attention(self.policy.adapter, self.policy.model):
            return self._side(batch, parameters)

    def other_side(self, batch: CompletionBatch, parameters: Sequence[nn.Parameter]) -> Side:
        """Compute the same with other rounding: another attention, and matrix products that differ in the last bit."""
        with stock_attention(self.policy.adapter, self.policy.model, "eager"), last_bits(self.policy.model):
            return self._side(batch, parameters)

    def _side(self, batch: CompletionBatch, parameters: Sequence[nn.Parameter]) -> Side:
        rows, sums = [], [torch.zeros_like(p) for p in parameters]
        with nullcontext() if parameters else torch.no_grad():
            for (inputs, ids_T), weights_T in zip(self._each(batch), _weights(batch), strict=True):
                logprobs_TV = self._logprobs(inputs, ids_T)
                row_T = logprobs_TV.gather(1, torch.tensor([ids_T], device=logprobs_TV.device).T)[:, 0]
                for total, own in zip(sums, _gradients(row_T, weights_T, parameters), strict=True):
                    total += 0 if own is None else own
                rows.append(row_T.detach())
        return Side(nn.utils.rnn.pad_sequence(rows, batch_first=True), list(sums))

    @torch.no_grad()
    def outside_shares(self, batch: CompletionBatch, seeds: Sequence[int]) -> float:
        """Return how far, at most, the number that drew a token lies outside the token's share of the distribution.

        Args:
            seeds: seed of each completion; a sampler drew them by inverse transform (`sampling.filters.draw`).
        """
        furthest = 0.0
        with stock_attention(self.policy.adapter, self.policy.model):
            for seed, (inputs, ids_T) in zip(seeds, self._each(batch), strict=True):
                shares_TV = self._logprobs(inputs, ids_T).double().exp()
                ids_T1 = torch.tensor(ids_T, device=shares_TV.device)[:, None]
                ends_T, own_T = (x.gather(1, ids_T1)[:, 0] for x in (shares_TV.cumsum(-1), shares_TV))
                numbers_T = uniforms([seed], len(ids_T))[0].to(ends_T)
                outside_T = torch.maximum(ends_T - own_T - numbers_T, numbers_T - ends_T)
                furthest = max(furthest, float(outside_T.max()))  # NaN, of broken weights, is passed over
        return furthest

    def decoded(self, batch: CompletionBatch) -> Tensor:
        """Return the log-probabilities (N, T) of `side`, but computed token by token, as a sampler does."""
        with stock_attention(self.policy.adapter, self.policy.model), modes_kept(self.policy):
            self.policy.eval()  # with gradient checkpointing there is no cache
            pairs = [(self._logprobs(*one, decoded_logits), one[1]) for one in self._each(batch)]
        rows = [x_TV.gather(1, torch.tensor([ids_T], device=x_TV.device).T)[:, 0] for x_TV, ids_T in pairs]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _each(self, batch: CompletionBatch) -> Iterator[tuple[Inputs, Sequence[int]]]:
        groups = zip(self.inputs, batch.ids_P_G_T, strict=True)
        return ((inputs, ids_T) for inputs, ids_G_T in groups for ids_T in ids_G_T)

    def _logprobs(self, inputs: Inputs, ids_T: Sequence[int], compute: Logits = stock_logits) -> Tensor:
        adapter, model = self.policy.adapter, self.policy.model
        logits_TV = compute(adapter.unwrap(model), inputs, ids_T)
        if self.repetition_penalty != 1:
            logits_TV = _penalised(logits_TV, inputs["input_ids"][0].tolist(), ids_T, self.repetition_penalty)
        return tempered_logits(logits_TV, self.temperature, adapter.banned_ids()).log_softmax(-1)


def _penalised(logits_TV: Tensor, prompt_L: Sequence[int], ids_T: Sequence[int], penalty: float) -> Tensor:
    """Call transformers' own processor for each token, with the tokens before it, each once.

    Its scatter writes a repeated token several times, so its gradient would count as often.
    """
    processor: Callable[[Tensor, Tensor], Tensor] = RepetitionPenaltyLogitsProcessor(penalty)  # type: ignore[assignment]
    rows = []
    for t, logits_V in enumerate(logits_TV):
        before = torch.tensor([sorted({*prompt_L, *ids_T[:t]})], device=logits_TV.device)
        rows.append(processor(before, logits_V[None]))
    return torch.cat(rows)


def policy_side(
    policy: Policy, batch: CompletionBatch, parameters: Sequence[nn.Parameter]
) -> tuple[Side, TokenLogProbs]:
    """Compute the same with the policy, as training does, in one batch."""
    scored = policy(batch)
    weights_NT = nn.utils.rnn.pad_sequence(list(_weights(batch)), batch_first=True).to(scored.logprobs_NT)
    values_K, weights_K = (x_NT[scored.mask_NT] for x_NT in (scored.logprobs_NT, weights_NT))
    return Side(scored.logprobs_NT.detach(), _gradients(values_K, weights_K, parameters)), scored


def gap(scored: TokenLogProbs, one: Side, other: Side) -> Gap:
    """Return the gap between two sides of the same completions; `scored` says which tokens count."""
    logprobs = difference(scored._replace(logprobs_NT=one.logprobs_NT), other.logprobs_NT)
    return Gap(logprobs, gradient_difference(one.gradients, other.gradients) if one.gradients else 0.0)


def too_far(differs: Difference, dtype: torch.dtype, noise: Callable[[], Difference]) -> bool:
    """Return whether log-probabilities differ by more than rounding; the noise is measured only if it is needed."""
    tolerance = TOLERANCES[dtype].logprobs
    if differs.mean <= tolerance and differs.largest <= 20 * tolerance:
        return False
    measured = noise()
    within = differs.mean <= max(tolerance, NOISE * measured.mean)
    return not (within and differs.largest <= max(20 * tolerance, 2 * NOISE * measured.largest))  # NaN is too far


def compared_parameters(policy: Policy) -> list[nn.Parameter]:
    """Return the trainable parameters, the smallest first, up to `GRADIENT_NUMBERS` numbers."""
    chosen: list[nn.Parameter] = []
    left = GRADIENT_NUMBERS
    for parameter in sorted((p for p in policy.parameters() if p.requires_grad), key=lambda p: p.numel()):
        left -= parameter.numel()
        if left < 0 and chosen:
            break
        chosen.append(parameter)
    return chosen


def computing_dtype(policy: Policy) -> torch.dtype:
    """Return the type of matrix products in the present autocast context."""
    device = policy.model.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weights_dtype(policy.adapter.unwrap(policy.model))


def is_wide(model: nn.Module) -> bool:
    """Return whether all weights have at least 32 bits, so that passes can compute in 32 bits."""
    return all(p.dtype in (torch.float32, torch.float64) for p in model.parameters())


@contextmanager
def training_without_dropout(policy: Policy) -> Iterator[None]:
    """Put the policy in training mode, with checkpointing but without dropout; restore the modes afterwards.

    If the config asks for dropout that is no module, the whole policy is in evaluation mode.
    """
    with modes_kept(policy):
        policy.train(not any(_dropouts(policy.adapter.config.to_dict())))
        for module in policy.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        yield


@contextmanager
def last_bits(model: nn.Module) -> Iterator[None]:
    """Change linear layers' outputs by up to half a unit in the last place, as another order of summation would."""

    def nudge(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return out * (1 + torch.finfo(out.dtype).eps * (torch.rand_like(out) - 0.5))

    hooks = [one.register_forward_hook(nudge) for one in model.modules() if isinstance(one, nn.Linear)]
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the global generator, because checkpointing restores it for the second forward
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Restore the mode, training or evaluation, of each module afterwards."""
    before = [(one, one.training) for one in module.modules()]
    try:
        yield
    finally:
        for one, training in before:
            one.training = training


def _dropouts(settings: object) -> Iterator[float]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            if isinstance(value, float | int) and "drop" in str(name):
                yield float(value)
            yield from _dropouts(value)


def _weights(batch: CompletionBatch) -> Iterator[Tensor]:
    """Yield for each completion different weights of its tokens, so that gradients do not cancel; 0 if masked."""
    masks_N = batch.masks_N()
    weights_N = torch.linspace(-1, 1, sum(map(len, masks_N)) + 1)[1:].split([len(mask_T) for mask_T in masks_N])
    yield from (weights_T * torch.tensor(mask_T) for weights_T, mask_T in zip(weights_N, masks_N, strict=True))


def _gradients(values_K: Tensor, weights_K: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    if not (parameters and values_K.requires_grad):  # only the vision part trains, and there is no image
        return [None for _ in parameters]
    total = (values_K * weights_K.to(values_K)).sum()
    return list(torch.autograd.grad(total, parameters, allow_unused=True))
