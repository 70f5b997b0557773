"""A reward model as a reward: its options and their checks. Nothing heavy is imported before a completion is judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vlm_r1.registry import split_options
from vlm_r1.rewards.base import RewardInput, wrong_option

NAME = "reward_model"
"""Its name in `REWARDS`."""

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


class RewardModel:
    """The score of a model with a head for one number, as TRL's `reward_funcs="hub/name"`.

    The model sees the question and the completion as a conversation, written by its own chat template; its reward is
    the first and only logit. It is loaded when it first judges, once in a process.

    Args:
        path: Hugging Face folder, or a name of the Hub.
        revision: commit, branch or tag of a model of the Hub; "": the newest.
        device: auto (the process's own GPU, else the CPU), cpu, cuda or cuda:N.
        dtype: of the weights; auto: as the checkpoint says.
        batch_size: how many completions go through the model at once.
        max_length: most tokens of question and completion together; a longer one is left out (None). 0: as many as the
            model takes.

    Raises:
        ConfigError: an option has a value that makes no sense.
    """

    takes_batch = True

    def __init__(
        self,
        *,
        path: str = "",
        revision: str = "",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        max_length: int = 0,
    ) -> None:
        if not _is_text(path) or not path:
            raise wrong_option(
                NAME, "path", path, 'a folder or a name of the Hub, in quotes: reward_model(path="org/name")'
            )
        if not _is_text(revision):
            raise wrong_option(NAME, "revision", revision, 'a commit, branch or tag, as a text, e.g. "main"')
        if not _is_text(device) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
            raise wrong_option(NAME, "device", device, '"auto", "cpu", "cuda" or "cuda:1"')
        if dtype not in DTYPES:
            raise wrong_option(NAME, "dtype", dtype, f"one of {', '.join(DTYPES)}, as a text")
        if not _is_count(batch_size, 1):
            raise wrong_option(NAME, "batch_size", batch_size, "a whole number from 1")
        if not _is_count(max_length, 0):
            raise wrong_option(NAME, "max_length", max_length, "a number of tokens; 0: as many as the model takes")
        self.path, self.revision, self.device, self.dtype = path, revision, device, dtype
        self.batch_size, self.max_length = batch_size, max_length

    def __call__(self, givens: Sequence[RewardInput[Any]]) -> list[float | None]:
        """Return the score of each completion; None for one that the model cannot take.

        Raises:
            ModelError: the model cannot be loaded, or is no reward model.
            RewardError: it gives no finite number, or does not fit into memory.
        """
        from vlm_r1.rewards.model_loading import load_scorer  # torch and transformers

        scorer = load_scorer(self.path, self.revision, self.device, self.dtype)
        return scorer.scores(givens, self.batch_size, self.max_length)

    @property
    def gpu(self) -> int | None:
        """The number of the GPU that `device` names; None: the process's own, or the CPU."""
        _, colon, number = self.device.partition(":")
        return int(number) if colon else None

    def config(self) -> Any:
        """Load the config of its model, which says what kind it is and knows the commit of a model of the Hub.

        Raises:
            ModelError: there is none, or it is no reward model's.
        """
        from vlm_r1.rewards.model_loading import load_config

        return load_config(self.path, self.revision)

    def nbytes(self) -> int:
        """Return the bytes of its weights, from its config alone; ModelError as in `config`."""
        from vlm_r1.rewards.model_loading import count_bytes

        return count_bytes(self.config(), self.dtype)


def reward_models(names: Iterable[str | None]) -> dict[str, RewardModel]:
    """Return the reward models among names of rewards, by name.

    >>> list(reward_models(["iou", 'reward_model(path="org/judge")', None]))
    ['reward_model(path="org/judge")']
    """
    return {name: RewardModel(**split_options(name)[1]) for name in names if name and is_reward_model(name)}


def is_reward_model(name: str) -> bool:
    """Return whether the name of a reward is `reward_model`, with its options.

    >>> is_reward_model("reward_model(path='judge')"), is_reward_model("iou")
    (True, False)
    """
    return name.partition("(")[0].strip() == NAME


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= 10**9
