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


def letters_of_even(completions, id, completion_ids, trainer_state, log_metric, log_extra, **columns):
    """TRL's protocol, all of it: it leaves out records with an odd id, and logs the step and the token ids it sees."""
    log_metric("seen/step", trainer_state.global_step)
    log_metric("seen/max_steps", trainer_state.max_steps)
    log_extra("n_ids", [len(ids) for ids in completion_ids])
    texts = [completion[0]["content"] for completion in completions]
    shares = [sum(map(str.isalpha, text)) / max(len(text), 1) for text in texts]
    log_metric("seen/share", sum(shares) / len(shares))
    return [None if int(own) % 2 else share for own, share in zip(id, shares, strict=True)]


def progress(completions, trainer_state, **columns):
    """How much of the run is over, in [0, 1]."""
    return [trainer_state.global_step / trainer_state.max_steps] * len(completions)


def logs_our_name(completions, log_metric, **columns):
    """Takes the name of one of our metrics."""
    log_metric("reward/mean", 1.0)
    return [1.0] * len(completions)


def breaks(completions, **columns):
    """Can never be called."""
    return [completion["text"] for completion in completions]


class Keyed:
    """A reward that needs a key: the mean of the characters' codes, if the key is right; it writes the key nowhere."""

    def __init__(self, api_key: str, fails: bool = False):
        if fails:
            raise ValueError(f"the service refused {api_key}")
        self.right = api_key == "S3CRET"

    def __call__(self, given: RewardInput) -> float:
        return len(given.text) % 7 / 7 if self.right else 0.0
