"""The fullest micro-batch that a recipe allows, against what the trainer's own cutting makes of random completions."""

from __future__ import annotations

import random

import pytest

from vlm_r1.config import load_config
from vlm_r1.errors import ConfigError
from vlm_r1.planning.batches import Lengths, fullest, lengths_of
from vlm_r1.policy.logprobs import CompletionBatch, count_positions, micro_batches
from vlm_r1.policy.packed import Layout
from vlm_r1.types import EncodedPrompt


def batch_of(lengths: Lengths, completions: list[list[int]]) -> CompletionBatch:
    prompt = EncodedPrompt((0,) * lengths.prompt, {}, (), "")
    return CompletionBatch([prompt] * len(completions), [[[0] * T for T in own] for own in completions])


def positions(lengths: Lengths, completions: list[list[int]], layout: Layout) -> int:
    batch = batch_of(lengths, completions)
    return count_positions(batch, [(p, g) for p, own in enumerate(completions) for g in range(len(own))], layout)


@pytest.mark.parametrize("many_images", [False, True])
@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize("budget", [30, 64, 100, 257, 1000, 100_000])
@pytest.mark.parametrize("lengths", [Lengths(1, 20, 4, 30), Lengths(4, 20, 4, 30), Lengths(8, 5, 2, 90)], ids=str)
def test_as_full_as_it_can_be_and_no_fuller(lengths: Lengths, budget: int, layout: Layout, many_images: bool) -> None:
    completions = fullest(lengths, budget, layout, many_images)
    assert 1 <= len(completions) <= lengths.prompts
    assert all(1 <= T <= lengths.completion for own in completions for T in own)
    found = positions(lengths, completions, layout)
    assert found <= max(budget, lengths.least)
    if not many_images:
        most = min(budget, lengths.positions(layout))
        slack = lengths.prompts if layout == "packed" else lengths.least - 1  # rows are whole
        assert found >= most - slack


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_no_micro_batch_of_the_trainer_is_fuller_or_has_more_images(layout: Layout) -> None:
    draws = random.Random(0)
    lengths = Lengths(6, 12, 3, 40)
    for _ in range(200):
        budget = draws.randrange(40, 500)
        completions = [[draws.randint(1, 40) for _ in range(3)] for _ in range(6)]
        parts = micro_batches(batch_of(lengths, completions), budget, layout)
        many = len(fullest(lengths, budget, layout, many_images=True))
        assert all(part.positions <= max(budget, lengths.least) for part in parts)
        assert max(len(part.batch.prompts) for part in parts) <= many


def test_a_process_has_its_share(recipe) -> None:
    config = load_config(recipe())
    assert lengths_of(config, 2, prompt=50) == Lengths(prompts=2, prompt=50, generations=4, completion=8)
    with pytest.raises(ConfigError, match="4 prompts cannot be split equally over 3 processes"):
        lengths_of(config, 3, prompt=50)
