"""What a function from outside changes in the process is put back, and told."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from torch.overrides import BaseTorchFunctionMode

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


def _wakeup_fd() -> int:
    """The descriptor; it is set anew, to a pipe of this test."""
    if not _PIPE:
        _PIPE.extend(os.pipe())
        os.set_blocking(_PIPE[1], False)
        signal.set_wakeup_fd(_PIPE[1])
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor


_PIPE: list[int] = []


@pytest.fixture(autouse=True)
def as_before():
    """Each test finds the umask, and leaves the wakeup descriptor, as it was."""
    mask = os.umask(0o22)
    yield
    os.umask(mask)
    if _PIPE:
        signal.set_wakeup_fd(-1)
        for descriptor in _PIPE:
            os.close(descriptor)
        _PIPE.clear()


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
        (lambda: BaseTorchFunctionMode().__enter__(), torch._C._len_torch_function_stack, "modes of functions"),
        (
            lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: 0 * x, lambda x: x).__enter__(),
            lambda: torch._C._autograd._top_saved_tensors_default_hooks(True),
            "hooks of saved tensors",
        ),
        (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision, "precision of"),
        (lambda: setattr(torch.backends.mkldnn, "enabled", False), lambda: torch.backends.mkldnn.enabled, "oneDNN"),
        (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled, "search for anomalies"),
        (lambda: os.umask(0o777), lambda: [os.umask(0o22), os.umask(0o22)][0], "mask of new files"),
        (lambda: os.environ.update(TESTING_X="7"), lambda: os.environ.get("TESTING_X"), "the environment"),
        (lambda: sys.stdout.close(), lambda: sys.stdout.closed, "standard output"),
        (lambda: os.closerange(1, 3), lambda: os.fstat(1).st_ino, "standard output or"),
        (lambda: setattr(sys, "stderr", None), lambda: sys.stderr, "standard output or error"),
        (lambda: signal.set_wakeup_fd(-1), _wakeup_fd, "where signals are noted"),
        (
            lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
            lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "pthread_sigmask",
        ),
        (
            lambda: signal.setitimer(signal.ITIMER_PROF, 60),
            lambda: signal.getitimer(signal.ITIMER_PROF)[0],
            "the alarm ITIMER_PROF",
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


def test_a_device_that_is_not_left_is_left():
    """`with torch.device("meta")` without its end: new tensors of the run would have no numbers."""
    call_reward("device", from_outside(lambda given: float(torch.device("meta").__enter__() is not None)), [given()])
    assert torch.ones(1).item() == 1


def test_rewards_find_the_environment_that_rewards_left():
    """A package may write it when a reward first imports it, and read it again later."""
    found: list[str | None] = []

    def sets(given):
        found.append(os.environ.get("TESTING_SET_BY_A_REWARD"))
        os.environ["TESTING_SET_BY_A_REWARD"] = "1"
        return 1.0

    for _ in range(2):
        call_reward("sets", from_outside(sets), [given()])
    assert found == [None, "1"]
    assert "TESTING_SET_BY_A_REWARD" not in os.environ


def test_what_a_reward_prints_is_shown_although_it_closes_the_output(capsys):
    def prints(given):
        print("seen")  # noqa: T201
        sys.stdout.close()
        return 1.0

    call_reward("prints", from_outside(prints), [given()])
    print("after")  # noqa: T201
    assert capsys.readouterr().out == "seen\nafter\n"


def test_a_key_in_the_name_is_masked_in_the_warning(caplog):
    """The name of a reward holds its options."""
    call_reward('x:F(api_key="sk-1234567")', from_outside(lambda given: torch.manual_seed(5) and 1.0), [given()])
    assert 'reward "x:F(api_key="***")" changes' in caplog.text
    assert "sk-1234567" not in caplog.text


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
