"""An outside reward for tests: a random policy never writes a box, so something else must tell its completions
apart.
"""

from __future__ import annotations

from vlm_r1.rewards.base import RewardInput


def letters(given: RewardInput) -> float:
    """Share of letters in the text, in [0, 1]."""
    return sum(character.isalpha() for character in given.text) / max(len(given.text), 1)


def mostly_letters(given: RewardInput) -> float:
    """1 where more than half of the text are letters, else 0: many groups agree."""
    return float(letters(given) > 0.5)


async def words_like_trl(completions, difficulty, **columns):
    """TRL's signature, awaited: the number of words, scaled by a column of the data."""
    return [
        len(completion[0]["content"].split()) / 10 * (value or 1.0)
        for completion, value in zip(completions, difficulty, strict=True)
    ]
