"""Damage to what a run wrote before its last checkpoint is named when the run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.history import FILE, find_changes, read_history, tell_changes, write_history
from vlm_r1.runtime.run_folder import RunFolder

FILES = {
    "config.yaml": "seed: 3\n",
    "environment.json": '{"python": "3.11"}',
    "metrics.jsonl": '{"step": 1}\n{"step": 2}\n',
    "rollouts/step-000001.parquet": "first",
    "rollouts/step-000002.parquet": "second",
    "eval/before-held.json": "{}",
    "eval/before-held.samples.jsonl": "{}\n",
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return RunFolder(tmp_path)


def save(run: RunFolder, step: int, before: Path | None = None) -> Path:
    folder = run.checkpoints / f"step-{step:06d}"
    (folder / "state").mkdir(parents=True)
    write_history(folder, run, before)
    return folder


def test_a_run_that_goes_on_has_no_changes(run) -> None:
    checkpoint = save(run, 2)
    assert read_history(checkpoint).keys() == FILES.keys()
    with run.metrics.open("a") as file:
        file.write('{"step": 3}\n')
    (run.rollouts / "step-000003.parquet").write_text("third")
    run.environment.write_text('{"python": "3.11", "saved": true, "changes": [{"after_step": 2}]}')
    assert find_changes(checkpoint, run) == []


def test_an_evaluation_that_was_cut_short_may_be_added(run) -> None:
    checkpoint = save(run, 2)
    rows = '{"step": 1}\n{"step": 2, "eval/held/accuracy": 0.5}\n'
    run.metrics.write_text(rows)
    assert find_changes(checkpoint, run) == []
    run.metrics.write_text(rows.replace('"step": 2', '"step": 3'))
    assert find_changes(checkpoint, run) == ["metrics.jsonl"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-3]), id="cut"),
        pytest.param(
            lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), id="bit"
        ),
    ],
)
def test_damage_is_named(damage: Callable[[Path], object], name: str, run) -> None:
    checkpoint = save(run, 2)
    damage(run.path / name)
    assert find_changes(checkpoint, run) == [name]


def test_damage_between_two_checkpoints_is_not_taken_for_the_truth(run) -> None:
    first = save(run, 2)
    (run.rollouts / "step-000001.parquet").write_text("frist")
    (run.rollouts / "step-000003.parquet").write_text("third")
    second = save(run, 3, before=first)
    assert read_history(second).keys() == {*FILES, "rollouts/step-000003.parquet"}
    assert find_changes(second, run) == ["rollouts/step-000001.parquet"]


def test_many_changes_are_counted(run) -> None:
    (run.path / "metrics.jsonl").unlink()
    lines = tell_changes(["metrics.jsonl", "config.yaml", "a", "b", "c", "d", "e"], run)
    assert lines[0] == "metrics.jsonl is missing; training does not need it, but the report shows what is there"
    assert lines[1].startswith("config.yaml is not what the run wrote")
    assert lines[-1] == "… and 2 more files"


def test_a_checkpoint_of_an_older_version_has_none_and_a_torn_one_is_an_error(run) -> None:
    checkpoint = save(run, 2)
    (checkpoint / FILE).write_text("[")
    with pytest.raises(CheckpointError, match=r"history\.json: cannot be read as JSON"):
        find_changes(checkpoint, run)
    (checkpoint / FILE).unlink()
    assert find_changes(checkpoint, run) == []


def test_a_history_is_json(run) -> None:
    entries = json.loads((save(run, 2) / FILE).read_text())
    assert entries["rollouts/step-000001.parquet"][0] == len("first")


@pytest.mark.parametrize(
    ("name", "entry"),
    [("metrics.jsonl", ["x", "y"]), ("/dev/zero", [1, "y"]), ("../x", [1, "y"]), ("a", 5), ("a", [True, "y"])],
)
def test_an_entry_that_is_no_size_and_hash_of_a_file_of_the_run_is_refused(tmp_path, name: str, entry: object) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/history.json").write_text(json.dumps({name: entry}))
    with pytest.raises(CheckpointError, match=r"history\.json: .* wanted a file of the run with its size and hash"):
        find_changes(tmp_path, RunFolder(tmp_path))


def test_control_a_file_that_is_gone_is_a_change(tmp_path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/history.json").write_text(json.dumps({"a": [1, "y"], "\0": [1, "y"]}))
    assert find_changes(tmp_path, RunFolder(tmp_path)) == ["a", "\0"]
