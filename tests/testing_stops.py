"""Samplers and rewards of a recipe's own that meet a signal, or wait for one. Tests name them in recipes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vlm_r1.policy.logprobs import Policy
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.types import Completion, EncodedPrompt

ORDERS: list[tuple[bool, int]] = []
"""Signals to come: (greedy, n) for the n-th call from now that is greedy, as in evaluations, or not, as in steps."""

EMPTIED = ""
"""File that `emptying` empties."""

if "TESTING_SLOW_IMPORT" in os.environ:
    sys.stdout.write("importing\n")
    sys.stdout.flush()
    time.sleep(60)


class Signalled(HFSampler):
    """Sends SIGTERM to its own process before the calls that `ORDERS` names."""

    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        greedy = params.temperature == 0
        if ORDERS and ORDERS[0][0] == greedy:
            ORDERS[0] = (greedy, ORDERS[0][1] - 1)
            if ORDERS[0][1] == 0:
                ORDERS.pop(0)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.3)  # the thread that reads signals takes a moment
        return super().sample(prompts, seeds_P_G, params)


def make(policy: Policy, section: object) -> Signalled:
    return Signalled(policy.model, policy.adapter)


def emptying(policy: Policy, section: object) -> Signalled:
    """Make the stock sampler, and empty a data file, which has been opened by then."""
    with open(EMPTIED, "w", encoding="utf-8"):
        return make(policy, section)


class Damaging(HFSampler):
    """Damages a file, as `DAMAGE` says, when it is told of the weights after the second step."""

    def sync(self, step: int) -> None:
        if DAMAGE and step == 2:
            damage(*DAMAGE)
        super().sync(step)


DAMAGE: tuple[str, str] | tuple[()] = ()
"""How, and which file."""


def damaging(policy: Policy, section: object) -> Damaging:
    return Damaging(policy.model, policy.adapter)


def damage(how: str, file: str) -> None:
    path = Path(file)
    content = path.read_bytes()
    path.unlink()
    if how == "is cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "is empty":
        path.touch()
    elif how == "is a folder":
        path.mkdir()
    elif how == "is a pipe":
        os.mkfifo(path)
    elif how == "is a link to a device":
        path.symlink_to("/dev/zero")


def asleep(completions, trainer_state, **columns):
    """A reward that takes a minute in the third step."""
    if trainer_state.global_step == 2:
        sys.stdout.write("asleep\n")
        sys.stdout.flush()
        time.sleep(60)
    return [0.0] * len(completions)


def fails_on_the_second(completions, trainer_state, **columns):
    """Raises in the second of several processes, in the second step."""
    if trainer_state.global_step == 1 and os.environ.get("RANK") == "1":
        raise ValueError("no such planet")
    return [0.0] * len(completions)


def dies_on_the_second(completions, trainer_state, **columns):
    """Is killed in the second of several processes; the first one is then busy for a minute."""
    if trainer_state.global_step == 1:
        if os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return [0.0] * len(completions)


def huge(completions, **columns):
    """A reward beyond float32, of one completion, in the last process."""
    last = int(os.environ.get("WORLD_SIZE", "1")) - 1
    is_last = int(os.environ.get("RANK", "0")) == last
    return [1e300 if is_last and place == 1 else 0.0 for place in range(len(completions))]


def large(completions, **columns):
    """Rewards that differ by 1 within a group, but by 100 in the last process."""
    is_last = os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)
    return [place * (100.0 if is_last else 1.0) for place in range(len(completions))]
