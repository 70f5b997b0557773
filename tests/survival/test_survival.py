"""Runs that are killed go on as if nothing had happened: a few attacks here, all of them in `make test-long`.

The attacks are in benchmarks/survival, docs/reliability.md says what they found.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from benchmarks.survival import syscalls
from benchmarks.survival.__main__ import run_suite
from benchmarks.survival.damage import DAMAGES, damage, files_of, stopped_run
from benchmarks.survival.failures import can_mount, failure_at_call, file_size_limited, small_disk
from benchmarks.survival.kills import KILLS, kill, kill_at_call, kill_at_moment, kill_at_random
from benchmarks.survival.nursery import Nursery
from benchmarks.survival.signals import signal_at_moment, two_at_once
from benchmarks.survival.suites import BY_NAME, SUITES
from benchmarks.survival.trials import EQUAL, ERROR, GOOD, OLDER, Ground, Result, Run

pytestmark = pytest.mark.skipif(not syscalls.is_offered(), reason="needs Linux on x86-64 with user notification")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Nursery() as nursery:
        yield Ground(nursery, tmp_path_factory.mktemp("survival").resolve())


def told(results: list[Result], good: tuple[str, ...]) -> str:
    """The trials with other outcomes than these, for the message of a failure."""
    bad = [result for result in results if result.outcome not in good]
    return "\n".join(f"{one.subject}: {one.attack}: {one.outcome}\n{one.note}" for one in bad)


@pytest.mark.long
def test_six_kills(ground: Ground) -> None:
    """One process and two, GRPO and SFT, whole weights and LoRA; one is killed again while it resumes."""
    grpo, sft, two = (BY_NAME[name] for name in ("grpo", "sft-lora", "grpo-2"))
    calls = ground.whole(sft).ended.calls
    writes = [n for n, call in enumerate(calls, start=1) if "step-000004.tmp" in call]
    results = [
        kill_at_moment(ground, grpo, "optimizer"),
        kill_at_moment(ground, two, "sampling", [1]),
        kill_at_moment(ground, sft, "save commits"),
        kill_at_moment(ground, sft, "old checkpoints pruned"),
        kill_at_call(ground, sft, writes[len(writes) // 2]),
        kill_at_random(ground, grpo, seed=1),
    ]
    assert not told(results, (EQUAL,))


def test_a_moment_that_does_not_come_is_no_success(ground: Ground) -> None:
    moment = "training/learner.py:Learner.backwards"
    assert "was not killed" in kill(ground, BY_NAME["sft-lora"], "control", moment=moment).outcome


def test_a_disk_gets_full(ground: Ground) -> None:
    """In an evaluation, in the optimizer's file of the second checkpoint, and in the weights of the final model."""
    subject = BY_NAME["sft-lora"]
    calls = list(enumerate(ground.whole(subject).ended.calls, start=1))
    points = [
        next(n for n, call in calls if "eval/" in call),
        [n for n, call in calls if "step-000004.tmp/state/optimizer.bin" in call][3],
        [n for n, call in calls if call.startswith("write .model.tmp/.tmp")][-1],
    ]
    results = [failure_at_call(ground, subject, "disk full", n) for n in points]
    files = [path for path in ground.whole(subject).folder.rglob("*") if path.is_file() and path.suffix != ".html"]
    largest = max(path.stat().st_size for path in files)  # a page is not of the same size each time
    results.append(file_size_limited(ground, subject, largest - 1))
    if can_mount():
        results.append(small_disk(ground, subject, 100_000))
    assert not told(results, (ERROR,))


def test_damaged_files(ground: Ground) -> None:
    """Half of the files, each with one kind of damage."""
    subject = BY_NAME["sft-lora"]
    stopped, _ = stopped_run(ground, subject, "metrics line written")
    files = [file for file in files_of(stopped) if "step-000002/" not in file]
    kinds = list(DAMAGES)
    attacks = [(file, kinds[index % len(kinds)]) for index, file in enumerate(files[::2])]
    results = [damage(ground, subject, stopped, file, kind) for file, kind in attacks]
    assert not told(results, GOOD)
    assert {OLDER, ERROR} <= {result.outcome for result in results}


def test_a_signal(ground: Ground) -> None:
    pytest.importorskip("vlm_r1.training.stopping")
    result = signal_at_moment(ground, BY_NAME["sft-lora"], "backward", signal.SIGTERM)
    assert not told([result], (EQUAL,))
    assert "143" in result.note, "it was stopped, not finished"


def test_two_runs_in_one_folder(ground: Ground) -> None:
    """A new one, and one that goes on."""
    grpo = BY_NAME["grpo"]
    stopped, _ = stopped_run(ground, grpo, "metrics line written")
    assert not told([two_at_once(ground, BY_NAME["sft-lora"], None), two_at_once(ground, grpo, stopped)], (EQUAL,))


def test_control_a_run_that_differs_is_found_to_differ(ground: Ground) -> None:
    """Another seed: metrics, rollouts, evaluations and weights are all compared."""
    run = Run(ground, BY_NAME["grpo"], "other")
    ended = run.start(arguments=["train", str(run.recipe), f"--output_dir={run.folder}", "--seed=4"])
    assert ended.statuses == [0]
    different = run.compare()
    for file in (
        "metrics.jsonl",
        "rollouts/step-000001.parquet",
        "eval/after-held.samples.jsonl",
        "model/model.safetensors",
        "checkpoints/step-000006/state/optimizer.bin",
    ):
        assert f"{file}: differs" in different
    assert not run.folder.samefile(ground.whole(run.subject).folder)


@pytest.mark.long
@pytest.mark.parametrize("suite", SUITES)
def test_all_attacks(suite: str, ground: Ground) -> None:
    results = run_suite(ground, suite)
    assert results
    assert not told(results, GOOD)
    if suite == "random":
        assert sum(int(result.note.removeprefix(KILLS)) for result in results) >= 50
        assert {result.subject for result in results} == BY_NAME.keys(), "GRPO, SFT; whole, LoRA; one process, two"
