"""Counts the bytes that each phase of a step needs, by running the trainer's own code on tensors without data."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_r1.config.base import is_own
from vlm_r1.config.schema import TrainingSection
from vlm_r1.planning.meter import Meter
from vlm_r1.planning.representatives import watch
from vlm_r1.planning.shapes import Shapes
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.decoding import PrefixCache, choose_decoding, shared
from vlm_r1.sampling.hf import choose_tokens
from vlm_r1.training.optimizer import get_optimizer, make_optimizers, token_tables
from vlm_r1.types import EncodedPrompt


class Peak(NamedTuple):
    """Bytes at the peak of a phase besides weights, gradients and optimizer state.

    Attributes:
        working: everything that is not named below: activations, logits, scratch memory of operators.
        weight_copies: copies of weights that autocast makes in the type that it computes in.
        cache: keys and values of prompts and completions.
    """

    working: int = 0
    weight_copies: int = 0
    cache: int = 0

    @property
    def total(self) -> int:
        """The sum of the three, in bytes."""
        return self.working + self.weight_copies + self.cache


class OptimizerNeeds(NamedTuple):
    """Bytes of an optimizer's state, and of the other tensors that exist at most while it steps."""

    state: int
    working: int


def policy_pass(
    shapes: Shapes, batch: CompletionBatch, *, entropy_gradient: bool = False, repetition_penalty: float = 1.0
) -> Peak:
    """Bytes of the forward and backward pass of a micro-batch's log-probabilities.

    The gradients of earlier micro-batches exist already, so they are not counted here.

    Args:
        entropy_gradient: the backward pass goes through entropies too, as an entropy bonus asks for.
        repetition_penalty: of tokens that stand before; 1: none.
    """
    _make_gradients(shapes)
    return _score(shapes, batch, entropy_gradient, repetition_penalty)


def _score(shapes: Shapes, batch: CompletionBatch, entropy_gradient: bool, repetition_penalty: float) -> Peak:
    layout = shapes.setup.layout
    policy = Policy(shapes.model, shapes.adapter, layout=layout, repetition_penalty=repetition_penalty).train()
    with _metered(shapes) as meter:
        start = meter.live
        with shapes.passes(keep_weights=False):
            batch = batch._replace(prompts=shapes.adapter.with_features(shapes.model, batch.prompts))
        meter.restart()
        with shapes.passes(keep_weights=False):
            scored = policy(batch, entropy_gradient=entropy_gradient)
        (scored.logprobs_NT + scored.entropies_NT if entropy_gradient else scored.logprobs_NT).sum().backward()
    return Peak(meter.peak - start - meter.weight_copies_at_peak, meter.weight_copies_at_peak)


def sampling_pass(shapes: Shapes, prompts: Sequence[EncodedPrompt], G: int, params: SamplingParams) -> Peak:
    """Bytes of sampling: the prefill of the prompts, then G completions of each, all of maximal length.

    Few tokens are really decoded. Two follow the prompts: the growth between them is the cache of one token. Two follow
    a text as long as prompt and completion together: what they need beyond the cache is the scratch memory of decoding
    when the cache is full.
    """
    lengths_P, N, T = [len(prompt.ids_L) for prompt in prompts], len(prompts) * G, params.max_completion_length
    text = EncodedPrompt((0,) * (max(lengths_P) + T), {}, (), "")
    prefill, first, second = _decode(shapes, prompts, G, params)
    _, before, last = _decode(shapes, [text], N, params)
    once = choose_decoding(shapes.model, shapes.adapter) is shared
    if once:
        token = (first.live - prefill.live) // PrefixCache.room(1)  # keys and values of one token of each completion
        room = PrefixCache.room(T)
        growth = (
            token * room // 2 // max(_text_layers(shapes), 1)
        )  # a layer's cache doubles: for a moment the old half exists with the new one
        held = first.live - token * PrefixCache.room(1)
    else:
        token, room, growth = second.live - first.live, T, 0
        held = first.live - token
    decoding = held + token * room + growth + last.peak - before.live
    of_each_prompt = token * max(lengths_P) // N
    if prefill.peak >= decoding:
        cache = of_each_prompt * len(prompts)
        return Peak(prefill.peak - prefill.weight_copies - cache, prefill.weight_copies, cache)
    cache = token * room + of_each_prompt * (len(prompts) if once else N)
    return Peak(decoding - first.weight_copies - cache, first.weight_copies, cache)


class _Moment(NamedTuple):
    """Bytes above the start: existing now, at the peak since the moment before, and of copies of weights now."""

    live: int
    peak: int
    weight_copies: int


def _decode(shapes: Shapes, prompts: Sequence[EncodedPrompt], G: int, params: SamplingParams) -> list[_Moment]:
    """Decode three tokens as `HFSampler` does; returns a moment after each of them."""
    moments: list[_Moment] = []
    shapes.model.eval()
    with _metered(shapes) as meter, torch.no_grad(), shapes.passes(keep_weights=True):
        start = meter.live
        decoding = choose_decoding(shapes.model, shapes.adapter)
        logits_NV, next_logits = decoding(
            shapes.model, shapes.adapter, shapes.adapter.with_features(shapes.model, prompts), G
        )
        for step in range(3):
            token_N, _ = choose_tokens(logits_NV, torch.zeros(len(logits_NV)), params, ())
            moments.append(_Moment(meter.live - start, meter.peak - start, meter.weight_copies))
            meter.restart()
            if step < 2:
                logits_NV = next_logits(token_N, step)
    shapes.model.train()
    return moments


def optimizer_step(shapes: Shapes, section: TrainingSection) -> OptimizerNeeds:
    """Run one step of the recipe's optimizers without data; returns the bytes of their state and of the step.

    With `offload_optimizer` they need none of the GPU's memory.

    An optimizer from outside may look at numbers, which are not there. For it two numbers of state are assumed for each
    that trains, as AdamW has.
    """
    if section.offload_optimizer:
        return OptimizerNeeds(0, 0)
    if is_own(section.optim):
        return OptimizerNeeds(sum(2 * p.nbytes * times for _, p, times in shapes.parameters(trainable=True)), 0)
    times = {id(parameter): times for _, parameter, times in shapes.parameters()}
    count = get_optimizer(section.optim).state_bytes
    if count is not None:
        tables = token_tables(shapes.model)
        sizes = (times * count(p, id(p) in tables) for _, p, times in shapes.parameters(trainable=True))
        return OptimizerNeeds(sum(sizes), 0)
    _make_gradients(shapes)
    optimizers = make_optimizers(shapes.model, section, shapes.adapter)
    with _metered(shapes) as meter:
        for optimizer in optimizers:
            optimizer.step()
        working = meter.peak - meter.live
    state = sum(
        times[id(parameter)] * value.nbytes
        for optimizer in optimizers
        for parameter, own in optimizer.state.items()
        for value in own.values()
        if isinstance(value, Tensor)
    )
    return OptimizerNeeds(state, working)


def _make_gradients(shapes: Shapes) -> None:
    with shapes.fake:
        for _, parameter, _ in shapes.parameters(trainable=True):
            parameter.grad = torch.empty(parameter.shape, dtype=parameter.dtype)


def _text_layers(shapes: Shapes) -> int:
    return sum(layer.times for layer in shapes.layers if any(hasattr(m, "layer_idx") for m in layer.module.modules()))


@contextmanager
def _metered(shapes: Shapes) -> Generator[Meter]:
    """A meter that counts the model's tensors and looks for peaks in its end layers. Gradients are removed after it."""
    meter = Meter(shapes.fake)
    for tensor in (*shapes.model.parameters(), *shapes.model.buffers()):
        meter.hold(tensor)
        if tensor.grad is not None:
            meter.hold(tensor.grad)
    stop = watch(shapes.layers, meter)
    try:
        with meter:
            yield meter
    finally:
        stop()
        shapes.model.zero_grad()
