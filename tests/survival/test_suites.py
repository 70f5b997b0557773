"""What the suites consist of, and how their outcomes are told."""

from __future__ import annotations

import pytest
from benchmarks.survival.__main__ import by_file, table
from benchmarks.survival.compare import but_for_checkpoints
from benchmarks.survival.damage import DAMAGES
from benchmarks.survival.kills import MOMENTS, moments_of, points_of
from benchmarks.survival.subjects import SUBJECTS
from benchmarks.survival.trials import EQUAL, ERROR, Result


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_changes_the_file(name, tmp_path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(range(100)))
    DAMAGES[name](file)
    assert not file.is_file() or file.read_bytes() != bytes(range(100))


def test_a_row_of_equal_calls_is_attacked_at_three_places() -> None:
    calls = ["open a", "write a", "write a", "write a", "write a", "write a", "rename a", "write a"]
    assert points_of(calls) == [1, 2, 4, 6, 7, 8]
    assert points_of([]) == []


def test_sft_samples_nothing() -> None:
    for subject in SUBJECTS:
        assert ("sampling" in moments_of(subject)) == (subject.command == "train")
        assert set(moments_of(subject)) <= MOMENTS.keys()


def test_outcomes_are_counted() -> None:
    results = {
        "calls": [Result("grpo", "kill before call 1", EQUAL), Result("sft", "kill before call 2", "differs")],
        "damage": [Result("grpo", "config.yaml: emptied", ERROR)],
    }
    assert table(results) == (
        "| suite | trials | equal | equal, older checkpoint | equal, damage named | clear error | forbidden |\n"
        "|---|---|---|---|---|---|---|\n"
        "| calls | 2 | 1 | 0 | 0 | 0 | 1 |\n"
        "| damage | 1 | 0 | 0 | 0 | 1 | 0 |"
    )


def test_files_are_grouped() -> None:
    files = (
        "checkpoints/step-000004/model.safetensors",
        "checkpoints/step-000004/state/optimizer.bin",
        "checkpoints/step-000002/model.safetensors",
        "metrics.jsonl",
    )
    assert list(by_file([Result("grpo", f"{file}: emptied", ERROR) for file in files])) == [
        "newest checkpoint: weights",
        "newest checkpoint: `state/`",
        "older checkpoint",
        "metrics.jsonl",
    ]


def test_other_checkpoints_may_be_kept_but_not_another_last_one() -> None:
    lines = ["checkpoints/step-000005/a: only in the attacked run", "checkpoints/step-000006/a: differs", "b: differs"]
    assert but_for_checkpoints(lines, "step-000006") == lines[1:]
