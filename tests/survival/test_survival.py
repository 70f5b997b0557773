"""Runs that are killed go on as if nothing had happened: a few attacks here, all of them in `make test-long`.

The attacks are in benchmarks/survival, docs/reliability.md says what they found.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.survival import syscalls
from benchmarks.survival.__main__ import run_suite
from benchmarks.survival.kills import kill, kill_at_call, kill_at_moment, kill_at_random
from benchmarks.survival.nursery import Nursery
from benchmarks.survival.suites import BY_NAME, SUITES
from benchmarks.survival.trials import EQUAL, GOOD, Ground, Result

pytestmark = pytest.mark.skipif(not syscalls.is_offered(), reason="needs Linux on x86-64 with user notification")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Nursery() as nursery:
        yield Ground(nursery, tmp_path_factory.mktemp("survival").resolve())


def told(results: list[Result], good: tuple[str, ...]) -> str:
    """The trials with other outcomes than these, for the message of a failure."""
    bad = [result for result in results if result.outcome not in good]
    return "\n".join(f"{one.subject}: {one.attack}: {one.outcome}\n{one.note}" for one in bad)


def test_five_kills(ground: Ground) -> None:
    """One process and two, GRPO and SFT, whole weights and LoRA; one is killed again while it resumes."""
    grpo, sft, two = (BY_NAME[name] for name in ("grpo", "sft-lora", "grpo-2"))
    calls = ground.whole(sft).ended.calls
    writes = [n for n, call in enumerate(calls, start=1) if "step-000004.tmp" in call]
    results = [
        kill_at_moment(ground, grpo, "optimizer"),
        kill_at_moment(ground, two, "sampling", [1]),
        kill_at_moment(ground, sft, "save commits"),
        kill_at_call(ground, sft, writes[len(writes) // 2]),
        kill_at_random(ground, grpo, seed=1),
    ]
    assert not told(results, (EQUAL,))


def test_a_moment_that_does_not_come_is_no_success(ground: Ground) -> None:
    moment = "training/learner.py:Learner.backwards"
    assert "was not killed" in kill(ground, BY_NAME["sft-lora"], "control", moment=moment).outcome


@pytest.mark.long
@pytest.mark.parametrize("suite", SUITES)
def test_all_attacks(suite: str, ground: Ground) -> None:
    results = run_suite(ground, suite)
    assert results
    assert not told(results, GOOD)
