"""A picture that turns bad while a run trains is skipped, counted and named; it does not end the run, up to a limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import testing_stops
from testing_commands import assert_equal, in_two_processes, untimed
from vlm_r1.config import load_config
from vlm_r1.data.records import CHECKED_LINES
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.stopping import Stopped


def cut(picture: Path) -> None:
    """Leave the header, which is read before training, and half of the pixels."""
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])


@pytest.fixture
def data(rec_files, tmp_path) -> Path:
    """A copy of 24 training records in file order, whose third and sixth pictures are cut."""
    folder = tmp_path / "data"
    rows = [json.loads(line) for line in rec_files["train"].read_text(encoding="utf-8").splitlines()[:24]]
    for row in rows:
        (folder / row["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(rec_files["train"].parent / row["image"], folder / row["image"])
    for row in (rows[2], rows[5]):
        cut(folder / row["image"])
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def options(data) -> dict:
    return {
        "data.train": [{"path": str(data)}],
        "data.shuffle": False,
        "data.max_bad_records": 2,
        "training.max_steps": 4,
        "training.save_steps": 0,
    }


def drawn(folder: Path, steps: int) -> list[list[int]]:
    """Lines of the records of each step, in its order."""
    rows = [read_rollouts(rollouts_path(folder, step)) for step in range(1, steps + 1)]
    return [[int(line) for line in dict.fromkeys(row.source.rpartition(":")[2] for row in own)] for own in rows]


def test_the_next_record_takes_the_place_of_a_bad_one(data, options, recipe, tmp_path, capsys) -> None:
    train(load_config(recipe(**options)))
    folder = tmp_path / "run"
    assert drawn(folder, 4) == [[1, 2, 5, 4], [10, 7, 8, 9], [11, 12, 13, 14], [15, 16, 17, 18]]
    counted = [row.get("data/bad_records") for row in read_metrics(folder / "metrics.jsonl")]
    assert counted == [1, 2, 2, 2]
    named = [json.loads(line) for line in (folder / "bad_records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["step"], one["source"]) for one in named] == [(1, f"{data}:3"), (2, f"{data}:6")]
    assert all("cannot be decoded" in one["error"] for one in named)
    output = " ".join(capsys.readouterr().out.split())
    assert "step 1: bad record" in output
    assert "step 2: bad record" in output


@pytest.mark.parametrize("trainer", [train, train_sft])
def test_beyond_the_limit_the_run_stops_saved_and_goes_on_when_mended(
    trainer, data, rec_files, options, recipe, tmp_path
) -> None:
    config = load_config(recipe(**{**options, "data.max_bad_records": 1}))
    with pytest.raises(DataError, match=rf"{data}:6: .*cannot be decoded(.|\n)*2 bad records, more than 1: mend"):
        trainer(config)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]
    image = json.loads(data.read_text(encoding="utf-8").splitlines()[5])["image"]
    shutil.copy(rec_files["train"].parent / image, data.parent / image)
    trainer(config, resume=True)
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 4


def test_a_resumed_run_skips_the_same(data, options, recipe, rec_files, tmp_path) -> None:
    """The pictures are gone when the run is resumed, which the check before training would refuse in a new run."""
    options |= {"data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}}, "training.trust_checks": False}
    options |= {"sampling.engine": "testing_stops:make", "data.max_bad_records": 0.1}
    train(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    config = load_config(recipe(**options, output_dir=str(tmp_path / "stopped")))
    testing_stops.ORDERS[:] = [(False, 2)]
    with pytest.raises(Stopped):
        train(config)
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    for row in (rows[2], rows[5]):
        (data.parent / row["image"]).unlink()
    train(config, resume=True)
    assert_equal(tmp_path / "stopped", tmp_path / "whole")
    a, b = (tmp_path / name / "bad_records.jsonl" for name in ("whole", "stopped"))
    assert a.read_bytes() == b.read_bytes()
    with pytest.raises(DataError, match="image not found"):
        train(load_config(recipe(**options, output_dir=str(tmp_path / "new"))))


@pytest.mark.long
def test_two_processes_skip_what_one_skips(options, recipe, tmp_path) -> None:
    train(load_config(recipe(**options, output_dir=str(tmp_path / "one"))))
    done = in_two_processes("-m", "vlm_r1.cli.main", "train", str(recipe(**options, output_dir=str(tmp_path / "two"))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert drawn(tmp_path / "two", 4) == drawn(tmp_path / "one", 4)
    assert untimed(tmp_path / "two")[-1]["data/bad_records"] == 2


def test_a_data_file_that_goes_is_no_bad_record(options, recipe, data, monkeypatch) -> None:
    """The whole file is cut after it was opened: every later row is gone, and the run says so."""
    options |= {"sampling.engine": "testing_stops:emptying", "data.max_bad_records": 20}
    monkeypatch.setattr(testing_stops, "EMPTIED", str(data))
    with pytest.raises(DataError, match="has become shorter since it was opened"):
        train(load_config(recipe(**options)))


@pytest.mark.parametrize("limit", ["-1", "1.5", "-0.1", "many"])
def test_the_limit_is_a_count_or_a_share(limit, options, recipe) -> None:
    with pytest.raises(ConfigError, match="max_bad_records"):
        load_config(recipe(**options), [f"--data.max_bad_records={limit}"])


@pytest.mark.long
def test_bad_lines_that_the_sample_of_a_large_file_missed(options, recipe, rec_files, tmp_path) -> None:
    """Of 20,500 rows 20,000 are checked before training. Of the others, some among the first rows are bad."""
    line = rec_files["train"].read_text(encoding="utf-8").splitlines()[0]
    rows = [line] * 20_500
    checked = set(np.unique(np.linspace(0, len(rows) - 1, CHECKED_LINES).round().astype(np.int64)).tolist())
    first, second, third = [n for n in range(1, len(rows), 2) if n not in checked][:3]  # `evenly` takes every other
    rows[first] = line[:-9]
    rows[second] = line.replace("[16,", "[1600,")
    rows[third] = line.replace('"image": "', '"image": "nowhere/')
    assert len({rows[0], rows[first], rows[second], rows[third]}) == 4
    path = tmp_path / "large.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    options |= {"data.train": [{"path": str(path), "image_root": str(rec_files["train"].parent)}]}
    options |= {"data.max_bad_records": 3, "training.prompts_per_step": 60, "grpo.num_generations": 2}
    train(load_config(recipe(**options)))
    named = [json.loads(one) for one in (tmp_path / "run/bad_records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["source"] for one in named] == [f"{path}:{n + 1}" for n in (first, second, third)]


@pytest.mark.parametrize("trainer", [train, train_sft])
@pytest.mark.parametrize(
    "damage", ["is cut", "is empty", "has gone", "is a folder", "is a pipe", "is a link to a device"]
)
def test_a_held_out_picture_that_goes_stops_the_run_saved(
    trainer, damage, data, options, rec_files, recipe, tmp_path, monkeypatch
) -> None:
    """Without it the number would be that of another set. The evaluation is made when the picture is back."""
    held, options = data.parent / "held.jsonl", {**options, "data.max_bad_records": 20, "training.eval_steps": 2}
    lines = data.read_text(encoding="utf-8").splitlines()
    held.write_text("".join(f"{line}\n" for line in (lines[0], lines[3])), encoding="utf-8")
    picture = data.parent / json.loads(lines[3])["image"]
    kept = picture.read_bytes()
    monkeypatch.setattr(testing_stops, "DAMAGE", (damage, str(picture)))
    held_out = {"data.eval": {"held": {"path": str(held)}}, "sampling.engine": "testing_stops:damaging"}
    path = recipe(**options, **held_out)
    with pytest.raises(DataError, match=rf"{held}:2: .*{picture.name}"):
        trainer(load_config(path))
    assert max(one.name for one in (tmp_path / "run/checkpoints").iterdir()) == "step-000002"
    shutil.rmtree(picture) if picture.is_dir() else picture.unlink(missing_ok=True)
    picture.write_bytes(kept)
    monkeypatch.setattr(testing_stops, "DAMAGE", ())
    trainer(load_config(path), resume=True)
    assert (tmp_path / "run/eval/step-000002-held.json").exists()
    assert (tmp_path / "run/eval/after-held.json").exists()
