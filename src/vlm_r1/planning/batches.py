"""The micro-batch of a recipe that needs most memory: the fullest, or the one with most images."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_r1.config import Config
from vlm_r1.data.prompts import shard
from vlm_r1.policy.packed import Layout


@dataclass(frozen=True)
class Lengths:
    """Counts and lengths of one process's share of a step.

    Attributes:
        prompts: P, on this process.
        prompt: L, tokens of a prompt.
        generations: G, completions of a prompt.
        completion: T, tokens of a completion of maximal length.
        copies: how often a pass computes each completion: 2 if it does so on blank images too, else 1.
    """

    prompts: int
    prompt: int
    generations: int
    completion: int
    copies: int = 1

    def positions(self, layout: Layout) -> int:
        """Positions that the language model computes for the whole share, if all completions have maximal length."""
        L, G, T = self.prompt, self.generations, self.completion
        return self.copies * self.prompts * (L + G * T if layout == "packed" else G * (L + T))

    @property
    def least(self) -> int:
        """Positions of the smallest possible micro-batch: one completion with its prompt, which are never cut."""
        return self.copies * (self.prompt + self.completion)


def lengths_of(config: Config, gpus: int, prompt: int) -> Lengths:
    """Return the share of one of `gpus` processes.

    Raises:
        ConfigError: prompts_per_step cannot be divided evenly, which the trainer refuses too.
    """
    prompts = len(shard(range(config.training.prompts_per_step), 0, gpus))
    return Lengths(prompts, prompt, config.grpo.num_generations, config.sampling.max_completion_length)


def fullest(lengths: Lengths, budget: int, layout: Layout, many_images: bool) -> list[list[int]]:
    """Choose the completions of a micro-batch that fills `budget` positions as nearly as possible.

    A packed group gets as few completions as its tokens need, but at least two, since only the number of tokens counts.

    Args:
        many_images: choose short completions, so that there are as many prompts as possible, because the vision tower
            needs most memory. Otherwise choose few prompts with long completions.

    Returns:
        For each prompt the lengths of its completions, in tokens.

    >>> fullest(Lengths(prompts=16, prompt=600, generations=8, completion=2048), 16384, "packed", many_images=False)
    [[1973, 1973, 1973, 1973, 1973, 1973, 1973, 1973]]
    >>> fullest(Lengths(prompts=2, prompt=600, generations=8, completion=2048), 16384, "packed", many_images=True)
    [[1898, 1898, 1898, 1898], [1898, 1898, 1898, 1898]]
    >>> fullest(Lengths(prompts=2, prompt=600, generations=8, completion=2048), 8192, "rows", many_images=False)
    [[2048, 2048, 2048]]
    """
    chosen = (_packed if layout == "packed" else _rows)(lengths, budget // lengths.copies, many_images)
    return chosen * lengths.copies


def _packed(lengths: Lengths, budget: int, many_images: bool) -> list[list[int]]:
    P, L, G, T = lengths.prompts, lengths.prompt, lengths.generations, lengths.completion
    prompts = _most_groups(budget, L + 1, L + G) if many_images else -(-budget // (L + G * T))
    prompts = min(P, max(1, prompts))
    tokens = min(G * T, max(budget // prompts - L, T if prompts == 1 else 1))
    completions = min(max(2, -(-tokens // T)), tokens)
    return [_shares(tokens, completions)] * prompts


def _rows(lengths: Lengths, budget: int, many_images: bool) -> list[list[int]]:
    P, L, G, T = lengths.prompts, lengths.prompt, lengths.generations, lengths.completion
    shortest = 1 if many_images else T
    rows = min(P * G, max(1, budget // (L + shortest)))
    prompts = min(P, _most_groups(rows, 1, G)) if many_images else -(-rows // G)
    tokens = min(T, max(shortest, budget // rows - L)) if prompts > 1 else T
    rows = min(rows, max(1, budget // (L + tokens)))
    return [[tokens] * share for share in _shares(rows, prompts)]


def _most_groups(room: int, end: int, whole: int) -> int:
    """How many groups a micro-batch can hold. The first and the last may be incomplete (`end` positions at least)."""
    return 2 + (room - 2 * end) // whole if room >= 2 * end else 1


def _shares(total: int, count: int) -> list[int]:
    """Divide `total` into `count` integers that differ by at most 1."""
    return [total // count + (n < total % count) for n in range(count)]
