"""Completions of several segments: tokens that were given are seen by the model, and nothing is learnt from them."""

from __future__ import annotations

import pytest
import torch

from testing_policy import TEMPERATURE, TOLERANCE, coefficients, completions, relative, take_gradients
from vlm_r1.policy.logprobs import CompletionBatch, Policy, micro_batches
from vlm_r1.types import Completion, Segment, StopReason


def with_given(ids_T: tuple[int, ...], given: slice) -> Completion:
    """A completion whose tokens at `given`, in its middle, were not sampled; log-probabilities are −1, −2, …"""
    start, stop, _ = given.indices(len(ids_T))
    numbers = tuple(-1.0 - n for n in range(len(ids_T)))
    segments = (
        Segment(ids_T[:start], numbers[:start]),
        Segment(ids_T[start:stop], None),
        Segment(ids_T[stop:], numbers[stop:]),
    )
    return Completion(segments, "", StopReason.STOP)


@pytest.fixture
def batch(adapter, prompts) -> CompletionBatch:
    """Two groups, in each the second completion with three given tokens; the others were sampled whole."""
    ids_P_G_T = [completions(adapter, [7, 9], seed=1), completions(adapter, [8, 5], seed=2)]
    plain = [[Completion.sampled(ids, [-0.5] * len(ids), "", StopReason.STOP) for ids in own] for own in ids_P_G_T]
    mixed = [[first, with_given(second.ids_T, slice(1, 4))] for first, second in plain]
    return CompletionBatch.of_groups([prompts["one"], prompts["several"]], mixed)


def test_the_batch_says_what_was_sampled_and_how_likely(batch) -> None:
    assert batch.masks_N()[1] == (True, False, False, False, *[True] * 5)
    logprobs_NT = batch.sampled_logprobs_NT(torch.device("cpu"))
    assert logprobs_NT[1].tolist() == [-1, 0, 0, 0, -5, -6, -7, -8, -9]
    assert logprobs_NT[3].tolist() == [-1, 0, 0, 0, -5, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="were not sampled"):
        batch._replace(logprobs_P_G_T=None).sampled_logprobs_NT(logprobs_NT.device)


def test_a_segment_has_a_log_probability_for_each_token() -> None:
    with pytest.raises(ValueError, match="2 tokens have 1 log-probabilities"):
        Segment((1, 2), (-0.5,))


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_given_tokens_are_seen_and_not_scored(layout, batch, model64, adapter) -> None:
    """The twin scores every token and leaves the given ones out afterwards."""
    policy = Policy(model64, adapter, TEMPERATURE, layout)
    everything = policy(batch._replace(sampled_P_G_T=None))
    masks = torch.nn.utils.rnn.pad_sequence([torch.tensor(mask) for mask in batch.masks_N()], batch_first=True)
    scored = policy(batch)
    assert torch.equal(scored.mask_NT, masks)
    assert float((scored.logprobs_NT - everything.logprobs_NT * masks).detach().abs().max()) < TOLERANCE
    assert float((scored.entropies_NT - everything.entropies_NT * masks).abs().max()) < TOLERANCE
    assert not scored.logprobs_NT[~masks].any()
    assert everything.logprobs_NT[~masks].any(), "control: given tokens have log-probabilities that could be scored"

    weights_NT = coefficients(scored.logprobs_NT)
    (scored.logprobs_NT * weights_NT).sum().backward()
    own = take_gradients(model64)
    (everything.logprobs_NT * masks * weights_NT).sum().backward()
    due = take_gradients(model64)
    assert max(relative(own[name], due[name]) for name in due) < TOLERANCE
    (policy(batch._replace(sampled_P_G_T=None)).logprobs_NT * weights_NT).sum().backward()
    learnt = take_gradients(model64)
    assert max(relative(learnt[name], due[name]) for name in due) > 0.01, "control: given tokens would have a gradient"


def test_micro_batches_keep_what_belongs_to_a_completion(batch) -> None:
    parts = micro_batches(batch, 1, "packed")
    assert [mask for part in parts for mask in part.batch.masks_N()] == batch.masks_N()
    logprobs = [own for part in parts for group in part.batch.logprobs_P_G_T or () for own in group]
    assert logprobs == [own for group in batch.logprobs_P_G_T or () for own in group]


def test_one_sampled_segment_is_the_plain_batch(batch, model64, adapter) -> None:
    """Bit for bit what a batch without segments gives."""
    policy = Policy(model64, adapter, TEMPERATURE)
    plain = CompletionBatch(batch.prompts, batch.ids_P_G_T)
    sampled = [
        [Completion.sampled(ids, [-1.0] * len(ids), "", StopReason.STOP) for ids in own] for own in batch.ids_P_G_T
    ]
    for one, other in zip(policy(plain), policy(CompletionBatch.of_groups(batch.prompts, sampled)), strict=True):
        assert torch.equal(one, other)
