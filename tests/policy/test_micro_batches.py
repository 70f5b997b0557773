"""Cutting a batch by a token budget: nothing is lost, nothing is too large, and the sum stays what it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_policy import TEMPERATURE, TOLERANCE, coefficients, completions, relative, score, take_gradients
from vlm_r1.policy.logprobs import CompletionBatch, MicroBatch, Policy, count_positions, micro_batches
from vlm_r1.types import EncodedPrompt


def batch_of(shape: list[tuple[int, list[int]]]) -> CompletionBatch:
    """(prompt length, completion lengths) of each group; a completion's tokens are its number in the whole."""
    prompts = [EncodedPrompt((p,) * length, {}, (), "") for p, (length, _) in enumerate(shape)]
    numbers = iter(range(10_000))
    return CompletionBatch(prompts, [[(next(numbers),) * n for n in lengths] for _, lengths in shape])


def pairs(batch: CompletionBatch) -> list[tuple[EncodedPrompt, tuple[int, ...]]]:
    """Each completion with its prompt, in order."""
    groups = zip(batch.prompts, batch.ids_P_G_T, strict=True)
    return [(prompt, tuple(ids_T)) for prompt, ids_G_T in groups for ids_T in ids_G_T]


def everything(batch: CompletionBatch) -> list[tuple[int, int]]:
    return [(p, g) for p, ids_G_T in enumerate(batch.ids_P_G_T) for g in range(len(ids_G_T))]


@settings(max_examples=200)
@given(
    shape=st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 20), min_size=1, max_size=8)), min_size=1),
    budget=st.integers(1, 300),
    layout=st.sampled_from(["packed", "rows"]),
)
def test_any_batch_under_any_budget(shape, budget: int, layout) -> None:
    batch = batch_of(shape)
    parts: list[MicroBatch] = micro_batches(batch, budget, layout)

    assert [n for part in parts for n in part.rows_N] == list(range(len(pairs(batch)))), "each once and in order"
    assert [pair for part in parts for pair in pairs(part.batch)] == pairs(batch), "each with its own prompt"
    for part in parts:
        assert part.positions == count_positions(part.batch, everything(part.batch), layout)
        assert part.positions <= budget or len(part.rows_N) == 1
        for prompt in part.batch.prompts:
            assert sum(other is prompt for other in part.batch.prompts) == 1, "a prompt once in each part"
    for p, prompt in enumerate(batch.prompts):
        members = [(p, g) for g in range(len(batch.ids_P_G_T[p]))]
        if count_positions(batch, members, layout) <= budget:
            assert sum(prompt in part.batch.prompts for part in parts) == 1, "a group that fits is never split"


@pytest.mark.parametrize(
    ("layout", "budget", "expected"),
    [
        pytest.param("packed", 60, [[0, 1, 2, 3, 4]], id="packed, all: (10 + 5 + 6) + (20 + 2 + 3 + 4) = 50"),
        pytest.param("packed", 49, [[0, 1], [2, 3, 4]], id="packed, by groups: 21 and 29"),
        pytest.param("packed", 28, [[0, 1], [2, 3], [4]], id="packed, the second group is split: 20 + 2 + 3, 20 + 4"),
        pytest.param("packed", 1, [[0], [1], [2], [3], [4]], id="packed, nothing fits"),
        pytest.param("rows", 130, [[0, 1, 2, 3, 4]], id="rows, all: 5 × (20 + 6) = 130"),
        pytest.param("rows", 129, [[0, 1], [2, 3, 4]], id="rows, by groups: 2 × 16 and 3 × 24"),
        pytest.param("rows", 71, [[0, 1], [2, 3], [4]], id="rows, the second group is split: 2 × 23, 24"),
    ],
)
def test_by_hand(layout, budget: int, expected: list[list[int]]) -> None:
    batch = batch_of([(10, [5, 6]), (20, [2, 3, 4])])
    assert [part.rows_N for part in micro_batches(batch, budget, layout)] == expected


@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize("budget", [1, 60, 100, 10_000])
def test_values_and_gradients_add_up_to_those_of_the_whole(budget: int, layout, model64, adapter, prompts) -> None:
    kinds, lengths = ["wide", "none", "several"], [[3, 12, 1], [5, 5], [7, 2]]
    batch = CompletionBatch(
        [prompts[kind] for kind in kinds], [completions(adapter, own, seed) for seed, own in enumerate(lengths)]
    )
    policy = Policy(model64, adapter, TEMPERATURE, layout)
    whole = score(policy, batch)
    parts = micro_batches(batch, budget, layout)
    assert (len(parts) == 1) == (budget == 10_000)
    for part in parts:
        logprobs_NT = policy(part.batch).logprobs_NT
        own = slice(0, logprobs_NT.shape[1])
        torch.testing.assert_close(logprobs_NT.detach(), whole.logprobs_NT[part.rows_N, own], atol=TOLERANCE, rtol=0)
        (logprobs_NT * coefficients(whole.logprobs_NT)[part.rows_N, own]).sum().backward()
    gradients = take_gradients(model64)
    assert gradients.keys() == whole.gradients.keys()
    assert max(relative(gradients[name], whole.gradients[name]) for name in gradients) < TOLERANCE
