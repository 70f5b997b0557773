"""Rewards of a completion's length in tokens, the stop token included."""

from __future__ import annotations

import math
from typing import Any

from vlm_r1.errors import ConfigError
from vlm_r1.rewards.base import RewardInput, wrong_option

_ACCURACY = "accuracy"


def cosine_length(
    given: RewardInput[Any],
    *,
    max_tokens: int = 1024,
    correct: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (0.0, -0.5),
    correct_from: float = 0.7,
) -> float:
    """A value for the length of a completion: a half cosine from one value at 0 tokens to another at `max_tokens`.

    r = last + (first − last) · (1 + cos(π · min(n, max_tokens) / max_tokens)) / 2, where (first, last) is `correct` or
    `wrong`. With the defaults it is in [−0.5, 1], and a correct answer is always worth more than a wrong one.
    Source: arXiv 2502.03373, section 4.2, with the values of the original VLM-R1, which treats every answer as
    correct. In the paper wrong answers earn more if they are longer, `wrong=(-0.5, 0.0)`, to make a model think longer;
    by default length never pays here. If the accuracy left the record out, the value is 0.

    Args:
        max_tokens: end of the curve; longer completions have its last value.
        correct: first and last value if the accuracy is at least `correct_from`.
        wrong: first and last value otherwise.

    Raises:
        ConfigError: the tokens were not counted, there is no component "accuracy" before this one, or `max_tokens` < 1.
    """
    if max_tokens < 1:
        raise wrong_option("cosine_length", "max_tokens", max_tokens, "at least 1")
    n_tokens = _count_tokens(given, "cosine_length")
    if _ACCURACY not in given.parts:
        raise ConfigError(
            f'{given.record.source}: reward "cosine_length" asks whether the answer is correct, and there is no '
            'component "accuracy" to say so; add accuracy to the rewards (a weight of 0 keeps it out of the sum)'
        )
    accuracy = given.parts[_ACCURACY]
    if accuracy is None:
        return 0.0
    first, last = correct if accuracy >= correct_from else wrong
    return last + (first - last) * (1.0 + math.cos(math.pi * min(n_tokens / max_tokens, 1.0))) / 2.0


def overlong(given: RewardInput[Any], *, max_tokens: int = 512, buffer: int = 128) -> float:
    """Soft penalty for completions that come near the limit at which they are cut off.

    r = 0 up to max_tokens − buffer tokens, −1 from max_tokens on, and a straight line between them; in [−1, 0].
    Source: DAPO, arXiv 2503.14476, eq. 13.

    Args:
        max_tokens: the limit, most often the recipe's `sampling.max_completion_length` (512 is its default).
        buffer: number of tokens over which the penalty grows.

    Raises:
        ConfigError: the tokens were not counted, or not 0 < buffer ≤ max_tokens.
    """
    if not 0 < buffer <= max_tokens:
        raise wrong_option("overlong", "buffer", buffer, f"0 < buffer ≤ max_tokens, which is {max_tokens}")
    n_tokens = _count_tokens(given, "overlong")
    return max(min((max_tokens - buffer - n_tokens) / buffer, 0.0), -1.0)


def _count_tokens(given: RewardInput[Any], name: str) -> int:
    if given.n_tokens is None:
        raise ConfigError(
            f'{given.record.source}: reward "{name}" needs the number of tokens of each completion, and here nobody '
            "counted them: texts are judged without a tokenizer; leave it out, or judge rollouts that hold their tokens"
        )
    return given.n_tokens
