"""What a function from outside changes in the process is put back, and told."""

from __future__ import annotations

import logging
import os
import random
import signal

import numpy as np
import pytest
import torch

from testing_functions import from_outside, given
from vlm_r1.errors import RewardError
from vlm_r1.rewards.call import call_reward, evaluate, resolve_reward
from vlm_r1.rewards.guard import TimeLimit
from vlm_r1.rewards.kept_state import kept_state


def _no_gradients() -> None:
    torch.set_grad_enabled(False)


def _enter_inference_mode() -> None:
    _HELD.append(torch.inference_mode())
    _HELD[-1].__enter__()


_HELD: list = []


@pytest.mark.parametrize(
    ("change", "read", "what"),
    [
        (_no_gradients, torch.is_grad_enabled, "whether torch records gradients"),
        (_enter_inference_mode, torch.is_inference_mode_enabled, "inference mode"),
        (lambda: torch.set_num_threads(3), torch.get_num_threads, "number of torch's threads"),
        (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype, "default type"),
        (lambda: torch.set_default_device("meta"), torch.get_default_device, "default device"),
        (
            lambda: torch.use_deterministic_algorithms(True),
            torch.are_deterministic_algorithms_enabled,
            "whether torch is deterministic",
        ),
        (
            lambda: torch.set_autocast_enabled("cpu", True),
            lambda: torch.is_autocast_enabled("cpu"),
            "autocast on cpu",
        ),
        (lambda: torch.manual_seed(0), lambda: torch.get_rng_state().tolist(), "random numbers of torch"),
        (lambda: random.seed(0), random.getstate, "random numbers of Python"),
        (lambda: np.random.seed(0), lambda: np.random.get_state()[1].tolist(), "random numbers of numpy"),
        (lambda: os.chdir("/"), os.getcwd, "current folder"),
        (
            lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
            lambda: signal.getsignal(signal.SIGTERM),
            "handler of SIGTERM",
        ),
        (lambda: signal.alarm(60), lambda: signal.getitimer(signal.ITIMER_REAL)[0], "the alarm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_function_changes_is_put_back_and_told_once(change, read, what, caplog):
    def changes(given):
        change()
        return 1.0

    before, name = read(), f"changes {what}"
    reward = from_outside(changes)
    with caplog.at_level(logging.WARNING):
        assert call_reward(name, reward, [given(), given()]) == [1.0, 1.0]
        assert call_reward(name, reward, [given()]) == [1.0]
    assert read() == before
    [told] = caplog.messages
    assert f'reward "changes {what}" changes' in told
    assert what in told


def test_the_control_a_function_that_is_not_from_outside_is_not_looked_after():
    reward = resolve_reward("f", {"f": lambda given: torch.set_grad_enabled(False) is not None})
    evaluate("f", reward, [given()])
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)


def test_the_random_numbers_of_rewards_go_on_while_those_of_the_run_stand_still(caplog):
    drawn: list[float] = []
    state = random.getstate()
    for _ in range(3):
        call_reward("draws", from_outside(lambda given: drawn.append(random.random()) or 1.0), [given()])
    assert len(set(drawn)) == 3
    assert random.getstate() == state


def test_what_is_changed_is_put_back_after_a_failure_too():
    def fails(given):
        torch.set_grad_enabled(False)
        raise ValueError("x")

    with pytest.raises(RewardError, match="ValueError: x"):
        call_reward("fails after a change", from_outside(fails), [given()], None, TimeLimit(5.0))
    assert torch.is_grad_enabled()


def test_without_a_change_nothing_is_told(caplog):
    with kept_state("quiet"):
        torch.ones(2).sum()
    assert caplog.messages == []
