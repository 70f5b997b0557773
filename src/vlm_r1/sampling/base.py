"""The sampler protocol, and the seed of each completion, which depends on its record and not on the process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vlm_r1.config.schema import SamplingSection
from vlm_r1.types import Completion, EncodedPrompt, Record


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn; names and meanings are transformers'.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token (greedy), and the filters then do not apply.
        top_p: keep the likeliest tokens that reach this total probability, in (0, 1].
        top_k: keep this many likeliest tokens; 0 keeps all.
        min_p: drop tokens less likely than min_p times the likeliest, in [0, 1).
        max_completion_length: cap in tokens, the stop token included.
        repetition_penalty: logits of tokens that stand in the prompt or the completion so far are divided by it if they
            are positive, else multiplied; before temperature and filters. Greedy decoding has it too. 1: none.
    """

    max_completion_length: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, section: SamplingSection) -> SamplingParams:
        """Return the parameters of the recipe."""
        return cls(**section.model_dump(exclude={"engine"}))


def greedy(max_completion_length: int) -> SamplingParams:
    """Return the parameters of greedy decoding."""
    return SamplingParams(max_completion_length, temperature=0.0)


class Sampler(Protocol):
    """Draws completions. `HFSampler` does so with transformers; `ScriptedSampler` replays given texts, for tests."""

    def sync(self, version: int) -> None:
        """Sample with the policy's present weights from now on, and write `version` on every completion.

        An engine that holds weights of its own fetches them here.

        Args:
            version: number of finished steps.
        """
        ...

    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """Draw `len(seeds_P_G[p])` completions of each prompt, the same number for all.

        A completion depends only on its prompt, its seed, the weights and `params`, but not on its neighbours in the
        batch, up to rounding.
        """
        ...


def completion_seed(run_seed: int, draw: int, record: Record, completion: int) -> int:
    """Return the 128-bit seed of one completion. Any number of processes, and a resumed run, sample the same texts.

    The folder of the data does not matter.

    Args:
        draw: how many records the run drew before this one; so a record that comes twice gets other completions.
        completion: number of the completion within its group, from 0.
    """
    name = f"{run_seed}/{draw}/{record.id}/{completion}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
