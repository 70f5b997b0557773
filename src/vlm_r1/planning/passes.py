"""What the phases of a step need: the trainer's own code runs on tensors without data, and bytes are counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_r1.config.schema import TrainingSection
from vlm_r1.planning.meter import Meter
from vlm_r1.planning.shapes import Shapes
from vlm_r1.planning.representatives import watch
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.decoding import PrefixCache, choose_decoding, shared
from vlm_r1.sampling.hf import choose_tokens
from vlm_r1.training.optimizer import make_optimizers
from vlm_r1.types import EncodedPrompt


class Peak(NamedTuple):
    """Bytes at the peak of a phase besides weights, gradients and optimizer state.

    `weight_copies`: of weights, in the type that autocast computes in. `cache`: keys and values. `working`: all the rest.
    """

    working: int = 0
    weight_copies: int = 0
    cache: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.working + self.weight_copies + self.cache


class OptimizerNeeds(NamedTuple):
    """Bytes of an optimizer's state, and of what it makes besides while it steps."""

    state: int
    working: int


def policy_pass(shapes: Shapes, batch: CompletionBatch) -> Peak:
    """Forward and backward of the log-probabilities of a micro-batch; gradients of earlier ones exist already."""
    _make_gradients(shapes)
    return _score(shapes, batch)


def _score(shapes: Shapes, batch: CompletionBatch) -> Peak:
    policy = Policy(shapes.model, shapes.adapter, layout=shapes.setup.layout).train()
    with _metered(shapes) as meter:
        start = meter.live
        with shapes.passes(keep_weights=False):
            batch = batch._replace(prompts=shapes.adapter.with_features(shapes.model, batch.prompts))
        meter.restart()
        with shapes.passes(keep_weights=False):
            scored = policy(batch)
        scored.logprobs_NT.sum().backward()
    return Peak(meter.peak - start - meter.weight_copies_at_peak, meter.weight_copies_at_peak)


def sampling_pass(shapes: Shapes, prompts: Sequence[EncodedPrompt], G: int, params: SamplingParams) -> Peak:
    """Prefill of the prompts, then G completions of each, all as long as they may be.

    Two tokens are decoded behind the prompts, which tells what one adds to the cache; and two behind a text as long as
    prompt and completion, which tells what decoding makes besides when the cache is full.
    """
    lengths_P, N, T = [len(prompt.ids_L) for prompt in prompts], len(prompts) * G, params.max_completion_length
    text = EncodedPrompt((0,) * (max(lengths_P) + T), {}, (), "")
    prefill, first, second = _decode(shapes, prompts, G, params)
    _, before, last = _decode(shapes, [text], N, params)
    once = choose_decoding(shapes.model, shapes.adapter) is shared
    if once:
        token = (first.live - prefill.live) // PrefixCache.room(1)  # keys and values of one token of each completion
        room = PrefixCache.room(T)
        growth = token * room // 2 // max(_text_layers(shapes), 1)  # of one layer, the old beside the new
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
    """Bytes above the start: that exist, the most there were since the moment before, and those of copies."""

    live: int
    peak: int
    weight_copies: int


def _decode(shapes: Shapes, prompts: Sequence[EncodedPrompt], G: int, params: SamplingParams) -> list[_Moment]:
    """As `HFSampler`: after the first token, and after each of two more."""
    moments = []
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
    """State of the recipe's optimizers, and the most that one of their steps makes besides."""
    _make_gradients(shapes)
    optimizers = make_optimizers(shapes.model, section, shapes.adapter)
    with _metered(shapes) as meter:
        for optimizer in optimizers:
            optimizer.step()
        working = meter.peak - meter.live
    times = {id(parameter): times for _, parameter, times in shapes.parameters()}
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
def _metered(shapes: Shapes) -> Iterator[Meter]:
    """A meter that knows the model and looks where it should; the model's gradients are gone afterwards."""
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
